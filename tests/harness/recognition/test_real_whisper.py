"""A real checkpoint on real speech: where static int8 loses the words, and that analysis names the layer."""

import copy
import dataclasses

import pytest
import torch
from transformers import WhisperForConditionalGeneration

from backends import quantize
from harness import datasets
from harness.analysis.analysis import analyse
from harness.experiment.tables import Data, Decoding
from harness.metrics import ErrorRate, Normaliser, count_errors
from harness.recognition.loading import load_recognizer
from harness.report.outputs import rounded_outputs

pytestmark = pytest.mark.slow

DECODING = Decoding(max_new_tokens=80)
SEVEN = {"observer": "minmax", "reduce_range": True}
"""Inputs of 7 bits, which every processor multiplies exactly."""
WORST = "model.encoder.layers.3.fc2"


def spoken(root, split, speakers):
    """One utterance of each of so many speakers, as waveforms and texts."""
    corpus = datasets.get("librispeech").load(Data(dataset="librispeech", split=split, root=str(root)))
    first = {u.speaker: u for u in sorted(corpus.utterances, key=lambda u: u.id, reverse=True)}
    chosen = [first[speaker] for speaker in sorted(first)[:speakers]]
    return [u.waveform() for u in chosen], [u.text for u in chosen]


class Bench:
    """Full precision, speech to test on, and speech to calibrate on."""

    def __init__(self, directory, root):
        self.full = load_recognizer(directory, "float32", "cpu")
        self.waveforms, self.texts = spoken(root, "test-clean", 8)
        self.plain = self.hypotheses(self.full.model)
        self.calibration = self.full.calibration_inputs(*spoken(root, "train-clean-5", 8), batch_size=8)

    def quantized(self, backend, scheme, granularity, **settings):
        model = copy.deepcopy(self.full.model)
        return quantize(model, scheme, granularity, 8, backend=backend, calibration=self.calibration, **settings)

    def hypotheses(self, model):
        heard = dataclasses.replace(self.full, model=model).transcribe(self.waveforms, DECODING)
        return [transcript.text for transcript in heard]

    def wer(self, hypotheses):
        normalise, pairs = Normaliser(), zip(self.texts, hypotheses, strict=True)
        counts = [count_errors(normalise(text), normalise(heard)).words for text, heard in pairs]
        return sum(counts, ErrorRate()).rate


@pytest.fixture(scope="module")
def bench(real_whisper, librispeech_root):
    return Bench(real_whisper, librispeech_root)


def test_full_precision_is_what_transformers_generates(bench, real_whisper):
    model = WhisperForConditionalGeneration.from_pretrained(real_whisper)
    features = bench.full.processor(bench.waveforms, sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        tokens = model.generate(features, max_new_tokens=DECODING.max_new_tokens, do_sample=False, num_beams=1)
    expected = bench.full.processor.batch_decode(tokens, skip_special_tokens=True)
    assert bench.plain == expected
    assert bench.wer(bench.plain) < 0.15


@pytest.mark.parametrize("name", ["whisper-tiny.en", "whisper-base"])
def test_a_rest_in_16_bits_loses_nothing(name, bench, real_whisper):
    """Its weights were published in float16."""
    logits = []
    for rest in ("fp32", "fp16"):
        model = WhisperForConditionalGeneration.from_pretrained(real_whisper.parent / name)
        found = quantize(model, "weight_only", "per_channel", 8, backend="quanto", rest=rest)
        features = bench.full.processor(bench.waveforms[:1], sampling_rate=16_000, return_tensors="pt").input_features
        shown = {"input_features": features, "decoder_input_ids": torch.tensor([[50258, 50259, 50359, 50363]])}
        with torch.no_grad():
            logits.append(found.model(**shown).logits)
        assert not found.report.notes
    assert torch.equal(*logits)


def test_int8_weights_cost_next_to_nothing(bench):
    hypotheses = bench.hypotheses(bench.quantized("quanto", "weight_only", "per_channel").model)
    assert abs(bench.wer(hypotheses) - bench.wer(bench.plain)) < 0.03


@pytest.fixture(scope="module")
def rounded(bench):
    return bench.quantized("torch_static", "static", "per_tensor", options=SEVEN)


def test_static_int8_loses_the_words_where_outputs_are_rounded_with_one_scale(bench, rounded):
    assert rounded.spec.outputs
    assert bench.wer(bench.hypotheses(rounded.model)) > 0.5
    settings = {"options": SEVEN, "outputs": False}
    float_outputs = bench.quantized("torch_static", "static", "per_tensor", **settings)
    assert bench.wer(bench.hypotheses(float_outputs.model)) < 0.15


def test_analysis_names_the_layer(bench, rounded):
    """Of the encoder's; a window of speech is enough."""
    encoder = tuple(layer for layer in rounded.report.layers if layer.name.startswith("model.encoder."))
    report = dataclasses.replace(rounded.report, layers=encoder)
    window = bench.full.calibration_inputs(bench.waveforms[:2], bench.texts[:2], batch_size=1)
    layers = analyse(bench.full.model, rounded.model, report, window)["layers"]
    first, second = sorted(layers, key=lambda layer: -layer["divergence"])[:2]
    assert first["name"] == WORST
    assert first["divergence"] > 20 * second["divergence"]
    assert max(layers, key=lambda layer: layer["output_range_ratio"])["name"] == WORST
    told = rounded_outputs({"output_bits": 8, "layers": layers})
    assert told.startswith(f"The output of {WORST} spans {first['output_range_ratio']:.0f} standard deviations")
