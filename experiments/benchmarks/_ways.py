"""The ways of `decoding.strategy` on the same batches, in turns: plainly, with drafts, and as `auto` chooses."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.experiment.tables import Decoding
from harness.recognition.features import PreparedBatch
from harness.recognition.models import Recognizer, Transcript
from harness.recognition.pace import step_seconds
from harness.recognition.strategy import Strategy, Way

Seconds = tuple[float, float]
"""Of generation, and of it without the encoder."""


@dataclass(frozen=True)
class Round:
    """All batches once in every way.

    Attributes:
        seconds: of all batches, by way, `auto` among them.
        texts: by way, what the utterances were transcribed to.
        drafted: for each batch, whether `auto` took drafts.
    """

    seconds: Mapping[str, Seconds]
    texts: Mapping[str, list[str]]
    drafted: Sequence[bool]


def timed(
    recognizer: Recognizer, batch: PreparedBatch, drafts: Sequence[Sequence[int]] | None, decoding: Decoding
) -> tuple[Seconds, list[Transcript]]:
    """Seconds and transcripts of one batch."""
    recognizer.decode_seconds = recognizer.encode_seconds = recognizer.decoder_seconds = 0.0
    found = recognizer.transcribe(batch, decoding, drafts)
    return (recognizer.decode_seconds, recognizer.decode_seconds - recognizer.encode_seconds), found


def one_round(
    recognizer: Recognizer,
    batches: Sequence[PreparedBatch],
    drafts: Sequence[Sequence[Sequence[int]]],
    decoding: Decoding,
) -> Round:
    """Every batch plainly and with its drafts; `auto` is put together from these, and from what its probe takes."""
    took: dict[Way, list[Seconds]] = {"plain": [], "draft": []}
    texts: dict[str, list[str]] = {"plain": [], "draft": []}
    strategy, ways, probe = Strategy("auto"), list[Way](), 0.0
    for batch, own in zip(batches, drafts, strict=True):
        worked = {}
        for way in took:
            seconds, found = timed(recognizer, batch, own if way == "draft" else None, decoding)
            took[way].append(seconds)
            worked[way] = recognizer.decoder_seconds
            texts[way] += [transcript.text for transcript in found]
        ways.append(strategy.way(possible=True))
        if ways[-1] == "draft" and strategy.lacks_pace:
            states, began = recognizer.encode(batch.groups[0]), time.perf_counter()
            if pace := step_seconds(recognizer, batch.groups[0], batch.samples, decoding, states):
                strategy.paced(pace)
            probe += time.perf_counter() - began
        strategy.took(ways[-1], worked[ways[-1]], max(map(len, own)))
    auto = [(probe, probe), *(took[way][place] for place, way in enumerate(ways))]
    whole = {"plain": took["plain"], "draft": took["draft"], "auto": auto}
    return Round({way: _total(rows) for way, rows in whole.items()}, texts, [way == "draft" for way in ways])


def _total(rows: Sequence[Seconds]) -> Seconds:
    return sum(whole for whole, _ in rows), sum(decoding for _, decoding in rows)


def medians(rounds: Sequence[Round], way: str) -> Seconds:
    """Of a way, over all rounds."""
    return statistics.median(r.seconds[way][0] for r in rounds), statistics.median(r.seconds[way][1] for r in rounds)


def gains(rounds: Sequence[Round], way: str) -> Seconds:
    """How many times faster than plain, whole and in the decoder: medians of the rounds' own ratios."""
    ratios = [tuple(plain / own for plain, own in zip(r.seconds["plain"], r.seconds[way], strict=True)) for r in rounds]
    return statistics.median(whole for whole, _ in ratios), statistics.median(decoding for _, decoding in ratios)
