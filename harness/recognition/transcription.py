"""A cell's utterances, batch after batch, as the rows that are stored."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from typing import Any

import numpy as np

from harness import cost, datasets
from harness.cost.operations import generated
from harness.datasets import Utterance
from harness.errors import DataError
from harness.experiment.cell import Cell
from harness.experiment.tables import Data, Decoding, Scoring, scorer_of
from harness.recognition.attended import attended
from harness.recognition.baseline import Baseline
from harness.recognition.encoder_states import EncoderStates
from harness.recognition.families import heard_at_most
from harness.recognition.features import FeatureStore, Group, PreparedBatch
from harness.recognition.languages import by_language
from harness.recognition.likelihood import Answers, Likelihood, reference_likelihoods, save_answers
from harness.recognition.models import Recognizer, Transcript
from harness.recognition.pace import step_seconds
from harness.recognition.rows import row_of
from harness.recognition.stopping import Stopping
from harness.recognition.strategy import Strategy
from harness.records.parts import Part, Parts
from harness.resolution.languages import spoken, told


@dataclass
class Transcription:
    """What a cell came to, batch by batch.

    Attributes:
        rows: one for every utterance, as they are stored.
        prompt: tokens that the decoder starts with.
        measured: seconds of feature extraction and of decoding; windows, and passes of the encoder; utterances that
            were cut at the model's window, and transcripts that ended at their cap of tokens; peaks of memory in bytes.
        drafted: utterances whose decoding checked a draft.
        alone: whether nothing ran beside it.
        divergences: from the baseline, of every token of the references, nats.
        stopped: whether it was ended early, as hopeless.
        paused: whether the rest is left for later.
    """

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    prompt: list[int] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    drafted: int = 0
    alone: bool = True
    divergences: list[float] = field(default_factory=list)
    stopped: bool = False
    paused: bool = False

    def add(self, part: Part) -> None:
        """One more batch: seconds add up, and the largest peak counts."""
        self.rows += part.rows
        self.prompt = list(part.prompt)
        self.drafted += part.drafted
        self.alone &= part.alone
        self.divergences += part.divergences
        every_window = {"encoder_passes": part.measured["windows"]}  # of parts that were kept before states were shared
        for key, value in (every_window | dict(part.measured)).items():
            together = max if key.endswith("_bytes") else operator.add
            both = (self.measured[key], value) if key in self.measured else (value,)
            self.measured[key] = None if None in both else reduce(together, both)

    @property
    def audio_seconds(self) -> float:
        """That were heard, of all that could be decoded."""
        return sum(row.get("heard_seconds", row["seconds"]) for row in self.rows)


class Drafting:
    """Drafts for the batches of one cell, where they are faster.

    Args:
        strategy: shared by the cells of a configuration.
        transcripts: of full precision, tokens after the prompt by utterance; empty where drafts may not be used.
    """

    def __init__(self, strategy: Strategy, transcripts: Mapping[str, Sequence[int]]) -> None:
        self._strategy, self._drafts = strategy, transcripts

    def drafts(self, batch: Sequence[str]) -> list[Sequence[int]] | None:
        """Drafts of a batch, or `None` where it is decoded plainly."""
        possible = all(name in self._drafts for name in batch)
        return [self._drafts[name] for name in batch] if self._strategy.way(possible=possible) == "draft" else None

    def took(self, drafts: object | None, seconds: float, steps: int) -> None:
        """What the decoder took for the batch, and the steps that plain decoding would have."""
        self._strategy.took("plain" if drafts is None else "draft", seconds, steps)

    def pace(self, step: Callable[[], float | None]) -> None:
        """Find out what a step of plain decoding costs, where that is not known."""
        if self._strategy.lacks_pace and (seconds := step()):
            self._strategy.paced(seconds)


def speech_of(cell: Cell) -> dict[str, Utterance]:
    """The utterances of a cell's split by their ids."""
    return _speech(cell.data)


@cache
def _speech(data: Data) -> dict[str, Utterance]:
    corpus = datasets.load(data, cached_only=True)
    return {utterance.id: utterance for utterance in corpus.utterances}


@dataclass(frozen=True)
class Transcriber:
    """How the cells of a configuration are transcribed.

    Attributes:
        recognizer: quantized.
        decoding: as in the experiment.
        scoring: as in the experiment.
        features: where prepared speech is kept.
        alone: whether nothing runs beside it, asked after every batch.
        states: where the encoder's states of a cell are shared with other configurations, if they are.
    """

    recognizer: Recognizer
    decoding: Decoding
    scoring: Scoring
    features: FeatureStore
    alone: Callable[[], bool]
    states: Callable[[Cell], EncoderStates | None] = lambda cell: None

    def transcribe(
        self,
        cell: Cell,
        drafting: Drafting,
        baseline: Baseline,
        parts: Parts,
        progress: Callable[[int, bool], None],
        stopping: Stopping | None = None,
        upto: int | None = None,
    ) -> Transcription:
        """Transcribe and score all planned batches of a cell, each of which is kept in `parts` once it is finished.

        With `stopping`, batches are left out once it says that the cell is hopeless; with `upto`, those beyond so many
        are left for later.

        What is there already is taken from there. `progress` is told after each how many utterances it had, and whether
        it was kept from before. A baseline's answers to the references are kept beside its batches, for the others.

        Raises:
            DataError: not one utterance can be decoded.
        """
        found = Transcription(paused=upto is not None and upto < len(cell.batches))
        for index, batch in enumerate(cell.batches[:upto]):
            part = parts.load(index)
            kept = part is not None
            if part is None:
                part, answers = self.transcribe_batch(cell, index, drafting, baseline)
                if cell.configuration.is_baseline:
                    parts.save_answers(index, partial(save_answers, answers=answers))
                parts.save(index, part)
            found.add(part)
            progress(len(batch), kept)
            if stopping is not None and index + 1 < len(cell.batches) and stopping.is_hopeless(found.rows):
                found.stopped = True
                break
        if not found.paused and all(row["error"] for row in found.rows):
            raise DataError(f"{cell.data.label}: not one utterance can be decoded; the first: {found.rows[0]['error']}")
        return found

    def transcribe_batch(
        self, cell: Cell, index: int, drafting: Drafting, baseline: Baseline
    ) -> tuple[Part, dict[str, Answers]]:
        """Transcribe and score one planned batch; with it, what the model answers to the references."""
        batch, by_id = cell.batches[index], speech_of(cell)
        utterances, recognizer = [by_id[name] for name in batch], self.recognizer
        cost.reset_peak_memory()
        recognizer.feature_seconds = recognizer.decode_seconds = recognizer.encode_seconds = 0.0
        recognizer.decoder_seconds = 0.0
        recognizer.windows = 0
        speech = self.features.batch(cell, batch, partial(_prepared, utterances, recognizer, self.decoding))
        drafts = drafting.drafts(batch)
        expected = baseline.answers(index, batch)
        shared = self.states(cell)
        encoder = None if shared is None else partial(_encoded, recognizer, shared, cell, batch)
        pace = None if drafts is None else drafting.pace
        languages = [told(utterance, cell.data, self.decoding) for utterance in utterances]
        asked = Asked(utterances, languages, drafts, expected)
        transcripts, read = _transcripts(asked, speech, recognizer, self.decoding, encoder, pace)
        written = [len(generated(transcript.tokens, recognizer.prompt)) for transcript, _ in transcripts]
        steps = sum(max(written[row] for row in group.rows) for group in speech.groups)
        drafting.took(drafts, recognizer.decoder_seconds, steps)
        scorer = scorer_of(self.scoring, cell.data, self.decoding)
        longest = heard_at_most(recognizer.family, recognizer.processor, self.decoding)
        rows = [
            row_of(utterance, transcript, reference, speech, place, scorer, spoken(utterance, self.decoding), longest)
            for place, (utterance, (transcript, reference)) in enumerate(zip(utterances, transcripts, strict=True))
        ]
        limited = [t.limited for i, (t, _) in enumerate(transcripts) if i not in speech.errors]
        measured = {
            "feature_seconds": recognizer.feature_seconds,
            "decode_seconds": recognizer.decode_seconds,
            "windows": recognizer.windows,
            "encoder_passes": recognizer.windows - read,
            "cut": sum(
                longest is not None and n > longest for i, n in enumerate(speech.samples) if i not in speech.errors
            ),
            "at_limit": None if None in limited else sum(filter(None, limited)),
            "peak_rss_bytes": cost.peak_memory(),
            "peak_device_bytes": cost.peak_device_memory(),
        }
        likelihoods = {
            n: own for i, (n, (_, own)) in enumerate(zip(batch, transcripts, strict=True)) if i not in speech.errors
        }
        part = Part(
            rows,
            list(recognizer.prompt),
            measured,
            0 if drafts is None else len(batch),
            self.alone(),
            [nats for reference in likelihoods.values() for nats in reference.divergence],
        )
        return part, {name: own.answers for name, own in likelihoods.items() if own.answers is not None}


def _prepared(utterances: Sequence[Utterance], recognizer: Recognizer, decoding: Decoding) -> PreparedBatch:
    waveforms, errors = [], {}
    for place, utterance in enumerate(utterances):
        try:
            waveforms.append(recognizer.short_enough(utterance))
        except DataError as error:
            waveforms.append(np.zeros(1, dtype=np.float32))
            errors[place] = str(error)
    return replace(recognizer.prepare(waveforms, decoding), errors=errors)


@dataclass(frozen=True)
class Asked:
    """Utterances of a batch, with the language that the decoder is told for each, their drafts, and the baseline's
    answers to the references by id.
    """

    utterances: Sequence[Utterance]
    languages: Sequence[str]
    drafts: Sequence[Sequence[int]] | None
    expected: Mapping[str, Answers]


def _transcripts(
    asked: Asked,
    speech: PreparedBatch,
    recognizer: Recognizer,
    decoding: Decoding,
    encoder: Callable[[Group], tuple[Any, bool]] | None,
    pace: Callable[[Callable[[], float | None]], None] | None,
) -> tuple[list[tuple[Transcript, Likelihood]], int]:
    """Transcripts of a batch with the likelihood of their references; of how many the encoder's states were read.

    A likelihood is one of no tokens where it took several passes, and where the model cannot be asked for it.
    """
    recognizer.feature_seconds += speech.seconds
    found: dict[int, tuple[Transcript, Likelihood]] = {}
    read = 0
    for group in speech.groups:
        states, was_read = (None, False) if encoder is None or group.whole else encoder(group)
        read += was_read * len(group.rows)
        languages = [asked.languages[row] for row in group.rows]
        for part in by_language(recognizer, group, languages, decoding, states):
            own = None if asked.drafts is None else [asked.drafts[row] for row in part.group.rows]
            with attended(recognizer.inside) as seen:
                transcripts = recognizer.decode(part.group, speech.samples, part.decoding, own, part.states)
            if pace is not None and not group.whole:
                pace(partial(step_seconds, recognizer, part.group, speech.samples, part.decoding, seen.states))
            likelihoods = [Likelihood()] * len(transcripts)
            if recognizer.inside is not None and not group.whole:
                utterances = [asked.utterances[row] for row in part.group.rows]
                known = [asked.expected.get(utterance.id) for utterance in utterances]
                texts = [utterance.text for utterance in utterances]
                likelihoods = reference_likelihoods(recognizer, seen, recognizer.prompt, texts, known)
            heard = [replace(transcript, detected=part.detected) for transcript in transcripts]
            found |= zip(part.group.rows, zip(heard, likelihoods, strict=True), strict=True)
    return [found[row] for row in range(len(asked.utterances))], read


def _encoded(
    recognizer: Recognizer, states: EncoderStates, cell: Cell, batch: Sequence[str], group: Group
) -> tuple[Any, bool]:
    """The encoder's states of a group of a planned batch, and whether they were read."""
    kept = ("model", "data", "threads", "machine")
    how = [*(cell.identity[key] for key in kept), cell.identity["decoding"]["long_audio"]]
    return states.of([how, list(batch), list(group.rows)], lambda: recognizer.encode(group), recognizer.model.device)
