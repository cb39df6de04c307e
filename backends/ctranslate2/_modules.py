"""A Whisper model in CTranslate2: its conversion, and the `Generator` that transcribes with it.

Tokens go in and out as numbers, so the vocabulary that CTranslate2 insists on only has to name the few that its
decoding looks up. Its rules are transformers' for greedy decoding: suppressed tokens, those suppressed at the
beginning, repetitions, the prompt, and the cap. Its beam search stops by rules of its own and is left out.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from backends.ctranslate2._library import ctranslate2  # isort: skip
from ctranslate2.converters import TransformersConverter  # isort: skip

from backends.core.errors import ModelError, UnsupportedError
from backends.core.generation import otherwise_forced, prompt_of, refusal, without

WEIGHTS = "model.bin"
HONOURED = frozenset(
    {
        *("suppress_tokens", "begin_suppress_tokens", "repetition_penalty", "no_repeat_ngram_size"),
        *("early_stopping", "length_penalty"),  # of beams, which are left out
        "forced_decoder_ids",  # where the prompt is another, `generate` says so
    }
)
"""Rules of a generation configuration that CTranslate2 follows as transformers does."""
RUNS_AS = {
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "int8": "int8_float32",
    "int16": "int16",
}
"""What a model is to say of itself once it is loaded, by the compute type that was asked for."""


class CTranslate2Whisper:
    """A `Generator` on converted files.

    Args:
        directory: converted files.
        config, generation_config: of the model that was converted.
        compute_type: that it was converted to, a key of `RUNS_AS`.

    Raises:
        ModelError: CTranslate2 runs it in another compute type.
    """

    architecture = "WhisperForConditionalGeneration"
    main_input_name = "input_features"
    device = torch.device("cpu")

    def __init__(self, directory: Path, config: Any, generation_config: Any, compute_type: str) -> None:
        self.directory, self.config, self.generation_config = directory, config, generation_config
        self.prompt: list[int] = []
        self._engine = ctranslate2.models.Whisper(
            str(directory), device="cpu", compute_type=compute_type, intra_threads=torch.get_num_threads()
        )
        if self.compute_type != RUNS_AS[compute_type]:
            raise ModelError(f"CTranslate2 was asked for {compute_type} and runs {self.compute_type} on this machine")

    @property
    def compute_type(self) -> str:
        """What the engine says that it computes in."""
        name: str = self._engine.compute_type
        return name

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
        """Transcribe greedily, as transformers' Whisper does without timestamps.

        Args:
            input_features: (batch, mels, frames) of a whole window.
            max_new_tokens: cap of an utterance, beside the prompt.
            num_beams, do_sample: 1 and false.
            language, task: for multilingual checkpoints; those of the generation configuration otherwise.

        Returns:
            Tokens after the prompt without the end-of-text, (batch, tokens), padded with the padding token.

        Raises:
            UnsupportedError: for what CTranslate2 does by other rules, or not at all.
        """
        if num_beams != 1 or do_sample:
            raise UnsupportedError("CTranslate2's beam search and sampling have rules of their own: use num_beams = 1")
        config = self.generation_config
        self.prompt = prompt_of(config, language, task)
        if wanted := otherwise_forced(self, self.prompt):
            raise UnsupportedError(wanted)
        if len(self.prompt) + max_new_tokens > self.config.max_target_positions:
            room = self.config.max_target_positions - len(self.prompt)
            raise UnsupportedError(f"max_new_tokens is {max_new_tokens}, and the model has positions for {room}")
        results = self._engine.generate(
            _view(input_features),
            [self.prompt] * len(input_features),
            beam_size=1,
            max_length=_length(max_new_tokens, len(self.prompt)),
            suppress_tokens=list(config.suppress_tokens or ()),
            repetition_penalty=config.repetition_penalty or 1.0,
            no_repeat_ngram_size=config.no_repeat_ngram_size or 0,
        )
        rows = [torch.tensor(result.sequences_ids[0], dtype=torch.long) for result in results]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id)

    def encode(self, input_features: Tensor) -> Tensor:
        """The encoder's output, (batch, positions, width), in float32."""
        states = self._engine.encode(_view(input_features), to_cpu=True).to(ctranslate2.DataType.float32)
        return torch.from_numpy(np.array(states))

    def write(self, directory: Path) -> None:
        """Copy the converted files."""
        for file in self.directory.iterdir():
            shutil.copyfile(file, directory / file.name)


def _length(new_tokens: int, prompt: int) -> int:
    """The `max_length` that CTranslate2 takes for so many new tokens: it halves it, or takes the prompt from it.

    >>> _length(60, 4), _length(2, 4)
    (120, 5)
    """
    return max(2 * new_tokens, new_tokens + prompt - 1)


def _view(features: Tensor) -> Any:
    return ctranslate2.StorageView.from_array(features.float().contiguous().numpy())


def convert(model: Any, compute_type: str) -> CTranslate2Whisper:
    """Convert a float model in memory, which is consumed: the library scales some of its weights in place.

    The converted files lie in a temporary directory, which goes away with what is returned.
    """
    directory = Path(mkdtemp(prefix="asrquant-ctranslate2-"))
    try:
        source, target = directory / "configuration", directory / "converted"
        model.config.save_pretrained(source)
        _InMemory(model, source).convert(str(target), quantization=compute_type)
        converted = CTranslate2Whisper(target, model.config, model.generation_config, compute_type)
    except BaseException:
        shutil.rmtree(directory)
        raise
    weakref.finalize(converted, shutil.rmtree, directory, ignore_errors=True)
    return converted


class _InMemory(TransformersConverter):  # type: ignore[misc]
    """The library's converter, given the model instead of a directory."""

    def __init__(self, model: nn.Module, configuration: Path) -> None:
        super().__init__(str(configuration))
        self._model = model

    def load_model(self, model_class: Any, model_name_or_path: str, **settings: Any) -> nn.Module:
        """The model itself."""
        return self._model

    def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **settings: Any) -> _Vocabulary:
        """As much of a tokenizer as the conversion asks for."""
        return _Vocabulary(self._model)


class _Vocabulary:
    """Names of tokens: those that CTranslate2 looks up by name, and numbers."""

    def __init__(self, model: Any) -> None:
        config = model.generation_config
        known = {
            config.eos_token_id: "<|endoftext|>",
            config.decoder_start_token_id: "<|startoftranscript|>",
            config.no_timestamps_token_id: "<|notimestamps|>",
        }
        self._ids = {known.get(token, f"<{token}>"): token for token in range(model.config.vocab_size)}

    def get_vocab(self) -> dict[str, int]:
        """Every token by its name."""
        return self._ids


def check(model: Any) -> None:
    """Raise `ModelError` for a model that CTranslate2 cannot convert, or would decode by other rules."""
    config, rule = getattr(model, "config", None), getattr(model, "generation_config", None)
    if type(model).__name__ != CTranslate2Whisper.architecture or config is None or rule is None:
        raise ModelError(f"this adapter converts WhisperForConditionalGeneration, not {type(model).__name__}")
    if config.activation_function != "gelu":
        raise ModelError(f"CTranslate2's Whisper has the activation gelu, not {config.activation_function}")
    last = getattr(rule, "no_timestamps_token_id", None)
    if last is None:
        raise ModelError(
            "CTranslate2 writes timestamps unless the prompt ends with no_timestamps_token_id, which the generation "
            "configuration lacks"
        )
    if not isinstance(rule.eos_token_id, int):
        raise ModelError(f"CTranslate2 ends a text at one token, not at {rule.eos_token_id}")
    wanted = refusal(rule) or without(rule, HONOURED)
    if wanted is not None:
        raise ModelError(f"CTranslate2 does not follow the generation configuration's {wanted}")
    _check_prompt(rule, [*_values(rule, "lang_to_id"), *_values(rule, "task_to_id")])


def _check_prompt(rule: Any, tokens: Sequence[int]) -> None:
    """CTranslate2 finds the end of the prompt by numbers: from the start token to that of no timestamps."""
    first, last = rule.decoder_start_token_id, rule.no_timestamps_token_id
    strangers = [token for token in (first, last, *tokens) if not first <= token <= last]
    if strangers:
        raise ModelError(f"tokens of the prompt outside {first} to {last} are text to CTranslate2: {strangers}")


def _values(rule: Any, name: str) -> Sequence[int]:
    return tuple((getattr(rule, name, None) or {}).values())
