"""The outlier variant: the same function, with outliers where they were planted."""

import pytest
import torch

from harness import datasets
from harness.embedded import MODEL_DIRECTORY, PLANTED
from harness.embedded.outliers import CHANNELS, plant
from harness.experiment.tables import Data, Decoding, Model
from harness.recognition.loading import load_recognizer
from harness.resolution.checkpoints import resolve_model


@pytest.fixture(scope="module")
def variants():
    plain, planted = (load_recognizer(MODEL_DIRECTORY, "float32", "cpu") for _ in range(2))
    return plain, planted, plant(planted.model, 20.0)


@pytest.fixture(scope="module")
def speech():
    corpus = datasets.get("embedded").load(Data(dataset="embedded", split="other"))
    return corpus.utterances[:: len(corpus.utterances) // 12]


def test_the_function_is_the_same(variants, speech):
    plain, planted, _ = variants
    waveforms, texts = [u.waveform() for u in speech], [u.text for u in speech]
    (item,) = plain.calibration_inputs(waveforms[:2], texts[:2], 2)
    with torch.no_grad():
        one, other = (recognizer.model(**item.inputs).logits for recognizer in (plain, planted))
    assert (one - other).abs().max() < 1e-4 * one.abs().max()
    assert plain.transcribe(waveforms, Decoding()) == planted.transcribe(waveforms, Decoding())


def test_the_outliers_are_where_they_were_planted(variants, speech):
    plain, planted, channels = variants
    layers = len(plain.model.get_encoder().layers), len(plain.model.get_decoder().layers)
    assert len(channels) == 2 * layers[0] + 3 * layers[1] + 1
    name = "encoder.layers.1.final_layer_norm"
    seen = {}
    for recognizer in (plain, planted):
        norm = recognizer.model.model.get_submodule(name)
        hook = norm.register_forward_hook(lambda _, __, output, key=recognizer is planted: seen.update({key: output}))
        recognizer.transcribe([speech[0].waveform()], Decoding(max_new_tokens=2))
        hook.remove()
    ratio = (seen[True].abs().amax((0, 1)) / seen[False].abs().amax((0, 1))).round()
    assert tuple(torch.nonzero(ratio == 20).flatten().tolist()) == channels[name]
    assert (ratio == 1).sum() == ratio.numel() - CHANNELS


def test_the_head_and_the_embedding_stay_tied(variants):
    _, planted, _ = variants
    assert planted.model.proj_out.weight is planted.model.get_input_embeddings().weight


def test_it_is_a_model_of_its_own():
    plain = resolve_model(Model(path="embedded"))
    revisions = {resolve_model(Model(path=path)).revision for path in PLANTED}
    assert len(revisions) == len(PLANTED)
    assert plain.revision not in revisions
