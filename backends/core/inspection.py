"""Inspection of a checkpoint before its weights are read: what would be ignored is refused by name.

Of recognisers (Whisper and Moonshine) the processor and the generation configuration are looked at too: whether they
belong to the model. Nothing of the weights is read but their names, types and shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.core.errors import CheckpointError

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_SAMPLE_RATE = 16_000
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_QUANTIZED = ("quantization_config", "compression_config")
_CODES = ("I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4")
"""Types of safetensors that hold codes, not weights."""
Json = Mapping[str, Any]


def check_directory(path: Path) -> None:
    """Refuse what is no directory.

    Raises:
        CheckpointError: it is a file, or not there.
    """
    if not path.is_dir():
        wrong = "it is a file; name the directory" if path.is_file() else "there is no such directory"
        raise CheckpointError(f"{path}: {wrong}")


def check_files(directory: Path) -> None:
    """Refuse a checkpoint that holds an adapter, beside the model or instead of it, or that is quantized already.

    Raises:
        CheckpointError: with what was found, and in which file.
    """
    for name in _ADAPTERS:
        if (directory / name).exists():
            raise CheckpointError(
                f"{directory / name}: an adapter, which would be ignored; merge it into the model and save that "
                "(peft: merge_and_unload), or take the file away"
            )
    config = read(directory / "config.json")
    for where in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in _QUANTIZED:
            if where.get(key):
                raise CheckpointError(
                    f"{directory / 'config.json'}: {key} says that the weights are quantized already "
                    f"({_kind(where[key])}); take the checkpoint in full precision"
                )
    for path in sorted(directory.glob("*.safetensors")):
        codes = sorted({entry["dtype"] for name, entry in _header(path) if entry["dtype"] in _CODES})
        if codes:
            raise CheckpointError(
                f"{path}: it holds {', '.join(codes)}, so the weights are quantized already; take the checkpoint in "
                "full precision"
            )


def _kind(settings: Any) -> str:
    if not isinstance(settings, dict):
        return str(settings)
    kinds = [key for key in ("load_in_4bit", "load_in_8bit") if settings.get(key)]
    return " ".join([str(settings.get("quant_method", "unnamed method")), *kinds])


def _header(path: Path) -> Iterator[tuple[str, Json]]:
    """Names of a safetensors file with their types and shapes.

    Raises:
        CheckpointError: it is no such file.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("it is cut off")
            found = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}; download it again") from None
    return ((name, entry) for name, entry in found.items() if name != "__metadata__")


def read(path: Path) -> Json:
    """An object of a JSON file; empty where there is no such file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}; download it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: it holds no object; download it again")
    return found


def check_recognizer(directory: Path) -> None:
    """Refuse a processor or a generation configuration that belongs to another model.

    Other models pass, and a directory without a processor, with which nothing can be transcribed.

    Raises:
        CheckpointError: with the two values that disagree.
    """
    config = read(directory / "config.json")
    settled = any((directory / name).is_file() for name in PROCESSOR_FILES)
    if settled and config.get("model_type") in ("whisper", "moonshine"):
        _check_processor(directory, config)
        _check_tokens(directory, config)


def _check_processor(directory: Path, config: Json) -> None:
    own = read(directory / "preprocessor_config.json")
    path = directory / ("preprocessor_config.json" if own else "processor_config.json")
    nested = read(directory / "processor_config.json").get("feature_extractor") or {}
    for key in own.keys() & nested.keys():
        if own[key] != nested[key]:
            raise CheckpointError(
                f"{directory}: {key} is {own[key]} in preprocessor_config.json and {nested[key]} in "
                "processor_config.json; take away the one that is not the model's"
            )
    settings = own or nested
    _agree(path, "sampling_rate", settings.get("sampling_rate", _SAMPLE_RATE), "speech is read at", _SAMPLE_RATE)
    if config["model_type"] != "whisper":
        _agree(path, "feature_size", settings.get("feature_size", 1), "the model takes samples,", 1)
        return
    mels = config.get("num_mel_bins", 80)
    _agree(path, "feature_size", settings.get("feature_size", 80), "the model's num_mel_bins is", mels)
    hop, seconds = settings.get("hop_length", 160), settings.get("chunk_length", 30)
    frames, positions = seconds * _SAMPLE_RATE // hop, 2 * config.get("max_source_positions", 1500)
    _agree(path, "chunk_length / hop_length in frames", frames, "the model's window has", positions)


def _agree(path: Path, key: str, value: Any, what: str, wanted: Any) -> None:
    if value != wanted:
        raise CheckpointError(
            f"{path}: {key} is {value}, and {what} {wanted}: the processor is another model's; save the model's own"
        )


def _check_tokens(directory: Path, config: Json) -> None:
    """The end-of-text and the start of the text are the tokenizer's, and it has no more tokens than the model."""
    path = directory / "generation_config.json"
    generation = read(path)
    known = _vocabulary(directory)
    if known and max(known.values()) >= config.get("vocab_size", 0):
        raise CheckpointError(
            f"{directory}: the tokenizer has the token {max(known.values())}, and the model's vocab_size is "
            f"{config.get('vocab_size')}: it is another model's; save the model's own"
        )
    rule = {key: generation.get(key, config.get(key)) for key in ("eos_token_id", "decoder_start_token_id")}
    for key, value in rule.items():
        if value is None:
            raise CheckpointError(f"{path}: {key} is missing, and config.json has none; copy the published file")
    ends = rule["eos_token_id"] if isinstance(rule["eos_token_id"], list) else [rule["eos_token_id"]]
    end = _token(directory, "eos_token")
    if known and end in known and known[end] not in ends:
        raise CheckpointError(
            f"{path}: eos_token_id is {rule['eos_token_id']}, and the tokenizer's {end} is {known[end]}: one of them "
            "is another model's; save the model's own"
        )
    if config["model_type"] == "whisper":
        _check_whisper(path, {**config, **generation}, known)
        _check_padding(path, {**config, **generation}, ends, known)


def _check_whisper(path: Path, rule: Json, known: Mapping[str, int]) -> None:
    start, wanted = rule["decoder_start_token_id"], known.get("<|startoftranscript|>")
    if wanted is not None and start != wanted:
        raise CheckpointError(
            f"{path}: decoder_start_token_id is {start}, and the tokenizer's <|startoftranscript|> is {wanted}: one of "
            "them is another model's; save the model's own"
        )
    multilingual = rule.get("is_multilingual", rule.get("vocab_size", 0) >= 51865)
    wants = ["no_timestamps_token_id", *(["lang_to_id", "task_to_id"] if multilingual else [])]
    absent = [key for key in wants if not rule.get(key)]
    if absent:
        raise CheckpointError(
            f"{path}: {' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing, without which transformers "
            "cannot begin a text; copy the published generation_config.json of the model that was fine-tuned"
        )
    named = {**(rule.get("lang_to_id") or {}), **{f"<|{k}|>": v for k, v in (rule.get("task_to_id") or {}).items()}}
    for name, token in named.items():
        if known.get(name, token) != token:
            raise CheckpointError(
                f"{path}: {name} is {token}, and the tokenizer's is {known[name]}: one of them is another model's; "
                "save the model's own"
            )


def _check_padding(path: Path, rule: Json, ends: Sequence[int], known: Mapping[str, int]) -> None:
    """What is written behind the short texts of a batch must be no word."""
    token = rule.get("pad_token_id")
    if token is None or token in ends:
        return
    if not 0 <= token < rule.get("vocab_size", 0):
        raise CheckpointError(f"{path}: pad_token_id is {token}, which is no token of the model; set it to {ends[0]}")
    text = next((name for name, number in known.items() if number == token), "")
    if text and text not in _added(path.parent):
        raise CheckpointError(
            f"{path}: pad_token_id is {token}, the tokenizer's word {text!r}, which would stand behind the short texts "
            f"of a batch; set it to the end of the text, {ends[0]}"
        )


def _vocabulary(directory: Path) -> dict[str, int]:
    """Tokens by name, as far as files tell."""
    found = read(directory / "tokenizer.json")
    words = (found.get("model") or {}).get("vocab") if found else read(directory / "vocab.json")
    return {**(words if isinstance(words, dict) else {}), **_added(directory)}


def _added(directory: Path) -> dict[str, int]:
    """Tokens that are no words, by name: ends, languages, tasks, times."""
    found = read(directory / "tokenizer.json")
    if found:
        return {token["content"]: token["id"] for token in found.get("added_tokens", ())}
    return dict(read(directory / "added_tokens.json"))


def _token(directory: Path, key: str) -> str | None:
    """The text of a special token, as the tokenizer's settings name it."""
    value = read(directory / "tokenizer_config.json").get(key)
    return value.get("content") if isinstance(value, dict) else value
