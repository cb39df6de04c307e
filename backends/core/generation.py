"""Generation rules of a checkpoint, name by name: honoured, a setting of ours, or refused.

Decoding is greedy or by beams, without sampling, of whole batches. So a name is one of these: a *rule*, which changes
what is written and is honoured by transformers' `generate`; a *token*, table or limit that decoding looks up; a
*setting* that the caller makes in any case; *moot*, because nothing hangs on it here; or *refused*, because `generate`
fails with it, returns something else, or ignores it for speech. Names that are none of these are refused too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.core.errors import CheckpointError, UnsupportedError

RULES = frozenset(
    {
        "bad_words_ids",
        "begin_suppress_tokens",
        "early_stopping",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_decoder_ids",
        "length_penalty",
        "min_length",
        "min_new_tokens",
        "no_repeat_ngram_size",
        "remove_invalid_values",
        "repetition_penalty",
        "return_timestamps",
        "sequence_bias",
        "suppress_tokens",
    }
)
TOKENS = frozenset(
    {
        "bos_token_id",
        "decoder_start_token_id",
        "eos_token_id",
        "is_multilingual",
        "lang_to_id",
        "max_initial_timestamp_index",
        "no_timestamps_token_id",
        "pad_token_id",
        "prev_sot_token_id",
        "task_to_id",
    }
)
SETTINGS = frozenset({"do_sample", "language", "max_length", "max_new_tokens", "num_beams", "task"})
MOOT = frozenset(
    {
        # of sampling
        *("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"),
        # the largest logit stays the largest
        "renormalize_logits",
        # of assistants, of which there is none
        *("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
        *("assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight", "speculation_type"),
        "max_matching_ngram_size",
        # of what is returned beside the tokens, which nobody asks for
        *("output_attentions", "output_hidden_states", "output_logits", "output_scores"),
        *("alignment_heads", "median_filter_width"),
        # of Whisper's long audio, where all of them are set, and of falling back to sampling, which is not done
        *("condition_on_prev_tokens", "compression_ratio_threshold"),
        # of how it is computed
        *("use_cache", "max_cache_len", "disable_compile", "continuous_batching_config", "low_memory"),
        # of the file
        "transformers_version",
    }
)
_FAILS, _ASSISTED = "transformers' generate cannot do that for a batch of speech", "it asks for an assistant"
_IGNORED = "transformers' generate ignores it where the input is audio"
REFUSED: Mapping[str, str] = {
    "assistant_early_exit": _ASSISTED,
    "cache_config": "what a model writes would depend on how its cache is kept",
    "cache_implementation": "what a model writes would depend on how its cache is kept",
    "compile_config": _FAILS,
    "constraints": _FAILS,
    "diversity_penalty": _FAILS,
    "dola_layers": _FAILS,
    "encoder_no_repeat_ngram_size": _IGNORED,
    "encoder_repetition_penalty": _IGNORED,
    "force_words_ids": _FAILS,
    "forced_eos_token_id": "it hides which texts were cut off at their caps",
    "guidance_scale": _FAILS,
    "is_assistant": _ASSISTED,
    "logprob_threshold": "transformers' generate fails with it unless it may fall back to sampling",
    "max_time": "what a model writes would depend on the machine's speed",
    "no_speech_threshold": "transformers' generate fails with it unless it may fall back to sampling",
    "num_beam_groups": _FAILS,
    "num_return_sequences": "one transcript is wanted",
    "penalty_alpha": _FAILS,
    "prefill_chunk_size": _FAILS,
    "prompt_lookup_num_tokens": _ASSISTED,
    "return_dict_in_generate": "it returns something else than tokens",
    "stop_strings": "text would end where a string is met, which is not done here",
    "token_healing": _FAILS,
    "use_mtp": _FAILS,
    "watermarking_config": "a watermark changes what is written",
}


def rules_in_force(config: Any) -> dict[str, Any]:
    """The rules of a `GenerationConfig` that are not at their neutral values, by name."""
    return {name: value for name, value in _stated(config) if name in RULES}


def refusal(config: Any) -> str | None:
    """Why a `GenerationConfig` cannot be honoured, with the name of what stands in the way; `None` where it can."""
    for name, value in _stated(config):
        if name in REFUSED:
            return f"{name} = {value}: {REFUSED[name]}"
        if name not in RULES | TOKENS | SETTINGS | MOOT:
            return f"{name} = {value}: this version does not know what it does"
    return None


def check_generation(model: Any, directory: Path) -> None:
    """Refuse a model whose generation configuration cannot be honoured.

    Raises:
        CheckpointError: with the name, the value, and the reason.
    """
    wanted = refusal(model.generation_config)
    if wanted is not None:
        raise CheckpointError(
            f"{directory / 'generation_config.json'}: {wanted}; take it out to measure the model without it"
        )


def without(config: Any, honoured: frozenset[str]) -> str | None:
    """The first rule in force that an engine does not honour, with its value; `None` where it honours all."""
    return next((f"{name} = {value}" for name, value in rules_in_force(config).items() if name not in honoured), None)


def prompt_of(config: Any, language: str | None, task: str | None) -> list[int]:
    """What transformers starts Whisper's decoder with: start, language and task where there is a choice, no timestamps.

    Args:
        config: generation configuration.
        language, task: its own where they are not given.

    Raises:
        UnsupportedError: a language or task that the model does not have, or none, which would have to be detected.
    """
    chosen = [config.decoder_start_token_id]
    languages, tasks = getattr(config, "lang_to_id", None), getattr(config, "task_to_id", None)
    if languages:
        chosen.append(_language_token(languages, language or getattr(config, "language", None)))
    if tasks:
        wanted = task or getattr(config, "task", None) or "transcribe"
        if wanted not in tasks:
            raise UnsupportedError(f"the model has no task {wanted!r}, only {', '.join(tasks)}")
        chosen.append(tasks[wanted])
    return [*chosen, config.no_timestamps_token_id]


def language_code(name: str) -> str:
    """The code of a language that is given by its name, its code or its token.

    >>> language_code("English"), language_code("<|en|>")
    ('en', 'en')
    """
    plain = name.lower().strip("<|>")
    if len(plain) == 2:
        return plain
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    return str(TO_LANGUAGE_CODE.get(plain, plain))


def _language_token(languages: dict[str, int], language: str | None) -> int:
    if language is None:
        raise UnsupportedError("the language is not detected here: name it")
    for spelling in (language.lower(), f"<|{language_code(language)}|>"):
        if spelling in languages:
            return languages[spelling]
    raise UnsupportedError(f"the model has no language {language!r}")


def otherwise_forced(model: Any, prompt: Sequence[int]) -> str | None:
    """The token that the checkpoint's older `forced_decoder_ids` wants and a prompt does not have; `None` if none.

    transformers says nothing where language and task are given, and goes by these.

    Args:
        model: with its configurations.
        prompt: tokens that its decoder is started with.
    """
    forced = next((found for c in (model.generation_config, model.config) if (found := _forced(c))), ())
    for place, token in forced:
        if token is not None and token != (prompt[place] if place < len(prompt) else None):
            return f"forced_decoder_ids wants the token {token} at place {place} of the prompt, which is {list(prompt)}"
    return None


def _forced(config: Any) -> Any:
    return getattr(config, "forced_decoder_ids", None)


def _stated(config: Any) -> Iterator[tuple[str, Any]]:
    """Names that say something: neither nothing nor what transformers takes for granted."""
    usual = {**config._get_default_generation_params(), **_NEUTRAL}
    for name, value in sorted(vars(config).items()):
        says = value not in (None, False, [], {}) or (value == 0 and value is not False and name in usual)
        if says and not name.startswith("_") and value != usual.get(name):
            yield name, value


_NEUTRAL = {"cache_implementation": "dynamic", "guidance_scale": 1.0, "min_new_tokens": 0, "penalty_alpha": 0.0}
