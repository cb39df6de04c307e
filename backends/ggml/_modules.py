"""A Whisper model in whisper.cpp: its conversion, and the `Generator` that transcribes with it.

The engine computes logits, and which token follows is decided here, by transformers' own rules: suppressed tokens,
those suppressed at the beginning, repetitions, the prompt, and the cap.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)

from backends.core.errors import ModelError, UnsupportedError
from backends.core.generation import otherwise_forced, prompt_of, refusal, without
from backends.core.selection import Candidate
from backends.ggml._file import ENDS, word_count, words_of, write
from backends.ggml._library import Context, Floats
from backends.ggml._types import TensorType

WEIGHTS = "model.bin"
HONOURED = frozenset(
    {
        *("suppress_tokens", "begin_suppress_tokens", "repetition_penalty", "no_repeat_ngram_size"),
        *("early_stopping", "length_penalty"),  # of beams, which are left out
        "forced_decoder_ids",  # where the prompt is another, `generate` says so
    }
)
"""Rules of a generation configuration that are followed as transformers does."""


class GgmlWhisper:
    """A `Generator` on a model file.

    Args:
        directory: of the file.
        config, generation_config: of the model that was converted.

    Raises:
        ModelError: whisper.cpp does not take the file.
    """

    architecture = "WhisperForConditionalGeneration"
    main_input_name = "input_features"
    device = torch.device("cpu")

    def __init__(self, directory: Path, config: Any, generation_config: Any) -> None:
        self.directory, self.config, self.generation_config = directory, config, generation_config
        self.prompt: list[int] = []
        self.context = Context(directory / WEIGHTS)

    def generate(
        self,
        input_features: Tensor,
        *,
        max_new_tokens: int,
        num_beams: int = 1,
        do_sample: bool = False,
        language: str | None = None,
        task: str | None = None,
    ) -> Tensor:
        """Transcribe greedily, as transformers' Whisper does without timestamps, one window after the other.

        Args:
            input_features: (batch, mels, frames) of a whole window.
            max_new_tokens: cap of an utterance, beside the prompt.
            num_beams, do_sample: 1 and false.
            language, task: for multilingual checkpoints; those of the generation configuration otherwise.

        Returns:
            Tokens after the prompt without the end-of-text, (batch, tokens), padded with the padding token.

        Raises:
            UnsupportedError: for what is not done here.
        """
        if num_beams != 1 or do_sample:
            raise UnsupportedError("the engine ggml decodes greedily: use num_beams = 1")
        self.prompt = prompt_of(self.generation_config, language, task)
        if wanted := otherwise_forced(self, self.prompt):
            raise UnsupportedError(wanted)
        if len(self.prompt) + max_new_tokens > self.config.max_target_positions:
            room = self.config.max_target_positions - len(self.prompt)
            raise UnsupportedError(f"max_new_tokens is {max_new_tokens}, and the model has positions for {room}")
        rules = _rules(self.generation_config, len(self.prompt))
        rows = []
        for window in input_features.float().contiguous().numpy():
            self.context.encode(window, torch.get_num_threads())
            rows.append(torch.tensor(self._text(rules, max_new_tokens), dtype=torch.long))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.generation_config.pad_token_id)

    def _text(self, rules: LogitsProcessorList, max_new_tokens: int) -> list[int]:
        """The tokens of what is encoded."""
        text, fed = list(self.prompt), self.prompt
        for _ in range(max_new_tokens):
            logits = torch.from_numpy(self.context.decode(fed, torch.get_num_threads()))
            token = int(rules(torch.tensor([text]), logits[None]).argmax())
            if token == self.generation_config.eos_token_id:
                break
            text.append(token)
            fed = [token]
        return text[len(self.prompt) :]

    def write(self, directory: Path) -> None:
        """Copy the model file."""
        shutil.copyfile(self.directory / WEIGHTS, directory / WEIGHTS)

    def export(self, path: Path) -> None:
        """Copy the model file to where whisper.cpp will be given it; its own transcription knows OpenAI's vocabularies.

        Raises:
            ModelError: the model has another vocabulary, or its words are not in the file.
        """
        size, end = self.config.vocab_size, self.generation_config.eos_token_id
        if ENDS.get(size) != end:
            known = ", ".join(map(str, ENDS))
            raise ModelError(
                f"whisper.cpp knows special tokens by their numbers in OpenAI's vocabularies of {known} tokens, and "
                f"this one has {size}, the end of a text being {end}"
            )
        if word_count(self.directory / WEIGHTS) != end:
            raise ModelError(
                "the words of the vocabulary were not found when the model was quantized: load the checkpoint from a "
                "directory with its tokenizer.json"
            )
        fresh = path.with_name(f".{path.name}-{uuid4().hex[:12]}")
        try:
            shutil.copyfile(self.directory / WEIGHTS, fresh)
            fresh.rename(path)
        finally:
            fresh.unlink(missing_ok=True)


def _rules(config: Any, prompt: int) -> LogitsProcessorList:
    """What changes logits, in transformers' order."""
    found = LogitsProcessorList()
    if config.repetition_penalty not in (None, 1.0):
        found.append(RepetitionPenaltyLogitsProcessor(config.repetition_penalty))
    if config.no_repeat_ngram_size:
        found.append(NoRepeatNGramLogitsProcessor(config.no_repeat_ngram_size))
    if config.suppress_tokens:
        found.append(SuppressTokensLogitsProcessor(config.suppress_tokens))
    if config.begin_suppress_tokens:
        found.append(SuppressTokensAtBeginLogitsProcessor(config.begin_suppress_tokens, prompt))
    return found


def convert(
    model: Any, kind: TensorType, modules: Sequence[Candidate], importance: Mapping[str, Floats]
) -> tuple[GgmlWhisper, dict[str, bytes]]:
    """Convert a float model; see `_file.write`.

    The file lies in a temporary directory, which goes away with what is returned.

    Returns:
        The engine, and the weights of `modules` as they stand in its file, by module.
    """
    directory = Path(mkdtemp(prefix="asrquant-ggml-"))
    try:
        stored = write(directory / WEIGHTS, model, kind, modules, words_of(model), importance)
        converted = GgmlWhisper(directory, model.config, model.generation_config)
    except BaseException:
        shutil.rmtree(directory)
        raise
    weakref.finalize(converted, shutil.rmtree, directory, ignore_errors=True)
    return converted, stored


def check(model: Any) -> None:
    """Raise `ModelError` for a model that whisper.cpp cannot hold, or that would be decoded by other rules."""
    config, rule = getattr(model, "config", None), getattr(model, "generation_config", None)
    if type(model).__name__ != GgmlWhisper.architecture or config is None or rule is None:
        raise ModelError(f"whisper.cpp has WhisperForConditionalGeneration alone, not {type(model).__name__}")
    for key, needed in {
        "activation_function": "gelu",
        "scale_embedding": False,
        "encoder_ffn_dim": 4 * config.d_model,
        "decoder_ffn_dim": 4 * config.d_model,
    }.items():
        if getattr(config, key) != needed:
            raise ModelError(f"whisper.cpp's Whisper has {key} = {needed}, not {getattr(config, key)}")
    if getattr(rule, "no_timestamps_token_id", None) is None:
        raise ModelError("the prompt ends with no_timestamps_token_id, which the generation configuration lacks")
    if not isinstance(rule.eos_token_id, int):
        raise ModelError(f"a text ends at one token here, not at {rule.eos_token_id}")
    wanted = refusal(rule) or without(rule, HONOURED)
    if wanted is not None:
        raise ModelError(f"the engine ggml does not follow the generation configuration's {wanted}")
