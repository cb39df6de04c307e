"""Tables for the terminal: the plan before a run, and the results after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from backends import Unsupported
from harness.experiment.cell import CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.report.averages import Average, averages, corpora, languages
from harness.report.labels import label, remarks_of, telling
from harness.report.numbers import fixed, more_words
from harness.report.units import unit_of

_SHOWN = (160, 120)
"""Letters of a long reason: its beginning, and its end, where it says what to do."""


def plan_table(planned: Sequence[Configuration], experiment: Experiment) -> Table:
    """Every configuration with its device and whether its backend can do it."""
    table = Table(
        title=f"{experiment.name}: {len(planned)} configurations x {len(experiment.data)} splits", title_justify="left"
    )
    for heading in ("model", "configuration", "device", "possible"):
        table.add_column(heading, overflow="fold")
    for configuration in planned:
        answer = configuration.capability
        if isinstance(answer, Unsupported):
            possible = f"[red]no[/]: {escape(answer.reason)}"
        else:
            possible = "[green]yes[/]" + (f": {escape(answer.note)}" if answer.note else "")
        table.add_row(escape(configuration.model.label), escape(configuration.label), configuration.device, possible)
    return table


def results_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Finished configurations by size: WER, difference from full precision and likelihood per split, size, bits.

    A difference has its 95 % interval in brackets, and `=` where it is as good as full precision. Where nothing is said
    in a test set, it is words a minute that are told.
    """
    splits = list(dict.fromkeys(row["split"] for row in rows))
    table = Table(
        title="results, smallest first; differences from full precision in points with 95 % interval",
        caption="\n".join(_legend(rows)),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("configuration", overflow="fold")
    for split in splits:
        own = [row for row in rows if row["split"] == split]
        rate = unit_of(own).rate if any(_has_words(row) for row in own) else "words a minute,"
        table.add_column(f"{rate} {split}", justify="right")
        table.add_column("difference", justify="right")
        table.add_column("NLL", justify="right")
    means = averages(rows)
    headings = _headings(rows, len(splits)) if means else []
    for heading in (*headings, "size", "saved", "of published", "bits/weight"):
        table.add_column(heading, justify="right")
    by_configuration = _by_configuration(rows)
    for cells in sorted(by_configuration.values(), key=_size):
        scores = [text for split in splits for text in _score(cells, split)]
        first = next(iter(cells.values()))
        table.add_row(
            escape(label(first, telling(rows))),
            *map(escape, scores),
            *_means(means.get(first["configuration_id"]), headings),
            f"{first['size_bytes'] / 1e6:.2f} MB",
            f"{first['size_reduction']:.1%}",
            "" if first["size_reduction_published"] is None else f"{first['size_reduction_published']:.1%}",
            f"{first['effective_bits']:.2f}",
        )
    return table


def _legend(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What signs and headings mean, of those that some row has."""
    from harness.stats import MARGIN

    done = [row for row in rows if row["status"] == CellStatus.DONE]
    if any(row["non_inferior"] and not row.get("identical") for row in done):
        yield f"=  as good as full precision: certainly fewer than {MARGIN:.0%} more errors"
    if any(_likelihood(row) for row in done):
        yield "NLL  of the reference, nats a token"
    if any(row["size_reduction_published"] is not None for row in done):
        yield "of published  saved of the size in the dtype in which the weights were published"


def _headings(rows: Sequence[dict[str, Any]], sets: int) -> list[str]:
    counts = {"corpora": len(corpora(rows)), "languages": len(languages(rows))}
    return [f"mean of {sets} sets", *(f"of {count} {what}" for what, count in counts.items() if count > 1)]


def _means(average: Average | None, headings: Sequence[str]) -> list[str]:
    """What stands under the headings."""
    if average is None:
        return [""] * len(headings)
    known = {"sets": average.over_sets, "corpora": average.over_corpora, "languages": average.over_languages}
    return [f"{known[heading.split()[-1]]:.2%}" for heading in headings]


def remarks(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What was not transcribed as one would think: recordings left out or cut, transcripts that ended at their caps."""
    found: dict[tuple[str, str], list[str]] = {}
    shown = telling(rows)
    for row in rows:
        if row["status"] == CellStatus.DONE:
            for sentence in remarks_of(row["reason"]):
                found.setdefault((row["split"], sentence), []).append(label(row, shown))
    return [f"{split}: {sentence} ({_named(labels)})" for (split, sentence), labels in found.items()]


def _named(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 2 else f"{labels[0]} and {len(labels) - 1} others"


def unfinished_table(rows: Sequence[dict[str, Any]]) -> Table | None:
    """Every configuration that is not `done`, with its reason, long ones cut; `None` where all are."""
    splits: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        if row["status"] != CellStatus.DONE:
            splits.setdefault((label(row, telling(rows)), row["status"], row["reason"]), []).append(row["split"])
    if not splits:
        return None
    table = Table(title="not done (reasons in full in results.csv)", title_justify="left")
    for heading in ("configuration", "splits", "status", "reason"):
        table.add_column(heading, overflow="fold")
    for (name, status, reason), own in splits.items():
        short = reason if len(reason) <= sum(_SHOWN) else f"{reason[: _SHOWN[0]]} ... {reason[-_SHOWN[1] :]}"
        table.add_row(*(escape(text) for text in (name, ", ".join(own), status, short)))
    return table


def _by_configuration(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, ...], dict[str, dict[str, Any]]]:
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == CellStatus.DONE:
            found.setdefault(_key(row), {})[row["split"]] = row
    return found


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("model", "revision", "dtype", "device", "configuration"))


def _size(cells: dict[str, dict[str, Any]]) -> int:
    return int(next(iter(cells.values()))["size_bytes"])


def _score(cells: dict[str, dict[str, Any]], split: str) -> tuple[str, str, str]:
    """WER, the difference from full precision with its interval in points, and the references' likelihood."""
    row = cells.get(split)
    if row is None:
        return "", "", ""
    if not _has_words(row):
        return fixed(row["hallucinated_per_minute"]), more_words(row), _likelihood(row)
    return f"{row['wer']:.2%}", _difference(row), _likelihood(row)


def _has_words(row: dict[str, Any]) -> bool:
    return row.get("reference_words") != 0


def _likelihood(row: dict[str, Any]) -> str:
    """Empty where no utterance was decoded in one pass."""
    nll = row["nll"]
    return "" if nll is None or nll != nll else f"{nll:.3f}"


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return ""
    if row["identical"]:
        return "identical"
    good = " =" if row["non_inferior"] else ""
    if row["difference_low"] is None:
        return f"{row['difference'] * 100:+.2f}{good}"
    low, high = row["difference_low"] * 100, row["difference_high"] * 100
    return f"{row['difference'] * 100:+.2f} [{low:+.2f}, {high:+.2f}]{good}"
