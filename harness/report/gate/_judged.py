"""A run judged against an earlier one: every cell by every limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from harness._printing import counted
from harness.errors import ConfigError, DataError
from harness.records.reading import RecordedRun, open_run, study_of
from harness.report.columns import Row, levels
from harness.report.gate._limits import LimitsFile
from harness.report.numbers import fixed, points_interval
from harness.stats import CONFIDENCE, Sample, Study
from harness.stats.claims import Direction, Finding, difference_of


class Verdict(StrEnum):
    """What becomes of a check."""

    PASS = "pass"
    FAIL = "fail"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Check:
    """One cell and one limit.

    Attributes:
        measure: `wer`, `size`, `latency`, `memory`, `widths`, or `cell` for a cell that is not there.
        configuration, split: of the cell; the split is empty where it does not matter.
        verdict: of the limit.
        found: what was measured, with its interval where it has one.
        limit: in words.
    """

    measure: str
    configuration: str
    split: str
    verdict: Verdict
    found: str
    limit: str


@dataclass(frozen=True)
class _Tested:
    """A check of word errors whose verdict waits for how many there are."""

    measure: str
    row: Row
    finding: Finding
    limit: float
    beyond: str


class Gate:
    """The cells of a run beside the same cells of an earlier one.

    Args:
        run: to be judged.
        earlier: what it is judged against; its cells are all expected.
        limits: of what.

    Raises:
        OutputError: one of the runs has no results, or is not what was written.
        ConfigError: they have no cell in common.
    """

    def __init__(self, run: Path, earlier: Path, limits: LimitsFile) -> None:
        self.limits = limits
        self._runs = open_run(run), open_run(earlier)
        self._studies = study_of(self._runs[0]), study_of(self._runs[1])
        rows, known = (_by_place(study) for study in self._studies)
        self._failed = {_place(row): row for row in self._runs[0].results() if row["status"] != "done"}
        self._expected = known
        self._pairs = [(rows[place], known[place]) for place in known if place in rows]
        if not self._pairs:
            raise ConfigError(f"{run}: none of its finished cells is one of {earlier}: these are other experiments")
        for number, table in enumerate(limits.but):
            if not any(map(table.fits, rows.values())):
                raise ConfigError(f"limits: but.{number}: no cell of {run} has {table.cells}")

    def checks(self) -> list[Check]:
        """All of them, cells in the order of the earlier run.

        Raises:
            DataError: the runs transcribed other utterances, or other references.
        """
        errors = [*self._word_errors(), *self._widths()]
        return [*self._missing(), *(_decided(each, len(errors)) for each in errors), *self._numbers()]

    def _missing(self) -> Iterator[Check]:
        there = {_place(new) for new, _ in self._pairs}
        for place, row in self._expected.items():
            if place not in there:
                own = self._failed.get(place)
                found = "is not in the run" if own is None else f"{own['status']}: {own['reason']}"
                yield Check("cell", row["configuration"], row["split"], Verdict.FAIL, found, "as in the baseline")

    def _word_errors(self) -> Iterator[_Tested]:
        for new, old in self._pairs:
            limit = self.limits.of("wer", new)
            if limit is not None and new["reference_words"]:
                run, earlier = self._studies
                samples = _common(run.sample(new["cell_id"]), earlier.sample(old["cell_id"]))
                finding = difference_of(*samples, limit / 100, Direction.BELOW)
                yield _Tested("wer", new, finding, limit, "the baseline's")

    def _widths(self) -> Iterator[_Tested]:
        """Neighbouring widths of cells that differ in nothing else, the wider against the narrower."""
        study, alike = self._studies[0], dict[tuple[object, ...], list[Row]]()
        for row in study.scored:
            if row["bits"] is not None and row["scheme"] != "none":
                own = tuple(sorted((key, value) for key, value in levels(row).items() if key != "bits"))
                alike.setdefault((own, row["dataset"], row["split"]), []).append(row)
        for rows in alike.values():
            for narrow, wide in itertools.pairwise(sorted(rows, key=lambda row: row["bits"])):
                limit = self.limits.of("widths", wide)
                if limit is not None and narrow["bits"] != wide["bits"]:
                    samples = study.sample(wide["cell_id"]), study.sample(narrow["cell_id"])
                    finding = difference_of(*samples, limit / 100, Direction.BELOW)
                    yield _Tested("widths", wide, finding, limit, f"that of {narrow['bits']:.0f} bits")

    def _numbers(self) -> Iterator[Check]:
        """Sizes and times, once a configuration, and memory, of every cell."""
        first = {row["configuration_id"]: (row, old) for row, old in reversed(self._pairs)}
        times = [_times(run) for run in self._runs]
        for new, old in self._pairs:
            if first[new["configuration_id"]][0] is new:
                yield from self._ratio("size", new, old, "size_bytes", "")
                yield from self._latency(new, times)
            yield from self._ratio("memory", new, old, "peak_rss_bytes", new["split"])

    def _ratio(self, measure: str, new: Row, old: Row, column: str, split: str) -> Iterator[Check]:
        limit = self.limits.of(measure, new)
        if limit is None:
            return
        size, before = (math.nan if row.get(column) is None else float(row[column]) for row in (new, old))
        change = 100 * (size / before - 1)
        verdict = Verdict.PASS if change <= limit else Verdict.FAIL
        found = f"{fixed(change, sign=True)} % ({fixed(size / 1e6)} MB)"
        if math.isnan(change):
            verdict, found = Verdict.CANNOT_TELL, "was not measured in both runs"
        yield Check(measure, new["configuration"], split, verdict, found, f"at most {limit:g} % more")

    def _latency(self, new: Row, times: Sequence[Mapping[str, Sequence[float]]]) -> Iterator[Check]:
        """Time for the same speech, each relative to full precision in its own run; its quartiles are the interval."""
        limit = self.limits.of("latency", new)
        if limit is None or new["backend"] == "none":
            return
        own, before = (each.get(new["configuration_id"]) for each in times)
        if own is None or before is None:
            verdict, found = Verdict.CANNOT_TELL, "was not timed in both runs: python -m harness.latency does it"
        else:
            low, middle, high = (100 * (before[i] / own[2 - i] - 1) for i in range(3))
            verdict = Verdict.PASS if high <= limit else Verdict.FAIL if low > limit else Verdict.CANNOT_TELL
            found = f"{fixed(middle, sign=True)} [{fixed(low, sign=True)}, {fixed(high, sign=True)}] %"
        yield Check("latency", new["configuration"], "", verdict, found, f"at most {limit:g} % more")


def _decided(tested: _Tested, count: int) -> Check:
    """A verdict at a level that `count` checks share, so that one that is harmless seldom fails for their number."""
    finding = tested.finding
    passes = finding.identical or (finding.side > 0 and finding.p < 1 - CONFIDENCE)
    fails = finding.side < 0 and count * finding.p < 1 - CONFIDENCE
    verdict = Verdict.PASS if passes else Verdict.FAIL if fails else Verdict.CANNOT_TELL
    found = f"{points_interval(finding.effect, finding.low, finding.high)} points"
    if finding.identical:
        found = "the same words"
    elif verdict is Verdict.CANNOT_TELL:
        found += f" ({counted(finding.blocks, finding.blocked_by)})"
    limit = f"at most {tested.limit:g} points above {tested.beyond}"
    return Check(tested.measure, tested.row["configuration"], tested.row["split"], verdict, found, limit)


def _common(new: Sample, old: Sample) -> tuple[Sample, Sample]:
    """Both on the utterances of the new one, which may be a part of the old one's.

    Raises:
        DataError: the old one lacks some.
    """
    ids = {utterance.id for utterance in new.utterances}
    part = Sample.of(utterance for utterance in old.utterances if utterance.id in ids)
    if len(part.utterances) < len(new.utterances):
        known = {utterance.id for utterance in part.utterances}
        stranger = next(utterance.id for utterance in new.utterances if utterance.id not in known)
        raise DataError(
            f"utterance {stranger} is not in the baseline: compare runs on the same speech, or on a part of it"
        )
    return new, part


def _times(run: RecordedRun) -> dict[str, tuple[float, float, float]]:
    """Quartiles of the speed relative to full precision, with the fewest threads, by configuration."""
    rows = [row for row in run.latency().get("rows", []) if row.get("measure") == "rtfx"]
    return {
        row["configuration_id"]: (row["ratio_lower_quartile"], row["ratio_median"], row["ratio_upper_quartile"])
        for row in sorted(rows, key=lambda row: -row["threads"])
    }


def _by_place(study: Study) -> dict[tuple[str, str, str], Row]:
    return {_place(row): row for row in study.rows}


def _place(row: Row) -> tuple[str, str, str]:
    return row["configuration_id"], row["dataset"], row["split"]
