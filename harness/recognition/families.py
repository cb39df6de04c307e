"""Families of recognisers: how each takes audio and text, by the class of its configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from backends import UnsupportedError
from backends.core.generation import language_code, otherwise_forced, prompt_of
from harness.datasets import SAMPLE_RATE, Waveform
from harness.experiment.tables import DETECT, Decoding
from harness.resolution.architectures import ARCHITECTURES, SHORTEST

if TYPE_CHECKING:
    from torch import Tensor


class Preparation(Protocol):
    """How one family of models takes audio.

    Attributes:
        any_length: whether inputs are as long as the utterance, not as long as a window. Each goes through the model by
            itself: Moonshine normalises over all of its input, so that padding would change the hypothesis.
        tokens_per_second: the architecture's.
        most_seconds: of one utterance; longer ones are refused. Whisper cuts them, or decodes them in several passes.
    """

    any_length: bool
    tokens_per_second: float | None
    most_seconds: float

    def inputs(self, processor: Any, waveforms: Sequence[Waveform], *, whole: bool = False) -> dict[str, Tensor]:
        """Arguments of `generate` for a batch; audio beyond the window is cut, or kept where it is wanted `whole`."""
        ...

    def generation(self, model: Any, decoding: Decoding, *, whole: bool = False) -> dict[str, Any]:
        """Settings of `generate` beyond those of every family; `whole` as for `inputs`."""
        ...

    def fits(self, processor: Any, samples: int) -> bool:
        """Whether audio of so many samples is no longer than what the model takes at once."""
        ...

    def window(self, processor: Any) -> int:
        """Samples that one input holds, or that calibration joins utterances to."""
        ...

    def spoken(self, text: str) -> str:
        """A transcript as the tokenizer expects it after the prompt."""
        ...

    def positions(self, processor: Any, samples: int) -> int:
        """How many of the encoder's positions so many samples fill; what follows is padding."""
        ...


def is_multilingual(model: Any) -> bool:
    """Whether the decoder of a model is told a language."""
    return bool(getattr(model.generation_config, "is_multilingual", model.config.vocab_size >= 51865))


def _check_language(language: str, known: Mapping[str, int]) -> None:
    """Raise where a checkpoint that lists its languages lacks one, which may be named or abbreviated."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    code = language_code(language)
    if known and f"<|{code}|>" not in known:
        ours = ", ".join(sorted(token.strip("<|>") for token in known)) if len(known) <= 8 else f"{len(known)} others"
        what = "this checkpoint does not know it" if code in LANGUAGES else "there is no such language"
        raise UnsupportedError(f"language {language!r}: {what}; it has {ours}")


def _check_own(config: Any, decoding: Decoding) -> None:
    """Raise where a checkpoint says for which language or task it is, and another is asked for."""
    for key, asked in (("language", decoding.language), ("task", decoding.task)):
        own = getattr(config, key, None)
        if own is not None and language_code(str(own)) != language_code(asked):
            raise UnsupportedError(
                f"generation_config.json has {key} = {own!r}, and {asked!r} is asked for: ask for the first, or take "
                "it out of the file"
            )


class WhisperPreparation:
    """Log-mel features of a fixed window. Language and task are forced where there is a choice.

    Longer audio is cut, or decoded window after window: each begins where the timestamps of the one before ended
    (Radford et al. 2022, arXiv 2212.04356, section 3.8), greedily, without temperature fallback and without the text
    before as a prompt, so that the result is deterministic.
    """

    any_length = False
    tokens_per_second = ARCHITECTURES["whisper"].tokens_per_second
    most_seconds = math.inf

    def inputs(self, processor: Any, waveforms: Sequence[Waveform], *, whole: bool = False) -> dict[str, Tensor]:
        """`input_features`, (batch, mels, frames); whole audio has an `attention_mask`, (batch, frames), with it."""
        settings = {"truncation": False, "padding": "longest", "return_attention_mask": True} if whole else {}
        found = processor.feature_extractor(list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt", **settings)
        return {key: found[key] for key in ("input_features", "attention_mask") if key in found}

    def generation(self, model: Any, decoding: Decoding, *, whole: bool = False) -> dict[str, Any]:
        """`language`, which is no `detect`, and `task` for multilingual checkpoints; others are of English.

        Raises:
            UnsupportedError: audio is wanted whole and the checkpoint knows no timestamps; or not the language; or it
                forces another language or task; or a cap is wanted by the length of an utterance.
        """
        if decoding.tokens_per_second is not None:
            raise UnsupportedError(
                "decoding.tokens_per_second: Whisper decodes a batch at once, with one cap for all; leave it out"
            )
        multilingual = is_multilingual(model)
        if not multilingual and decoding.code not in ("en", DETECT):
            raise UnsupportedError(f"language {decoding.language!r}: this checkpoint is of English alone")
        if multilingual:
            _check_language(decoding.language, getattr(model.generation_config, "lang_to_id", None) or {})
            _check_own(model.generation_config, decoding)
        forced = {"language": decoding.language, "task": decoding.task} if multilingual else {}
        asked = prompt_of(model.generation_config, **forced) if multilingual else ()
        if multilingual and (wanted := otherwise_forced(model, asked)):
            raise UnsupportedError(
                f"{wanted}: the checkpoint was made for another language or task than [decoding] says"
            )
        if not whole:
            return forced
        last_text = getattr(model.generation_config, "no_timestamps_token_id", None)
        if last_text is None or last_text + 1 >= model.config.vocab_size:
            raise UnsupportedError(
                f'long_audio = "{decoding.long_audio}" needs a checkpoint with timestamp tokens after '
                "no_timestamps_token_id, and "
                'this one has none: use long_audio = "truncate"'
            )
        return {**forced, "return_timestamps": True, "temperature": 0.0, "condition_on_prev_tokens": False}

    def fits(self, processor: Any, samples: int) -> bool:
        """Up to the feature extractor's window."""
        return samples <= self.window(processor)

    def window(self, processor: Any) -> int:
        """The feature extractor's own."""
        return int(processor.feature_extractor.n_samples)

    def spoken(self, text: str) -> str:
        """With the space that the model's own transcripts begin with; without it the text is very unlikely to it."""
        return f" {text}"

    def positions(self, processor: Any, samples: int) -> int:
        """A frame every hop, half of them after the second convolution."""
        frames = -(-samples // processor.feature_extractor.hop_length)
        return min(-(-frames // 2), processor.feature_extractor.nb_max_frames // 2)


class MoonshinePreparation:
    """Raw samples; at most 6.5 tokens a second and 2 more, as on the leaderboard."""

    any_length = True
    tokens_per_second = ARCHITECTURES["moonshine"].tokens_per_second
    most_seconds = 120.0  # attention over all of it at once takes memory by the square

    def inputs(self, processor: Any, waveforms: Sequence[Waveform], *, whole: bool = False) -> dict[str, Tensor]:
        """`input_values` and `attention_mask`, (batch, samples)."""
        extractor = processor.feature_extractor
        batch = extractor(
            [np.pad(waveform, (0, max(0, SHORTEST - len(waveform)))) for waveform in waveforms],
            sampling_rate=SAMPLE_RATE,
            return_tensors="pt",
            padding=True,
            return_attention_mask=True,
        )
        return {"input_values": batch.input_values, "attention_mask": batch.attention_mask}

    def fits(self, processor: Any, samples: int) -> bool:
        """Always."""
        return True

    def generation(self, model: Any, decoding: Decoding, *, whole: bool = False) -> dict[str, Any]:
        """None."""
        return {}

    def window(self, processor: Any) -> int:
        """Ten seconds: it takes any length."""
        return 10 * SAMPLE_RATE

    def spoken(self, text: str) -> str:
        """As it is: the tokenizer adds a space itself."""
        return text

    def positions(self, processor: Any, samples: int) -> int:
        """One for 384 samples, the product of the convolutions' strides."""
        return -(-samples // 384)


def heard_at_most(preparation: Preparation, processor: Any, decoding: Decoding) -> int | None:
    """The samples of a recording that are transcribed, where longer ones are cut; `None` where none is."""
    cut = decoding.long_audio == "truncate" and not preparation.any_length
    return preparation.window(processor) if cut else None


def cap(preparation: Preparation, decoding: Decoding, samples: int) -> int:
    """The most tokens that an utterance of so many samples may have, whatever else is in its batch."""
    rate, most = decoding.tokens_per_second or preparation.tokens_per_second, decoding.max_new_tokens
    return most if rate is None else min(most, int(rate * samples / SAMPLE_RATE) + 2)


FAMILIES: dict[str, Preparation] = {
    "whisper": WhisperPreparation(),
    "moonshine": MoonshinePreparation(),
}
"""By the `model_type` of a checkpoint's configuration; nothing hangs on its name."""
