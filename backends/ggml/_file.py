"""whisper.cpp's model file: hyperparameters, mel filters, words, and tensors by the names that it expects.

It reads all matrices of a file in the one type that the head of the file names, the convolutions in 16
bits, and everything else in 32. The tie of head and embedding is one tensor.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping, Sequence
from os import SEEK_CUR
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from backends.core.selection import Candidate
from backends.core.spec import ModuleKind
from backends.ggml._library import Floats, quantized
from backends.ggml._types import F16, F32, QUANTIZED, TensorType

_MAGIC = 0x67676D6C
_HEAD = 48
"""Bytes before the filters."""
ENDS = {51864: 50256, 51865: 50257, 51866: 50257}
"""The token that ends a text, by the size of OpenAI's vocabularies; whisper.cpp knows the special tokens by number."""
_CODES_VERSION = 2000
"""Version 2 of ggml's codes, in thousands, as it stands beside the type of a quantized file."""
_NAMES = (
    (r"^model\.", ""),
    (r"embed_tokens\.weight$", "token_embedding.weight"),
    (r"embed_positions\.weight$", "positional_embedding"),
    (r"^encoder\.layer_norm\.", "encoder.ln_post."),
    (r"^decoder\.layer_norm\.", "decoder.ln."),
    (r"\.layers\.", ".blocks."),
    (r"\.self_attn_layer_norm\.", ".attn_ln."),
    (r"\.encoder_attn_layer_norm\.", ".cross_attn_ln."),
    (r"\.final_layer_norm\.", ".mlp_ln."),
    (r"\.self_attn\.", ".attn."),
    (r"\.encoder_attn\.", ".cross_attn."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"\.out_proj\.", ".out."),
    (r"\.fc1\.", ".mlp.0."),
    (r"\.fc2\.", ".mlp.2."),
)
"""transformers' names to whisper.cpp's, in this order."""


def tensor_name(name: str) -> str:
    """whisper.cpp's name of a parameter.

    >>> tensor_name("model.decoder.layers.1.encoder_attn.k_proj.weight")
    'decoder.blocks.1.cross_attn.key.weight'
    """
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def stored_type(candidate: Candidate, kind: TensorType) -> TensorType:
    """As what a file whose matrices are of `kind` has the weight of a module."""
    return F16 if candidate.kind is ModuleKind.CONV else kind


def write(
    path: Path,
    model: Any,
    kind: TensorType,
    modules: Sequence[Candidate],
    words: Sequence[bytes],
    importance: Mapping[str, Floats],
) -> dict[str, bytes]:
    """Write a model.

    Args:
        path: of the file.
        model: a Whisper in float32.
        kind: of its matrices.
        modules: its linear layers, convolutions, and the tie.
        words: of its vocabulary; none where they are not known.
        importance: by module, (columns,), see `quantized`; empty for none.

    Returns:
        The weights of `modules` as they stand in the file, by module.
    """
    weights = {candidate.lookup or candidate.name: candidate for candidate in modules}
    stored = {}
    with path.open("wb") as file:
        _write_head(file, model.config, kind, words)
        for name, parameter in model.named_parameters():
            module, _, key = name.rpartition(".")
            values = parameter.detach().contiguous().numpy()
            candidate = weights.get(module) if key == "weight" else None
            if candidate is None:
                of_convolution = module in weights and weights[module].kind is ModuleKind.CONV
                _write_tensor(file, name, values[:, None] if of_convolution else values, F32, values.tobytes())
                continue
            own = stored_type(candidate, kind)
            data = quantized(own, values, importance.get(candidate.name))
            stored[candidate.name] = data
            _write_tensor(file, name, values, own, data)
    return stored


def _write_head(file: BinaryIO, config: Any, kind: TensorType, words: Sequence[bytes]) -> None:
    sizes = (
        *(config.vocab_size, config.max_source_positions, config.d_model, config.encoder_attention_heads),
        *(config.encoder_layers, config.max_target_positions, config.d_model, config.decoder_attention_heads),
        *(config.decoder_layers, config.num_mel_bins),
    )
    version = _CODES_VERSION if kind in QUANTIZED else 0
    filters = _mel_filters(config.num_mel_bins)
    file.write(struct.pack("<12i", _MAGIC, *sizes, version + kind.file_number))
    file.write(struct.pack("<2i", *filters.shape) + filters.tobytes())
    file.write(struct.pack("<i", len(words)))
    for word in words:
        file.write(struct.pack("<i", len(word)) + word)


def _write_tensor(file: BinaryIO, name: str, values: Floats, kind: TensorType, data: bytes) -> None:
    text = tensor_name(name).encode()
    file.write(struct.pack("<3i", values.ndim, len(text), kind.number))
    file.write(struct.pack(f"<{values.ndim}i", *reversed(values.shape)) + text + data)


def _mel_filters(mels: int) -> Floats:
    """Whisper's, (mels, 201): whisper.cpp needs them where it computes features itself."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(201, mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    return np.ascontiguousarray(filters.T, dtype=np.float32)


def words_of(model: Any) -> list[bytes]:
    """The words of a model's vocabulary as bytes, by number, up to the end of a text.

    They are those of the `tokenizer.json` beside the checkpoint that the model was loaded from; none where there is
    no such file, or it has another vocabulary than one of OpenAI's.
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.utils import cached_file

    source, end = model.config.name_or_path, ENDS.get(model.config.vocab_size)
    options = {"local_files_only": True, "_raise_exceptions_for_missing_entries": False}
    found = cached_file(source, "tokenizer.json", **options) if source and end else None
    if found is None:
        return []
    numbers = json.loads(Path(found).read_text(encoding="utf-8"))["model"]["vocab"]
    words = {number: word for word, number in numbers.items() if number < end}
    letters = {letter: byte for byte, letter in bytes_to_unicode().items()}
    if len(words) != end or not letters.keys() >= set().union(*words.values()):
        return []
    return [bytes(letters[letter] for letter in words[number]) for number in range(end)]


def word_count(path: Path) -> int:
    """How many words stand in a file."""
    with path.open("rb") as file:
        file.seek(_HEAD)
        mels, frequencies = struct.unpack("<2i", file.read(8))
        file.seek(4 * mels * frequencies, SEEK_CUR)
        return int(struct.unpack("<i", file.read(4))[0])
