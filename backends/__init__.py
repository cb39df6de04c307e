"""Speech-model quantization libraries behind one `quantize`.

Any `torch.nn.Module` with linear layers will do. The model is changed in place, and is used as before:

>>> import torch
>>> from backends import quantize
>>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
>>> quantized = quantize(model, "weight_only", "per_channel", 8, backend="quanto")
>>> tuple(quantized.model(torch.zeros(2, 64)).shape)
(2, 8)

`Quantized.report` says what every layer asked for, got and occupies, in bytes with scales and zero points:

>>> [(layer.name, str(layer.effective), layer.effective_bits) for layer in quantized.report.layers]
[('0', 'int8 per_channel symmetric', 8.5), ('2', 'int8 per_channel symmetric', 8.5)]

**Whisper.** With a checkpoint that would be `WhisperForConditionalGeneration.from_pretrained("openai/whisper-small")`.
What is saved is safetensors and JSON; it comes back in a new process bit for bit, without the original checkpoint:

>>> import tempfile
>>> from backends import load
>>> from backends.testing import small_inputs, small_whisper
>>> quantized = quantize(small_whisper(), "weight_only", "per_group:64", 4, backend="hqq")
>>> f"{quantized.report.size_reduction:.0%}"
'50%'
>>> tokens = quantized.model.generate(input_features=small_inputs()["input_features"], max_new_tokens=5)
>>> with tempfile.TemporaryDirectory() as directory:
...     quantized.save(directory)
...     again = load(directory).model
>>> bool((again.generate(input_features=small_inputs()["input_features"], max_new_tokens=5) == tokens).all())
True

**Moonshine.** Static scales are taken from calibration inputs: mappings of the model's keyword arguments.

>>> from transformers import MoonshineConfig, MoonshineForConditionalGeneration
>>> config = MoonshineConfig(encoder_num_hidden_layers=1, decoder_num_hidden_layers=1, vocab_size=128, pad_token_id=0)
>>> model = MoonshineForConditionalGeneration(config).eval()
>>> inputs = {"input_values": torch.randn(1, 16000), "decoder_input_ids": torch.ones(1, 4, dtype=torch.long)}
>>> seven = {"reduce_range": True}  # bits of inputs, which every processor multiplies exactly
>>> settings = {"backend": "torch_static", "options": seven, "calibration": [inputs]}
>>> quantized = quantize(model, "static", "per_channel", 8, **settings)
>>> tuple(quantized.model(**inputs).logits.shape)
(1, 4, 128)

**wav2vec2**, and whatever else has an encoder alone. `capability` says beforehand, and without torch, what a library
can do; what it cannot is refused before a weight is touched:

>>> from backends import PerChannel, QuantSpec, Scheme, capability
>>> capability(QuantSpec(Scheme.WEIGHT_ONLY, PerChannel(), 7), "hqq").reason
'HQQ has int of 8, 6, 5, 4, 3, 2 and 1 bits'
>>> from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
>>> config = Wav2Vec2Config(vocab_size=32, hidden_size=64, num_hidden_layers=1, num_attention_heads=2,
...                         intermediate_size=128, num_conv_pos_embedding_groups=4)
>>> quantized = quantize(Wav2Vec2ForCTC(config).eval(), "dynamic", "per_channel", 8, backend="torch_dynamic")
>>> tuple(quantized.model(torch.randn(1, 16000)).logits.shape)
(1, 49, 32)

Backends of your own: `backends.extending`, `backends.testing`.
"""

from backends.core.base import (
    Calibration,
    CalibrationInput,
    Capability,
    Form,
    Generator,
    Supported,
    Unsupported,
)
from backends.core.checkpoint import Quantized, load
from backends.core.codes import (
    Activations,
    Granularity,
    NumberFormat,
    PerChannel,
    PerGroup,
    PerTensor,
    parse_granularity,
)
from backends.core.errors import AsrQuantError, CheckpointError, ModelError, SpecError, UnsupportedError
from backends.core.quantize import (
    calibrates,
    capability,
    quantize,
    quantize_spec,
    resolve,
    row_independent,
    versions,
)
from backends.core.registry import available
from backends.core.report import LayerReport, QuantReport
from backends.core.spec import (
    ENCODER_AND_DECODER,
    FULL_PRECISION,
    LINEAR,
    ModuleKind,
    Part,
    QuantSpec,
    Rest,
    Rule,
    Scheme,
)

__all__ = [
    "ENCODER_AND_DECODER",
    "FULL_PRECISION",
    "LINEAR",
    "Activations",
    "AsrQuantError",
    "Calibration",
    "CalibrationInput",
    "Capability",
    "CheckpointError",
    "Form",
    "Generator",
    "Granularity",
    "LayerReport",
    "ModelError",
    "ModuleKind",
    "NumberFormat",
    "Part",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "QuantReport",
    "QuantSpec",
    "Quantized",
    "Rest",
    "Rule",
    "Scheme",
    "SpecError",
    "Supported",
    "Unsupported",
    "UnsupportedError",
    "available",
    "calibrates",
    "capability",
    "load",
    "parse_granularity",
    "quantize",
    "quantize_spec",
    "resolve",
    "row_independent",
    "versions",
]
