"""Times of a quantized model beside those of its full-precision baseline, taken in turns in one process.

Policy. A ratio is claimed only from measurements that stand beside each other: both models are in
memory, and baseline and quantized are timed alternately, which of them first changing with every
repetition, so that what disturbs the machine for a while disturbs both. The ratio of a pair is taken
before the median, never the ratio of medians.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch

from harness.datasets import SAMPLE_RATE, Utterance, Waveform
from harness.errors import DataError
from harness.experiment.tables import Decoding
from harness.recognition.models import Recognizer

STEP_POSITION = 20
"""Tokens in the cache when a decoder step is timed: about the middle of an utterance of ten seconds."""
ALONE = 4
"""Utterances that are transcribed one by one for rtfx at batch 1: of lengths that stand for all."""

Action = Callable[[], object]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Measure:
    """Something to be timed.

    Attributes:
        name: `encoder`, `decoder_step`, `first_token` or `rtfx`; `_batch` behind it at the experiment's batch.
        batch: utterances at a time.
        utterances: how many are transcribed.
        audio_seconds: what is transcribed, for rtfx; `None` where seconds are reported.
        prepare: makes, of a recogniser, the action that is timed; what it needs is computed before.
        whole: whether it is of whole transcriptions, so that nothing in the model need be called by itself.
    """

    name: str
    batch: int
    utterances: int
    audio_seconds: float | None
    prepare: Callable[[Recognizer], Action]
    whole: bool = False


@dataclass(frozen=True)
class Speech:
    """What is timed.

    Attributes:
        alone: utterances that are transcribed one by one; all but rtfx is of the first of them.
        batch: utterances that are transcribed at once; one alone is not timed as a batch again.
    """

    alone: Sequence[Waveform]
    batch: Sequence[Waveform]

    @staticmethod
    def of(utterances: Sequence[Utterance], batch: Sequence[Utterance], longest: int | None) -> Speech:
        """Of a test set, `ALONE` utterances in even steps of rank by length, the middle of them first.

        Args:
            utterances: of the test set.
            batch: one of its batches.
            longest: samples of a recording that are transcribed at most, where it is cut.

        Raises:
            DataError: nothing that is chosen can be decoded; of several, what cannot be is left out.
        """
        lengths = {utterance.id: seconds for utterance in utterances if (seconds := _tried(utterance.seconds))}
        ordered = sorted((u for u in utterances if u.id in lengths), key=lambda u: (lengths[u.id], u.id))
        steps = min(ALONE, len(ordered))
        ranks = sorted(range(steps), key=lambda step: step != steps // 2)  # the middle one first
        chosen = [ordered[(2 * rank + 1) * len(ordered) // (2 * steps)] for rank in ranks], batch
        alone, together = ([w[:longest] for u in some if (w := _tried(u.waveform)) is not None] for some in chosen)
        if not alone or not together:
            raise DataError(f"utterance {batch[0].id}: it and the others that would be timed cannot be decoded")
        return Speech(alone, together)


def _tried(read: Callable[[], _T]) -> _T | None:
    """What is read, `None` where it cannot be."""
    try:
        return read()
    except DataError:
        return None


def timed(
    baseline: Recognizer,
    quantized: Recognizer,
    speech: Speech,
    decoding: Decoding,
    repeats: int,
    warmup: int,
) -> Iterator[dict[str, Any]]:
    """One row for every measure, as it is finished; of a model that only transcribes, for rtfx alone.

    Args:
        baseline, quantized: on the same device.
        speech: alone and as a batch.
        decoding: as in the experiment.
        repeats: pairs that are timed.
        warmup: pairs before that, which are not.
    """
    with torch.no_grad():
        baseline.transcribe(speech.alone[:1], decoding)
        for measure in _measures(speech, decoding, baseline.prompt):
            if quantized.inside is None and not measure.whole:
                continue
            actions = [measure.prepare(recognizer) for recognizer in (baseline, quantized)]
            seconds = _in_turns(actions, repeats, warmup, baseline.model.device)
            what = {"measure": measure.name, "batch": measure.batch, "utterances": measure.utterances}
            yield {**what, "audio_seconds": measure.audio_seconds, **_summary(seconds, measure.audio_seconds)}


def _measures(speech: Speech, decoding: Decoding, prompt: list[int]) -> Iterator[Measure]:
    alone = ("", speech.alone[:1], [[waveform] for waveform in speech.alone])
    together = ("_batch", speech.batch, [speech.batch])
    for suffix, batch, batches in (alone, together) if len(speech.batch) > 1 else (alone,):
        size, spoken = len(batch), [len(waveform) for part in batches for waveform in part]
        yield Measure(f"encoder{suffix}", size, size, None, partial(_encoder, batch=batch))
        yield Measure(f"decoder_step{suffix}", size, size, None, partial(_step, batch=batch, prompt=prompt))
        yield Measure(f"first_token{suffix}", size, size, None, partial(_first_token, batch=batch, prompt=prompt))
        whole = partial(_whole, batches=batches, decoding=decoding)
        yield Measure(f"rtfx{suffix}", size, len(spoken), sum(spoken) / SAMPLE_RATE, whole, whole=True)


def _encoder(recognizer: Recognizer, batch: Sequence[Waveform]) -> Action:
    inputs, encoder = recognizer.inputs(batch), recognizer.model.get_encoder()
    return lambda: encoder(**inputs)


def _step(recognizer: Recognizer, batch: Sequence[Waveform], prompt: list[int]) -> Action:
    """One token after `STEP_POSITION` others; afterwards the cache is cut back, a view that costs nothing."""
    model, inputs = recognizer.model, recognizer.inputs(batch)
    encoded = model.get_encoder()(**inputs)
    tokens = (prompt * STEP_POSITION)[:STEP_POSITION]
    cache = model(encoder_outputs=encoded, decoder_input_ids=_ids(tokens, batch, model), use_cache=True).past_key_values
    token = _ids(prompt[-1:], batch, model)

    def step() -> None:
        model(encoder_outputs=encoded, decoder_input_ids=token, past_key_values=cache, use_cache=True)
        for layer in cache.self_attention_cache.layers:
            layer.keys, layer.values = layer.keys[..., :STEP_POSITION, :], layer.values[..., :STEP_POSITION, :]

    return step


def _first_token(recognizer: Recognizer, batch: Sequence[Waveform], prompt: list[int]) -> Action:
    """Features, encoder, and the decoder on the forced prompt."""
    ids = _ids(prompt, batch, recognizer.model)

    def first_token() -> object:
        inputs = recognizer.inputs(batch)
        return recognizer.model(**inputs, decoder_input_ids=ids, use_cache=True).logits[:, -1].argmax(-1)

    return first_token


def _whole(recognizer: Recognizer, batches: Sequence[Sequence[Waveform]], decoding: Decoding) -> Action:
    return lambda: [recognizer.transcribe(batch, decoding) for batch in batches]


def _ids(tokens: list[int], batch: Sequence[Waveform], model: Any) -> torch.Tensor:
    return torch.tensor([tokens] * len(batch), device=model.device)


def _in_turns(actions: Sequence[Action], repeats: int, warmup: int, device: torch.device) -> np.ndarray:
    """Seconds of (baseline, quantized) in every repetition, (repeats, 2)."""
    seconds = np.zeros((warmup + repeats, 2))
    for repetition in range(warmup + repeats):
        for which in (0, 1) if repetition % 2 == 0 else (1, 0):
            seconds[repetition, which] = _seconds(actions[which], device)
    return seconds[warmup:]


def _seconds(action: Action, device: torch.device) -> float:
    """Wall-clock time, a GPU's work included."""
    _synchronize(device)
    began = time.perf_counter()
    action()
    _synchronize(device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _summary(seconds: np.ndarray, audio_seconds: float | None) -> dict[str, Any]:
    """Median and quartiles of both and of the paired ratios: of seconds, or of seconds of audio per second."""
    values = seconds if audio_seconds is None else audio_seconds / seconds
    columns = {"baseline": values[:, 0], "quantized": values[:, 1], "ratio": values[:, 1] / values[:, 0]}
    unit = "seconds" if audio_seconds is None else "seconds of audio per second"
    return {"unit": unit} | {
        f"{name}_{what}": float(np.quantile(column, quantile))
        for name, column in columns.items()
        for what, quantile in (("median", 0.5), ("lower_quartile", 0.25), ("upper_quartile", 0.75))
    }
