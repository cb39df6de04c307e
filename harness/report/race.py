"""What a search found, in words and tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from harness._printing import counted, printable
from harness.execution.racing import Racing
from harness.execution.searching import Found, Wanted
from harness.report.numbers import duration, percent, points_interval
from harness.report.units import unit_of
from harness.stats import CONFIDENCE, Difference
from harness.stats.paired import difference
from harness.stats.race import Round
from harness.stats.resampling import Values

_SHOWN = 10
"""Runners-up at most."""


@dataclass(frozen=True, eq=False)
class Entrant:
    """One configuration of a search.

    Attributes:
        label: of the configuration.
        size: bytes.
        errors, words: by speaker, of those that were transcribed, (speakers so far,) each.
        baseline: errors of full precision by speaker, (speakers,).
    """

    label: str
    size: int
    errors: Values
    words: Values
    baseline: Values

    @property
    def speakers(self) -> int:
        """How many were transcribed."""
        return len(self.errors)

    @property
    def wer(self) -> str:
        """In per cent, of the speakers so far."""
        return percent(self.errors.sum() / max(self.words.sum(), 1))

    def minus(self, errors: Values) -> Difference:
        """The difference from another's errors, on the speakers that both have."""
        count = min(self.speakers, len(errors))
        words = self.words[:count]
        own, other = (np.stack([counts[:count], words], axis=1) for counts in (self.errors, errors))
        return difference(own, other, draws=0)

    @property
    def loss(self) -> Difference:
        """From full precision."""
        return self.minus(self.baseline)


def megabytes(size: int) -> str:
    """Bytes for people.

    >>> megabytes(93_880_000)
    '93.88 MB'
    """
    return f"{size / 1e6:.2f} MB"


def points(fraction: float) -> str:
    """A tolerance or limit of WER, without needless digits.

    >>> points(0.01), points(0.003)
    ('1 point', '0.3 points')
    """
    return f"{100 * fraction:g} point{'' if math.isclose(fraction, 0.01) else 's'}"


def round_sentence(one: Round, racing: Racing, wanted: Wanted) -> str:
    """What a round did."""
    standing, tolerance = one.standing, points(wanted.tolerance)
    out, spared = ("certainly worse", f"not better by more than {tolerance}")
    if wanted.limit is not None:
        out, spared = (f"certainly beyond {points(wanted.limit)}", "not needed")
    fates = [f"{len(standing.ruled_out)} {out}", f"{len(standing.spared)} {spared}"]
    fates.append(f"{counted(len(standing.contenders), 'contender')} left" if standing.contenders else "decided")
    ahead = "nothing fits so far" if standing.leader is None else f"ahead: {_label(racing, standing.leader)}"
    raced = f"{counted(len(one.raced), 'configuration')} on {one.speakers} of {len(racing.speakers)} speakers"
    return f"{raced}: {', '.join(fates)}; {ahead}"


def outcome(found: Found, racing: Racing, wanted: Wanted) -> Iterator[str | Table]:
    """The winner with its evidence, the runners-up and the cost; or why there is no winner."""
    for name, (status, reason) in found.failed.items():
        yield f"{_label(racing, name)}: {status}: {printable(reason)}"
    entrants = {name: _entrant(racing, name) for name in found.feasible if name not in found.failed}
    if found.winner is None:
        yield _nothing(found, racing, wanted, list(entrants.values()))
    else:
        winner = entrants.pop(found.winner)
        yield from _winner(winner, racing, wanted, len(found.rounds))
        yield _runners_up(winner, list(entrants.values()), wanted, _rate(racing))
    yield _cost(found, racing)


def _label(racing: Racing, name: str) -> str:
    return racing.cells[name].configuration.label


def _entrant(racing: Racing, name: str) -> Entrant:
    baseline, _ = racing.counts(racing.baseline(name))
    return Entrant(_label(racing, name), racing.size(name), *racing.counts(name), baseline)


def _nothing(found: Found, racing: Racing, wanted: Wanted, entrants: Sequence[Entrant]) -> str:
    """Why there is no winner, with the smallest size that there is."""
    measured = [name for name in found.candidates if name not in found.failed]
    if not measured or (found.feasible and not entrants):
        return "no configuration could be measured"
    if wanted.limit is None:
        smallest = min(measured, key=racing.size)
        return (
            f"no configuration has at most {megabytes(wanted.largest or 0)}; the smallest, {_label(racing, smallest)}, "
            f"has {megabytes(racing.size(smallest))}"
        )
    nearest = min(entrants, key=lambda entrant: entrant.loss.wer)
    whole = min(racing.size(racing.baseline(name)) for name in measured)
    return (
        f"no configuration is at most {points(wanted.limit)} beyond full precision, so that the smallest is full "
        f"precision itself with {megabytes(whole)}; the nearest, {nearest.label} with {megabytes(nearest.size)}, is "
        f"{percent(nearest.loss.wer, sign=True)} points from it"
    )


def _winner(winner: Entrant, racing: Racing, wanted: Wanted, rounds: int) -> Iterator[str]:
    loss = winner.loss
    interval = points_interval(loss.wer, loss.low, loss.high)
    yield f"winner: {winner.label}"
    yield (
        f"  {megabytes(winner.size)}, {_rate(racing)} {winner.wer} %, {interval} points from full precision "
        f"({CONFIDENCE:.0%} interval over speakers), on {winner.speakers} of {len(racing.speakers)} speakers"
    )
    yield (
        f"  {100 * wanted.confidence:.4g} % certain, over all configurations and {counted(rounds, 'round')}: on "
        f"{racing.data.label} {_claim(wanted, _rate(racing))}"
    )


def _rate(racing: Racing) -> str:
    """WER or CER."""
    return unit_of([{"error_unit": racing.error_unit}]).rate


def _claim(wanted: Wanted, rate: str) -> str:
    if wanted.limit is None:
        largest = megabytes(wanted.largest or 0)
        return f"none of at most {largest} is better by more than {points(wanted.tolerance)} of {rate}"
    return (
        f"it is at most {points(wanted.limit + wanted.tolerance)} of {rate} beyond full precision, and no smaller one "
        f"is at most {points(wanted.limit)}"
    )


def _runners_up(winner: Entrant, others: Sequence[Entrant], wanted: Wanted, rate: str) -> Table | str:
    """Who cannot be told from the winner: other speakers may turn it round."""
    if wanted.limit is None:
        gaps = [(other, other.minus(winner.errors)) for other in others]
        rivals = sorted((pair for pair in gaps if pair[1].low <= 0), key=lambda pair: pair[1].wer)
        return _table(rivals, rate, "minus the winner")
    losses = [(other, other.loss) for other in others if other.size < winner.size]
    rivals = sorted((pair for pair in losses if pair[1].low <= wanted.limit), key=lambda pair: pair[0].size)
    return _table(rivals, rate, "from full precision")


def _table(rivals: Sequence[tuple[Entrant, Difference]], rate: str, what: str) -> Table | str:
    if not rivals:
        return "no runner-up that cannot be told from it"
    table = Table(
        title=f"cannot be told from it on other speakers: {counted(len(rivals), 'configuration')}",
        title_justify="left",
    )
    table.add_column("configuration", overflow="fold")
    for heading in ("size", f"{rate}, %", f"{what}, points [{CONFIDENCE:.0%}]", "speakers"):
        table.add_column(Text(heading), justify="right")
    for rival, gap in rivals[:_SHOWN]:
        shown = points_interval(gap.wer, gap.low, gap.high)
        table.add_row(Text(rival.label), megabytes(rival.size), rival.wer, Text(shown), str(rival.speakers))
    if len(rivals) > _SHOWN:
        table.add_row(f"and {len(rivals) - _SHOWN} more")
    return table


def _cost(found: Found, racing: Racing) -> str:
    used, whole = found.used(racing)
    spent = racing.spent
    quantized = sum(not racing.cells[name].configuration.is_baseline for name in found.candidates)
    return (
        f"cost: {used:,} of the {whole:,} utterances of the full grid ({used / whole:.0%}), {spent.utterances:,} of "
        f"them now; quantized {counted(spent.quantized, 'time')} now, in {duration(spent.quantize_seconds)}, "
        f"which the full grid does {counted(quantized, 'time')}"
    )
