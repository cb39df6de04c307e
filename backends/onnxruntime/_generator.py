"""The `Generator` that transcribes with two exported graphs: a greedy loop around the engine, by transformers' rules.

The cache stays with the engine from step to step. A batch of Whisper's windows goes through it together. Moonshine's
utterances go one after another, without padding: it normalises over all of its input, so that padding would change the
transcript.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime import InferenceSession, OrtValue
from torch import Tensor, nn
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from backends.core.errors import UnsupportedError
from backends.core.generation import otherwise_forced, prompt_of

HONOURED = frozenset(
    {
        *("suppress_tokens", "begin_suppress_tokens", "repetition_penalty", "no_repeat_ngram_size"),
        *("early_stopping", "length_penalty"),  # of beams, which are left out
        "forced_decoder_ids",  # where the prompt is another, `generate` says so
    }
)
"""Rules of a generation configuration that the loop follows as transformers does."""


def session(path: Path) -> InferenceSession:
    """A saved graph in the engine, on as many threads as torch has."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = torch.get_num_threads(), 1
    settings.log_severity_level = 3
    return InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


class OnnxRecognizer:
    """A `Generator` on saved graphs.

    Args:
        directory: with `encoder.onnx`, `decoder.onnx` and their weights.
        config, generation_config: of the model that was exported.
        architecture: name of its class.
    """

    device = torch.device("cpu")

    def __init__(self, directory: Path, config: Any, generation_config: Any, architecture: str) -> None:
        self.directory, self.config, self.generation_config = directory, config, generation_config
        self.architecture = architecture
        self.prompt: list[int] = []
        self._whisper = config.model_type == "whisper"
        self.main_input_name = "input_features" if self._whisper else "input_values"
        self._encoder, self._decoder = session(directory / "encoder.onnx"), session(directory / "decoder.onnx")
        self._cross = [output.name for output in self._encoder.get_outputs()]
        self._present = [output.name for output in self._decoder.get_outputs()][1:]

    def generate(
        self,
        *,
        input_features: Tensor | None = None,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        max_new_tokens: int,
        num_beams: int = 1,
        do_sample: bool = False,
        language: str | None = None,
        task: str | None = None,
    ) -> Tensor:
        """Transcribe greedily, as transformers does; Whisper without timestamps.

        Args:
            input_features: (batch, mels, frames) of a whole window, for Whisper.
            input_values: (batch, samples), for Moonshine.
            attention_mask: of the samples, 1 where they are no padding, which lies behind; `None` for all.
            max_new_tokens: cap of an utterance, beside the prompt.
            num_beams, do_sample: 1 and false.
            language, task: for multilingual checkpoints; those of the generation configuration otherwise.

        Returns:
            What transformers' `generate` returns, (batch, tokens), padded with the padding token: Whisper's tokens
            after the prompt and without the end-of-text, Moonshine's with both.

        Raises:
            UnsupportedError: for what is not done here.
        """
        if num_beams != 1 or do_sample:
            raise UnsupportedError("only greedy decoding is done around ONNX Runtime: use num_beams = 1")
        speech = input_features if self._whisper else input_values
        if speech is None:
            raise UnsupportedError(f"this model takes its speech as {self.main_input_name}")
        config = self.generation_config
        self.prompt = prompt_of(config, language, task) if self._whisper else [config.decoder_start_token_id]
        if wanted := otherwise_forced(self, self.prompt):
            raise UnsupportedError(wanted)
        self._check_room(max_new_tokens)
        rows = [row for batch in self._batches(speech, attention_mask) for row in self._greedy(batch, max_new_tokens)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self._padding)

    def _check_room(self, new: int) -> None:
        positions = self.config.max_target_positions if self._whisper else self.config.max_position_embeddings
        if len(self.prompt) + new > positions:
            raise UnsupportedError(
                f"max_new_tokens is {new}, and the model has positions for {positions - len(self.prompt)}"
            )

    @property
    def _ends(self) -> list[int]:
        end = self.generation_config.eos_token_id
        return end if isinstance(end, list) else [end]

    def _batches(self, speech: Tensor, mask: Tensor | None) -> Iterator[Tensor]:
        """What goes through the engine together."""
        if self._whisper:
            yield speech
            return
        for row, samples in enumerate(speech):
            yield (samples if mask is None else samples[: int(mask[row].sum())])[None]

    def _greedy(self, speech: Tensor, most: int) -> list[Tensor]:
        """Tokens of every utterance of a batch, as `generate` returns them, without padding."""
        cross = self.encode(speech)
        state = dict(zip(self._cross, cross, strict=True))
        batch, heads, _, width = cross[0].shape()
        past = [_held(np.zeros((batch, heads, 0, width), dtype=np.float32))] * len(cross)
        tokens = new = torch.tensor([self.prompt] * batch)
        rules, ends, done = self._rules(), torch.tensor(self._ends), torch.zeros(batch, dtype=torch.bool)
        for _ in range(most):
            logits, *past = self.decode(new, past, state)
            chosen = rules(tokens, torch.from_numpy(logits.numpy()[:, -1])).argmax(1)  # type: ignore[no-untyped-call]
            new = torch.where(done, self._padding, chosen)[:, None]
            tokens = torch.cat([tokens, new], 1)
            done |= torch.isin(chosen, ends)
            if bool(done.all()):
                break
        if not self._whisper:
            return list(tokens)
        texts = tokens[:, len(self.prompt) :]
        lengths = (torch.isin(texts, ends).cumsum(1) == 0).sum(1).tolist()
        return [text[:length] for text, length in zip(texts, lengths, strict=True)]

    @property
    def _padding(self) -> int:
        padding = self.generation_config.pad_token_id
        return min(self._ends) if padding is None else padding

    def encode(self, speech: Tensor) -> list[OrtValue]:
        """Keys and values of the attention to a batch of speech, (batch, heads, positions, width) each."""
        held = _held(speech.float().contiguous().numpy())
        return self._encoder.run_with_ort_values(self._cross, {"speech": held})

    def decode(self, tokens: Tensor, past: list[OrtValue], cross: dict[str, OrtValue]) -> list[OrtValue]:
        """Logits of new tokens, (batch, tokens, vocabulary), and the cache with them.

        Args:
            tokens: (batch, tokens).
            past: the cache before them, (batch, heads, earlier tokens, width) each.
            cross: what `encode` gives, by its names.
        """
        earlier = {name.replace("present", "past"): value for name, value in zip(self._present, past, strict=True)}
        arguments = {"tokens": _held(tokens.contiguous().numpy()), **earlier, **cross}
        return self._decoder.run_with_ort_values(["logits", *self._present], arguments)

    def _rules(self) -> LogitsProcessorList:
        """The generation configuration's rules that change logits, in transformers' order."""
        config, rules = self.generation_config, LogitsProcessorList()
        if config.repetition_penalty not in (None, 1.0):
            rules.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
        if config.no_repeat_ngram_size:
            rules.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
        if config.suppress_tokens:
            rules.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
        if config.begin_suppress_tokens:
            rules.append(SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, len(self.prompt)))
        return rules

    def write(self, directory: Path) -> None:
        """Copy the graphs and their weights."""
        for file in self.directory.iterdir():
            shutil.copyfile(file, directory / file.name)


def _held(array: Any) -> OrtValue:
    return OrtValue.ortvalue_from_numpy(array)
