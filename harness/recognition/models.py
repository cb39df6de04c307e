"""Recognisers: a model with its processor, which prepares inputs and transcribes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backends import CalibrationInput, UnsupportedError
from backends.core.holding import held_head
from backends.core.pretrained import quiet_generation
from harness.cost.operations import decoder_prompt, generated
from harness.datasets import SAMPLE_RATE, Utterance, Waveform
from harness.errors import DataError
from harness.experiment.tables import Decoding
from harness.metrics import estimated_snr
from harness.recognition.chunks import merged, pieces
from harness.recognition.drafts import DraftedGeneration
from harness.recognition.encoder_states import given
from harness.recognition.families import Preparation, cap
from harness.recognition.features import Group, PreparedBatch
from harness.recognition.languages import by_language


@dataclass(frozen=True)
class Transcript:
    """The hypothesis of one utterance.

    Attributes:
        text: raw.
        tokens: generated ones up to the end-of-text.
        limited: whether it, or a piece of it, ended at its cap of tokens; `None` of what is decoded window by window.
        detected: code of the language that the model heard, where that was left to it.
    """

    text: str
    tokens: tuple[int, ...]
    limited: bool | None = False
    detected: str | None = None


@dataclass
class Recognizer:
    """A model with its processor, ready to transcribe; `model` may be replaced by its quantized form."""

    model: Any
    processor: Any
    family: Preparation
    prompt: list[int] = field(default_factory=list)
    """Tokens that the decoder was started with for what it decoded last in one pass."""
    feature_seconds: float = 0.0
    decode_seconds: float = 0.0
    encode_seconds: float = 0.0
    """Of `decode_seconds`, those in the encoder."""
    decoder_seconds: float = 0.0
    """In the decoder: of the processor, where it computes, so that a busy machine does not matter."""
    windows: int = 0
    """That the encoder took: one for an utterance, several for a long one that is decoded window after window."""

    @property
    def inside(self) -> Any | None:
        """The model where it can be looked into; `None` where it is a `backends.Generator`, which only transcribes."""
        return self.model if isinstance(self.model, nn.Module) else None

    @property
    def positions(self) -> int:
        """Tokens that the decoder has places for, those of the prompt among them."""
        return _positions(self.model.config)

    def short_enough(self, utterance: Utterance) -> Waveform:
        """The samples of an utterance that the architecture takes at once, or cut into windows itself.

        Raises:
            DataError: it is longer, or cannot be decoded.
        """
        waveform = utterance.waveform()
        seconds, most = len(waveform) / SAMPLE_RATE, self.family.most_seconds
        if seconds > most:
            raise DataError(
                f"utterance {utterance.id} has {seconds:.0f} s, and this architecture takes {most:g} s at once; "
                "cut it into sentences"
            )
        return waveform

    def inputs(self, waveforms: Sequence[Waveform]) -> dict[str, Tensor]:
        """What the model takes for a batch, on its device; features in the dtype of its first layer."""
        return self._placed(self.family.inputs(self.processor, waveforms))

    def _placed(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        parameters = () if self.inside is None else self.inside.parameters()
        dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
        device = self.model.device
        return {k: v.to(device, dtype) if v.is_floating_point() else v.to(device) for k, v in inputs.items()}

    def prepare(self, waveforms: Sequence[Waveform], decoding: Decoding) -> PreparedBatch:
        """Features of a batch of utterances (float32 mono, 16 kHz, any lengths), as `decoding.long_audio` wants it."""
        began = time.perf_counter()
        cut, chunked = decoding.long_audio == "truncate", decoding.long_audio == "chunked"
        at_once = [cut or self.family.fits(self.processor, len(waveform)) for waveform in waveforms]
        groups = []
        for whole in (False, True):
            rows = tuple(i for i, fits in enumerate(at_once) if fits is not whole)
            alone = self.family.any_length or (whole and chunked)
            for own in [(i,) for i in rows] if alone else [rows] if rows else []:
                heard = [waveforms[i] for i in own]
                if whole and chunked:
                    heard = pieces(heard[0], self.family.window(self.processor))
                inputs = self.family.inputs(self.processor, heard, whole=whole and not chunked)
                groups.append(Group(own, whole, inputs))
        samples, noise = tuple(map(len, waveforms)), tuple(map(estimated_snr, waveforms))
        return PreparedBatch(samples, noise, tuple(groups), time.perf_counter() - began)

    def transcribe(
        self,
        speech: PreparedBatch | Sequence[Waveform],
        decoding: Decoding,
        drafts: Sequence[Sequence[int]] | None = None,
        languages: Sequence[str] | None = None,
    ) -> list[Transcript]:
        """Transcribe a batch of utterances, prepared or not, in `languages`, or all in that of `decoding`.

        With `drafts`, tokens after the prompt for each, greedy decoding checks these instead of going token by
        token (see `harness.recognition.drafts`); the transcripts are the same. They are not used for what takes several
        passes.

        Adds to `feature_seconds`, `decode_seconds`, `encode_seconds` and `windows`. Greedy or beam search without
        sampling, so deterministic for the same batch on the same machine. What takes one pass is decoded first.

        Raises:
            UnsupportedError: the model cannot transcribe an utterance in the way that `decoding.long_audio` wants.
        """
        batch = speech if isinstance(speech, PreparedBatch) else self.prepare(speech, decoding)
        told = languages or [decoding.language] * len(batch.samples)
        self.feature_seconds += batch.seconds
        transcripts: dict[int, Transcript] = {}
        for group in batch.groups:
            for part in by_language(self, group, [told[i] for i in group.rows], decoding):
                rows = part.group.rows
                own = None if drafts is None else [drafts[i] for i in rows]
                found = self.decode(part.group, batch.samples, part.decoding, own, part.states)
                transcripts |= zip(rows, found, strict=True)
        return [transcripts[i] for i in range(len(batch.samples))]

    def decode(
        self,
        group: Group,
        samples: Sequence[int],
        decoding: Decoding,
        drafts: Sequence[Sequence[int]] | None = None,
        states: Any = None,
    ) -> list[Transcript]:
        """Transcribe what goes through the model together; see `transcribe`.

        Args:
            group: of a prepared batch.
            samples: of every utterance of the batch.
            decoding: how, in one language.
            drafts: for each utterance of the group.
            states: what the encoder returns for the group, where it is at hand; it is not run then.
        """
        loop = None if drafts is None or group.whole else DraftedGeneration(drafts)
        limit = max(cap(self.family, decoding, samples[i]) for i in group.rows)
        if states is None or self.inside is None:
            return self._decoded(group, samples[group.rows[0]], limit, decoding, loop)
        with given(self.inside.get_encoder(), states):
            return self._decoded(group, samples[group.rows[0]], limit, decoding, loop)

    def encode(self, group: Group) -> Any:
        """What the encoder returns for a group, its states with it; adds to `decode_seconds` and `encode_seconds`."""
        assert self.inside is not None
        began = time.perf_counter()
        with torch.no_grad():
            states = self.inside.get_encoder()(**self._placed(group.inputs))
        seconds = time.perf_counter() - began
        self.encode_seconds += seconds
        self.decode_seconds += seconds
        return states

    def _clock(self) -> float:
        return time.perf_counter() if self.model.device.type == "cuda" else time.process_time()

    def _decoded(
        self, group: Group, samples: int, limit: int, decoding: Decoding, loop: DraftedGeneration | None
    ) -> list[Transcript]:
        if group.whole and self.inside is None:
            raise UnsupportedError('this engine takes one window of audio at a time: use long_audio = "truncate"')
        began, worked = time.perf_counter(), self._clock()
        settings = {
            "max_new_tokens": limit,
            "num_beams": decoding.num_beams,
            "do_sample": False,
            **self.family.generation(self.model, decoding, whole=group.whole),
            **({} if loop is None else {"custom_generate": loop}),
        }
        sequences, prompt = self._generate({**self._placed(group.inputs), **settings})
        if not (group.whole and self.prompt):
            self.prompt = prompt if loop is None else loop.prompt
        self.decode_seconds += time.perf_counter() - began
        self.decoder_seconds += self._clock() - worked
        rows = [_up_to(self.ends, row) for row in sequences.tolist()]
        if group.whole and decoding.long_audio == "chunked":
            limited = any(len(generated(row, prompt)) >= limit for row in rows)
            return [replace(self._merged(rows, samples), limited=limited)]
        texts = self.processor.batch_decode(sequences, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        written = [len(generated(row, self.prompt)) for row in rows]
        return [
            Transcript(text, row, None if group.whole else count >= limit)
            for text, row, count in zip(texts, rows, written, strict=True)
        ]

    def _merged(self, rows: Sequence[Sequence[int]], samples: int) -> Transcript:
        """The transcript of one utterance of so many samples, which was heard in pieces."""
        tokenizer = self.processor.tokenizer
        text = merged(tokenizer, rows, samples, self.family.window(self.processor))
        return Transcript(text, tuple(tokenizer(text, add_special_tokens=False).input_ids))

    def _generate(self, arguments: Mapping[str, Any]) -> tuple[Tensor, list[int]]:
        """What the model generates, and the tokens that its decoder was started with."""
        with torch.no_grad():
            if self.inside is None:
                sequences = self.model.generate(**arguments)
                self.windows += len(sequences)
                return sequences, self.model.prompt
            encoding = self._encoding(self.inside.get_encoder())
            with quiet_generation(), held_head(self.inside), encoding, decoder_prompt(self.inside) as prompt:
                return self.model.generate(**arguments), prompt

    @contextmanager
    def _encoding(self, encoder: Any) -> Iterator[None]:
        """Count windows and seconds of the encoder in the block; a GPU computes later, and takes no time here."""
        began: list[tuple[float, float]] = []

        def started(*_: Any) -> None:
            began.append((time.perf_counter(), self._clock()))

        def ended(encoder: Any, args: Any, output: Any) -> None:
            wall, worked = began.pop()
            self.encode_seconds += time.perf_counter() - wall
            self.decoder_seconds -= self._clock() - worked
            self.windows += len(output.last_hidden_state)

        with encoder.register_forward_pre_hook(started), encoder.register_forward_hook(ended):
            yield

    def calibration_inputs(
        self, waveforms: Sequence[Waveform], texts: Sequence[str], batch_size: int
    ) -> list[CalibrationInput]:
        """Teacher-forced batches for calibration; utterances are joined until a window is full.

        Texts in capitals, as corpora have them, are written small. The padding that is left in windows and
        tokens is told by the batches' `lengths`.
        """
        windows = _joined(waveforms, texts, self.family.window(self.processor))
        return [self._teacher_forced(windows[i : i + batch_size]) for i in range(0, len(windows), batch_size)]

    def _teacher_forced(self, windows: Sequence[tuple[Waveform, str]]) -> CalibrationInput:
        inputs, device = self.inputs([waveform for waveform, _ in windows]), self.model.device
        rows = [self._tokens(text) for _, text in windows]
        padding = self.model.config.pad_token_id or 0
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)
        filled = [self.family.positions(self.processor, len(waveform)) for waveform, _ in windows]
        lengths = {"encoder": torch.tensor(filled), "decoder": torch.tensor([len(row) for row in rows])}
        return CalibrationInput(
            {**inputs, "decoder_input_ids": tokens.to(device)}, {part: n.to(device) for part, n in lengths.items()}
        )

    def _tokens(self, text: str) -> Tensor:
        return torch.tensor(self.processor.tokenizer(self._spoken(text)).input_ids[: _positions(self.model.config)])

    def reference_tokens(self, text: str, prompt: Sequence[int]) -> Tensor:
        """`prompt`, a text as the model would have written it, and the end-of-text; cut where the decoder ends."""
        words = self.processor.tokenizer(self._spoken(text), add_special_tokens=False).input_ids
        return torch.tensor([*prompt, *words, min(self.ends)][: _positions(self.model.config)])

    def _spoken(self, text: str) -> str:
        return self.family.spoken(text.lower() if text.isupper() else text)

    @property
    def ends(self) -> set[int]:
        """The tokens that end a text."""
        end = self.model.generation_config.eos_token_id
        return set(end) if isinstance(end, list) else {end}


def _positions(config: Any) -> int:
    """How many tokens the decoder has positions for, by whichever name its family gives it."""
    names = ("max_target_positions", "max_position_embeddings")
    return next(int(getattr(config, name)) for name in names if hasattr(config, name))


def _up_to(ends: set[int], row: list[int]) -> tuple[int, ...]:
    stop = next((i for i, token in enumerate(row) if token in ends and i > 0), len(row))
    return tuple(row[:stop])


def _joined(waveforms: Sequence[Waveform], texts: Sequence[str], window: int) -> list[tuple[Waveform, str]]:
    windows: list[tuple[list[Waveform], list[str]]] = [([], [])]
    for waveform, text in zip(waveforms, texts, strict=True):
        if windows[-1][0] and sum(map(len, windows[-1][0])) + len(waveform) > window:
            windows.append(([], []))
        windows[-1][0].append(waveform)
        windows[-1][1].append(text)
    return [(np.concatenate(parts), " ".join(words)) for parts, words in windows if parts]
