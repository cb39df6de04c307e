"""A cell's utterances, batch after batch, as the rows that are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from harness import datasets
from harness.attended import attended
from harness.cell import Cell
from harness.config import Decoding
from harness.datasets import Utterance
from harness.features import FeatureStore, PreparedBatch
from harness.likelihood import Likelihood, reference_likelihoods
from harness.metrics import Normaliser, align, count_errors, is_loop
from harness.models import Recognizer, Transcript
from harness.strategy import Strategy


@dataclass
class Transcription:
    """What a cell came to.

    Attributes:
        rows: one for every utterance, as they are stored.
        prompt: tokens that the decoder starts with.
        measured: seconds of audio, of feature extraction and of decoding.
        drafted: utterances whose decoding checked a draft.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)
    drafted: int = 0


class Drafting:
    """Drafts for the batches of one cell, where they are faster.

    Args:
        strategy: shared by the cells of a configuration.
        said: what full precision said, tokens after the prompt by utterance; empty where drafts may not be used.
    """

    def __init__(self, strategy: Strategy, said: Mapping[str, Sequence[int]]) -> None:
        self._strategy, self._said = strategy, said
        self._before = 0.0

    def drafts(self, batch: Sequence[str]) -> list[Sequence[int]] | None:
        """Drafts of a batch, or `None` where it is decoded plainly."""
        possible = all(name in self._said for name in batch)
        return [self._said[name] for name in batch] if self._strategy.way(possible=possible) == "draft" else None

    def took(self, drafts: object | None, decode_seconds: float, tokens: int) -> None:
        """What the batch took, from the cell's seconds of decoding so far."""
        self._strategy.took("plain" if drafts is None else "draft", decode_seconds - self._before, tokens)
        self._before = decode_seconds


def speech_of(cell: Cell) -> dict[str, Utterance]:
    """The utterances of a cell's split by their ids."""
    corpus = datasets.get(cell.data.dataset).load(cell.data, cached_only=True)
    return {utterance.id: utterance for utterance in corpus.utterances}


def transcribe_cell(
    cell: Cell,
    recognizer: Recognizer,
    decoding: Decoding,
    normalise: Normaliser,
    drafting: Drafting,
    features: FeatureStore,
    progress: Callable[[int], None],
) -> Transcription:
    """Transcribe and score all planned batches of a cell; `progress` is told after each how many utterances it had."""
    by_id = speech_of(cell)
    recognizer.feature_seconds = recognizer.decode_seconds = 0.0
    found = Transcription()
    for batch in cell.batches:
        utterances = [by_id[name] for name in batch]
        speech = features.batch(cell, batch, partial(_prepared, utterances, recognizer, decoding))
        drafts = drafting.drafts(batch)
        heard = list(_heard(utterances, speech, recognizer, decoding, drafts))
        found.drafted += 0 if drafts is None else len(batch)
        drafting.took(drafts, recognizer.decode_seconds, sum(len(transcript.tokens) for transcript, _ in heard))
        for place, (utterance, (transcript, reference)) in enumerate(zip(utterances, heard, strict=True)):
            found.rows.append(
                {
                    **_scored(utterance, transcript.text, normalise),
                    "tokens": list(transcript.tokens),
                    "seconds": speech.samples[place] / datasets.SAMPLE_RATE,
                    "estimated_snr_db": speech.estimated_snr_db[place],
                    "reference_nll": reference.nll,
                    "reference_tokens": reference.tokens,
                }
            )
        progress(len(batch))
    found.prompt = list(recognizer.prompt)
    found.measured = {
        "audio_seconds": sum(row["seconds"] for row in found.rows),
        "feature_seconds": recognizer.feature_seconds,
        "decode_seconds": recognizer.decode_seconds,
    }
    return found


def _prepared(utterances: Sequence[Utterance], recognizer: Recognizer, decoding: Decoding) -> PreparedBatch:
    return recognizer.prepare([utterance.waveform() for utterance in utterances], decoding)


def _heard(
    utterances: Sequence[Utterance],
    speech: PreparedBatch,
    recognizer: Recognizer,
    decoding: Decoding,
    drafts: Sequence[Sequence[int]] | None,
) -> Iterator[tuple[Transcript, Likelihood]]:
    """Transcripts of a batch with the likelihood of their references, of no tokens where it took several passes."""
    with attended(recognizer.model) as seen:
        transcripts = recognizer.transcribe(speech, decoding, drafts)
    at_once = {row for group in speech.groups if not group.whole for row in group.rows}
    texts = [utterance.text for row, utterance in enumerate(utterances) if row in at_once]
    likelihoods = iter(reference_likelihoods(recognizer, seen, recognizer.prompt, texts) if texts else ())
    for row, transcript in enumerate(transcripts):
        yield transcript, next(likelihoods) if row in at_once else Likelihood(0.0, 0)


def _scored(utterance: Utterance, hypothesis: str, normalise: Normaliser) -> dict[str, Any]:
    """One row: what was said and heard, raw and normalised, aligned, and the error counts."""
    expected, heard = normalise(utterance.text), normalise(hypothesis)
    counts = count_errors(expected, heard)
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "reference": utterance.text,
        "hypothesis": hypothesis,
        "normalised_reference": expected,
        "normalised_hypothesis": heard,
        "alignment": align(expected.split(), heard.split()),
        "substitutions": counts.words.substitutions,
        "deletions": counts.words.deletions,
        "insertions": counts.words.insertions,
        "reference_words": counts.words.reference,
        "character_errors": counts.characters.errors,
        "reference_characters": counts.characters.reference,
        "empty": not heard,
        "loop": is_loop(expected, heard),
    }
