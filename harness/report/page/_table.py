"""The table of all rows: which columns there are, and what stands in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness.report.complete import is_worse
from harness.report.labels import remarks_of
from harness.report.numbers import DASH, MINUS, fixed, interval, percent, points_interval, probability
from harness.report.page._made import Made, made
from harness.report.page._run import PageRun, Row
from harness.report.units import Unit
from harness.stats import MARGIN

Shown = Callable[[Row], str]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: of the results; its value decides the order of rows, and whether there is such a column.
        heading: with the unit.
        shown: the text of a row.
        note: what the heading means, in full.
        numeric: whether it is aligned to the right.
    """

    key: str
    heading: str
    shown: Shown
    note: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Entry:
    """One cell of the table: its text, and what it is sorted by."""

    text: str
    order: Any


@dataclass(frozen=True)
class TableRow:
    """One row: what the filters ask for, why it is not done, how it came about, and its entries under the columns."""

    cell_id: str
    label: str
    done: bool
    status: str
    reason: str
    filters: dict[str, str]
    made: Made | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class ResultsTable:
    """All rows under the columns that have something in them."""

    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]

    def details(self, cell_id: str) -> list[tuple[str, str]]:
        """Headings and texts of one row, without what is empty."""
        row = next(row for row in self.rows if row.cell_id == cell_id)
        pairs = zip(self.columns, row.entries, strict=True)
        return [(column.heading, entry.text) for column, entry in pairs if entry.text not in (DASH, "")]


def _named(column: Column, unit: Unit) -> Column:
    """The column with its heading and note in the words of a unit."""
    return replace(column, heading=column.heading.format(unit), note=column.note.format(unit))


def as_good(row: Row) -> str:
    """Whether a row is as good as full precision, in words."""
    if row["backend"] == "none":
        return "full precision"
    if row["difference"] is None:
        return DASH
    if row["identical"]:
        return "identical"
    if row["non_inferior"]:
        return "yes"
    return "worse" if is_worse(row) else "not shown"


def _scaled(key: str, divisor: float, digits: int) -> Shown:
    return lambda row: fixed(None if row.get(key) is None else row[key] / divisor, digits)


def _rate(key: str, digits: int = 1) -> Shown:
    return lambda row: percent(row.get(key), digits)


def difference(row: Row) -> str:
    """From full precision, in points with its interval, or "identical"."""
    return "identical" if row["identical"] else points_interval(row["difference"], *_bounds(row, "difference"))


def _relative(row: Row) -> str:
    return percent(row["relative"], 1, sign=True)


def _signed_interval(row: Row, key: str) -> str:
    value = row.get(f"{key}_difference")
    return DASH if value is None else f"{fixed(value)} [{', '.join(map(fixed, _bounds(row, key)))}]"


def _bounds(row: Row, key: str) -> tuple[float | None, float | None]:
    return row.get(f"{key}_low"), row.get(f"{key}_high")


def _changes(row: Row) -> str:
    counts = [row.get(f"utterances_{which}") for which in ("changed", "worse", "better")]
    if any(count is None or count != count for count in counts):
        return DASH
    changed, worse, better = map(int, counts)  # type: ignore[arg-type]
    return f"{changed} (+{worse}, {MINUS}{better})" if changed else "0"


def _ratio(key: str, heading: str, note: str) -> Column:
    return Column(key, heading, lambda row: fixed(row.get(key)), f"{note}, relative to full precision")


def _published(row: Row) -> str:
    source = row.get("reference_source")
    return percent(row.get("reference_wer")) + (f" ({source})" if source and row.get("reference_wer") else "")


_COLUMNS = (
    Column("split", "test set", lambda row: row["split"], numeric=False),
    Column("wer", "{0.rate}, %", lambda row: percent(row["wer"]), "errors over reference {0.plural}"),
    Column("wer_low", "95 % interval", lambda row: interval(*_bounds(row, "wer")), "of the {0.rate}"),
    Column("difference", "difference, points", difference, "{0.rate} minus that of full precision, 95 % interval"),
    Column("relative", "change of errors, %", _relative, "relative to full precision"),
    Column("p_holm", "p (Holm)", lambda row: probability(row["p_holm"]), "permutation test, adjusted for all tests"),
    Column("non_inferior", "as good?", as_good, f"certainly fewer than {MARGIN:.0%} more errors", numeric=False),
    Column(
        "detectable",
        "detectable, points",
        _rate("detectable", 2),
        "what a single test sees in 4 of 5 studies",
    ),
    Column(
        "hallucinated_per_minute",
        "words a minute without speech",
        lambda row: fixed(row.get("hallucinated_per_minute")),
        "of recordings in which nothing is said",
    ),
    Column(
        "hallucinated_difference",
        "more of them than full precision",
        lambda row: _signed_interval(row, "hallucinated"),
        "words a minute, 95 % interval",
    ),
    Column(
        "hallucinated_share",
        "recordings with any, %",
        _rate("hallucinated_share"),
        "of recordings in which nothing is said",
    ),
    Column("nll", "NLL, nats", lambda row: fixed(row.get("nll"), 3), "of the reference, per token, teacher-forced"),
    Column("same_top", "same tokens, %", _rate("same_top"), "of the reference: the likeliest is full precision's too"),
    Column(
        "divergence_mean",
        "divergence, nats",
        lambda row: fixed(row.get("divergence_mean"), 4),
        "from full precision's answers to the reference, per token: at least so much",
    ),
    Column("divergence_p99", "divergence, 99 %", lambda row: fixed(row.get("divergence_p99"), 3), "99th percentile"),
    Column("divergence_max", "divergence, most", lambda row: fixed(row.get("divergence_max"), 2), "of all tokens"),
    Column("utterances_changed", "changed", _changes, "utterances with other words: worse, better"),
    Column("size_bytes", "size, MB", _scaled("size_bytes", 1e6, 2), "distinct bytes, scales included"),
    Column("largest_part", "most of it is", lambda row: row.get("largest_part") or DASH, "of the size", numeric=False),
    Column("size_reduction", "saved, %", _rate("size_reduction"), "of the size of full precision as it was loaded"),
    Column(
        "size_reduction_published",
        "saved of published, %",
        _rate("size_reduction_published"),
        "of the size in the dtype in which the weights were published",
    ),
    Column(
        "effective_bits",
        "bits per weight",
        lambda row: fixed(row.get("effective_bits")),
        "of the quantized layers, as stored",
    ),
    Column("loop_rate", "loops, %", _rate("loop_rate"), "utterances whose transcript runs away"),
    Column(
        "language_errors",
        "languages misheard",
        lambda row: DASH if row["language_errors"] is None else str(int(row["language_errors"])),
        "utterances whose language the model took for another",
    ),
    Column("empty_rate", "empty, %", _rate("empty_rate"), "utterances without a transcript"),
    Column("reference_wer", "published {0.rate}, %", _published, "from a publication, for comparison"),
    Column("rtfx", "RTFx", _scaled("rtfx", 1, 1), "seconds of audio per second of compute"),
    Column("timed_rtfx", "RTFx, timed", _scaled("timed_rtfx", 1, 1), "the same, timed alone, one utterance at a time"),
    _ratio("rtfx_ratio", "RTFx ÷ fp32 (more is faster)", "seconds of audio per second of compute, batch 1"),
    _ratio("latency_encoder_ratio", "encoder time ÷ fp32", "latency of the encoder, batch 1"),
    _ratio("latency_decoder_step_ratio", "step time ÷ fp32", "latency of a decoder step, batch 1"),
    _ratio("latency_first_token_ratio", "first token time ÷ fp32", "latency of the first token, batch 1"),
    _ratio("rtfx_ratio_batch", "RTFx ÷ fp32, batch", "seconds of audio per second of compute, in batches"),
    _ratio("latency_encoder_ratio_batch", "encoder time ÷ fp32, batch", "latency of the encoder, in batches"),
    _ratio("latency_decoder_step_ratio_batch", "step time ÷ fp32, batch", "latency of a step, in batches"),
    _ratio("latency_first_token_ratio_batch", "first token time ÷ fp32, batch", "latency of the first, in batches"),
    Column("macs_per_audio_second", "GMAC/s audio", _scaled("macs_per_audio_second", 1e9, 2), "10⁹ multiply-adds"),
    Column("bops_per_audio_second", "TBOP/s audio", _scaled("bops_per_audio_second", 1e12, 2), "10¹² bit operations"),
    Column(
        "memory_io_bytes_per_audio_second",
        "memory, GB/s audio",
        _scaled("memory_io_bytes_per_audio_second", 1e9, 3),
        "bytes of weights, activations and caches that are read or written, per second of audio",
    ),
    Column("quantize_seconds", "quantizing, s", _scaled("quantize_seconds", 1, 1), "calibration included"),
    Column(
        "quantize_peak_bytes",
        "quantizing, peak MB",
        _scaled("quantize_peak_bytes", 1e6, 0),
        "memory of the process while it calibrates and quantizes",
    ),
    Column("peak_rss_bytes", "peak memory, MB", _scaled("peak_rss_bytes", 1e6, 0), "of the process"),
    Column("peak_device_bytes", "peak GPU memory, MB", _scaled("peak_device_bytes", 1e6, 0), "of the accelerator"),
)


def results_table(run: PageRun) -> ResultsTable:
    """Every row of the results; a column that is empty everywhere is left out."""
    columns = tuple(_named(c, run.unit) for c in _COLUMNS if any(row.get(c.key) is not None for row in run.rows))
    return ResultsTable(columns, tuple(_row(run, row, columns) for row in run.rows))


def _row(run: PageRun, row: Row, columns: tuple[Column, ...]) -> TableRow:
    done = row["status"] == "done"
    return TableRow(
        row["cell_id"],
        run.label(row),
        done,
        str(row["status"]).replace("_", " "),
        "; ".join(remarks_of(row["reason"])) if done else row["reason"] or "",
        filter_levels(row),
        made(run, row),
        tuple(Entry(column.shown(row), _order(row, column)) for column in columns),
    )


def filter_levels(row: Row) -> dict[str, str]:
    """What a row has for every filter of the page."""
    bits = DASH if row["bits"] is None else str(int(row["bits"]))
    return {"library": row["backend"], "scheme": row["scheme"], "bits": bits, "model": row["model"]}


def _order(row: Row, column: Column) -> Any:
    value = row.get(column.key)
    if column.key == "non_inferior" and value is not None:
        return 2 if row["identical"] else int(value)
    return value
