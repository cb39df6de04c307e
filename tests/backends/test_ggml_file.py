"""whisper.cpp's file beside an independent reader, what the library takes, and the real whisper-tiny.en exported."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("pywhispercpp", reason='pywhispercpp is not installed: pip install ".[ggml]"')

from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

from backends import ModelError, Unsupported, UnsupportedError, capability, load, quantize_spec
from backends.__main__ import main
from backends.core.errors import CheckpointError
from backends.core.selection import candidates_for
from backends.ggml import _file as file
from backends.ggml import _library as library
from backends.ggml._types import F16
from backends.testing import small_inputs
from harness import datasets
from harness.experiment.tables import Data
from tests.backends.test_ggml import TYPES, asked, error, half, logits, whisper


def read(path):
    """Head, count of words, and tensors (type, shape, bytes) by name."""
    blocks = {0: (1, 4), 1: (1, 2), 2: (32, 18), 8: (32, 34), 12: (256, 144)}  # by type: weights, bytes
    data, at = path.read_bytes(), 0

    def numbers(count):
        nonlocal at
        at += 4 * count
        return struct.unpack_from(f"<{count}i", data, at - 4 * count)

    head = numbers(12)
    mels, frequencies = numbers(2)
    at += 4 * mels * frequencies
    words = numbers(1)[0]
    for _ in range(words):
        at += numbers(1)[0]
    tensors = {}
    while at < len(data):
        dimensions, length, kind = numbers(3)
        shape = numbers(dimensions)[::-1]
        weights, size = blocks[kind]
        name, at = data[at : at + length].decode(), at + length
        end = at + int(np.prod(shape)) // weights * size
        tensors[name], at = (kind, shape, data[at:end]), end
    return head, words, tensors


@pytest.mark.parametrize(("name", "ftype"), [("q8_0", 2007), ("q4_0", 2002), ("q4_K", 2012)])
def test_the_file_holds_every_parameter_once_and_the_report_says_in_how_many_bytes(name, ftype):
    model = whisper(256)
    parameters = dict(model.named_parameters())
    quantized = quantize_spec(model, asked(name), "ggml")
    path = quantized.model.directory / "model.bin"
    head, words, tensors = read(path)
    assert head == (0x67676D6C, 512, 150, 256, 2, 1, 448, 256, 2, 1, 80, ftype)
    assert words == 0
    assert set(tensors) == {file.tensor_name(key) for key in parameters}
    for key, parameter in parameters.items():
        kind, shape, data = tensors[file.tensor_name(key)]
        assert shape == (*parameter.shape, *([1] if "conv" in key and key.endswith("bias") else []))
        if kind == 0:
            assert data == parameter.detach().numpy().tobytes()
        elif kind == 1:
            assert data == parameter.detach().half().numpy().tobytes()
        expected = 1 if parameter.dim() == 3 else TYPES[name].number if parameter.dim() == 2 else 0
        assert kind == (0 if "positions" in key else expected)
    report = {layer.name: layer for layer in quantized.report.layers}
    assert quantized.report.size_bytes == path.stat().st_size
    assert {layer.stored_bits for layer in report.values() if layer.kind == "tied"} == {
        8 * len(tensors["decoder.token_embedding.weight"][2])
    }
    conv = report["model.encoder.conv1"]
    assert (conv.effective, conv.effective_bits) == (None, 16)
    assert "convolutions in 16 bits" in conv.reason
    stored = sum(len(data) for kind, _, data in tensors.values() if kind)
    assert sum(layer.stored_bits for layer in report.values()) == 8 * stored


@pytest.mark.parametrize("encoder", ["q8_0", "iq4_nl", "q4_0"])
@torch.no_grad()
def test_matrices_of_two_types_are_refused_by_the_library_or_misread(encoder, tmp_path, monkeypatch):
    """So a recipe cannot be done: types with blocks of one size are taken for each other."""

    def stored_type(module, kind):
        return F16 if module.kind == "conv" else TYPES[encoder] if "encoder.layers" in module.name else kind

    monkeypatch.setattr(file, "stored_type", stored_type)
    path, model = tmp_path / "mixed.bin", whisper()
    modules = candidates_for(model, asked("q4_0", modules=frozenset({"linear", "tied", "conv"})))
    stored = file.write(path, model, TYPES["q4_0"], modules, [], {})
    if encoder == "q8_0":
        with pytest.raises(ModelError, match=r"whisper\.cpp cannot load it"):
            library.Context(path)
        return
    found = logits(SimpleNamespace(context=library.Context(path)), small_inputs())
    for module in modules:
        shape = (len(module.weight), module.weight[0].numel())
        weights = library.dequantized(stored_type(module, TYPES["q4_0"]), stored[module.name], shape)
        module.weight.copy_(torch.from_numpy(weights).reshape(module.weight.shape))
    away = error(found, logits(model, small_inputs()))
    assert away > 0.05 if encoder == "iq4_nl" else away < 0.02


@torch.no_grad()
def test_flash_attention_is_off_because_it_reaches_padding(monkeypatch):
    model, inputs = whisper(), small_inputs()
    expected = logits(model, inputs)
    engine = half(model).model
    assert error(logits(engine, inputs), expected) < 2e-3

    loaded, given = library.library(), []

    class Flashing:
        """The library, with flash attention switched on behind the adapter's back."""

        def __getattr__(self, name):
            return getattr(loaded, name)

        def whisper_init_from_file_with_params(self, path, parameters):
            given.append(parameters.flash_attn)
            parameters.flash_attn = True
            return loaded.whisper_init_from_file_with_params(path, parameters)

    monkeypatch.setattr(library, "library", Flashing)
    flashing = SimpleNamespace(context=library.Context(engine.directory / "model.bin"))
    assert given == [False]
    assert error(logits(flashing, inputs), expected) > 10 * error(logits(engine, inputs), expected)


def test_what_would_end_the_process_is_an_error():
    context = half(whisper()).model.context
    with pytest.raises(ModelError, match="more than 200 samples"):
        context.encode_speech(np.zeros(200, np.float32), 1)
    with pytest.raises(ModelError, match="33 bytes are no q8_0"):
        library.dequantized(TYPES["q8_0"], b"0" * 33, (1, 32))
    with pytest.raises(ModelError, match="nothing is encoded"):
        context.decode([1], 1)
    context.encode(np.zeros((80, 300), np.float32), 1)
    for tokens in ([], [512], [-1], [1] * 449):
        with pytest.raises(ModelError, match="of 448"):
            context.decode(tokens, 1)
    context.decode([1] * 448, 1)
    with pytest.raises(ModelError, match="1 tokens at position 448 of 448"):
        context.decode([1], 1)


def test_a_file_of_another_kind_is_not_loaded(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"RIFF" * 100)
    with pytest.raises(ModelError, match=r"model\.bin: whisper\.cpp cannot load it"):
        library.Context(tmp_path / "model.bin")


@pytest.mark.parametrize(("name", "value"), [("RELEASE", "1.8.4"), ("_DEFAULTS", (*library._DEFAULTS[:-1], 0))])
def test_another_release_or_layout_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setattr(library, name, value)
    monkeypatch.setattr(library, "library", library.library.__wrapped__)
    answer = capability(asked("q8_0"), "ggml")
    assert isinstance(answer, Unsupported)
    assert "brings whisper.cpp 1.8.5, whose parameters are not known" in answer.reason


def test_the_library_says_nothing(capfd):
    half(whisper()).model.generate(small_inputs()["input_features"], max_new_tokens=3, language="en")
    assert capfd.readouterr() == ("", "")


def test_what_whisper_cpp_would_not_understand_is_not_exported(tmp_path):
    quantized = half(whisper())
    with pytest.raises(ModelError, match="51864, 51865, 51866 tokens, and this one has 512"):
        quantized.export("ggml", tmp_path / "out.bin")
    with pytest.raises(UnsupportedError, match="does not export gguf, only ggml"):
        quantized.export("gguf", tmp_path / "out.bin")
    (tmp_path / "out.bin").touch()
    with pytest.raises(CheckpointError, match="something already"):
        quantized.export("ggml", tmp_path / "out.bin")


@pytest.fixture(scope="module")
def real(real_whisper, librispeech_root, tmp_path_factory):
    """whisper-tiny.en in f16, saved and exported, with an utterance and its features."""
    root = tmp_path_factory.mktemp("exported")
    model = WhisperForConditionalGeneration.from_pretrained(real_whisper).eval()
    speech = datasets.get("librispeech").load(
        Data(dataset="librispeech", split="test-clean", root=str(librispeech_root), limit=1)
    )
    samples = np.ascontiguousarray(speech.utterances[0].waveform(), dtype=np.float32)
    extract = WhisperFeatureExtractor.from_pretrained(real_whisper)
    features = extract(samples, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        expected = model.generate(features, max_new_tokens=100)
    half(model).save(root / "saved")
    assert main(["export", str(root / "saved"), "ggml", str(root / "tiny.bin")]) == 0
    spoken = {"text": speech.utterances[0].text, "samples": samples, "features": features, "tokens": expected}
    return SimpleNamespace(root=root, **spoken)


def test_the_real_model_writes_the_same_tokens_in_half_precision(real):
    engine = load(real.root / "saved").model
    assert torch.equal(engine.generate(real.features, max_new_tokens=100), real.tokens)


def test_features_of_the_engine_itself_differ_little(real):
    context = library.Context(real.root / "tiny.bin")
    context.encode(real.features[0].numpy(), 1)
    ours = torch.from_numpy(context.decode([50257, 50362], 1))
    context.encode_speech(real.samples, 1)
    theirs = torch.from_numpy(context.decode([50257, 50362], 1))
    assert 0 < error(theirs, ours) < 0.02
    assert theirs.argmax() == ours.argmax()


def test_whisper_cpp_itself_transcribes_the_exported_file(real):
    from pywhispercpp.model import Model

    model = Model(str(real.root / "tiny.bin"), context_params={"flash_attn": False}, print_progress=False, n_threads=1)
    heard = " ".join(segment.text for segment in model.transcribe(real.samples)).lower()
    words = real.text.lower().split()
    assert sum(word in heard for word in words) > 0.9 * len(words)
