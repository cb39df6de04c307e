"""Calibration speech: drawn reproducibly, forced to the right words, with its padding told."""

from pathlib import Path

import pytest
import torch

from harness.embedded import MODEL_DIRECTORY
from harness.errors import ConfigError
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Calibration, Data, Decoding, Draw
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.loading import load_recognizer
from harness.resolution import identity
from harness.resolution.calibration import calibration_corpus
from tests.harness.runs import as_asked

SPEECH = Data(dataset="embedded", split="calibration")


def calibration(**changes):
    return Calibration(data=SPEECH, **({"utterances": 6, "batch_size": 4} | changes))


@pytest.fixture(scope="module")
def recognizer():
    return load_recognizer(MODEL_DIRECTORY, "float32", "cpu")


def ids(**changes):
    return [u.id for u in calibration_corpus(calibration(**changes)).utterances]


def test_the_first_by_id_or_a_seeded_draw():
    assert ids() == sorted(ids())
    assert ids(seed=1) == ids(seed=1) != ids(seed=2)
    assert len(set(ids(seed=1))) == 6
    assert ids(seed=1) != ids()


def test_too_few_utterances_are_one_sentence():
    with pytest.raises(ConfigError, match=r"calibration\.utterances is 5000, but calibration has 128"):
        calibration_corpus(calibration(utterances=5000))


def test_the_model_can_be_its_own_teacher(recognizer):
    reference = calibration_inputs(recognizer, calibration(), Decoding(max_new_tokens=30))
    own = calibration_inputs(recognizer, calibration(teacher="model"), Decoding(max_new_tokens=30))
    assert len(reference) == len(own)
    for one, other in zip(reference, own, strict=True):
        assert torch.equal(one.inputs["input_features"], other.inputs["input_features"])
    assert (
        own[0].inputs["decoder_input_ids"][0, :4].tolist() == reference[0].inputs["decoder_input_ids"][0, :4].tolist()
    )


def test_padding_counts_only_where_it_is_asked_for(recognizer):
    assert set(calibration_inputs(recognizer, calibration(), Decoding())[0].lengths) == {"encoder", "decoder"}
    assert calibration_inputs(recognizer, calibration(padding=True), Decoding())[0].lengths == {}


DRAWS = ["calibration.seed=[0,1,2]", "data.0.limit=3", "data.1.limit=3"]


def test_several_seeds_are_so_many_configurations_of_whatever_calibrates():
    experiment = load_experiment(Path("experiments/embedded.toml"), DRAWS)
    planned = configurations(experiment)
    assert len(planned) == len(set(planned))
    once = {c.label for c in configurations(load_experiment(Path("experiments/embedded.toml")))}
    calibrated = [c for c in planned if c.calibrates]
    assert {c.draw for c in planned if not c.calibrates} == {Draw()}
    assert len(calibrated) == 3 * len({c.spec for c in calibrated})
    assert {c.label.removesuffix(f" draw={c.draw.seed}") for c in planned} == once
    resolved = identity.resolve(experiment, planned, as_asked)
    cells = [identity.cells_of(c, experiment, resolved)[0] for c in calibrated[:3]]
    assert len({cell.cell_id for cell in cells}) == 3
    assert len({cell.identity["calibration_speech"]["samples"] for cell in cells}) == 3


def test_a_configuration_is_calibrated_on_its_own_draw():
    experiment = load_experiment(Path("experiments/embedded.toml"), DRAWS)
    for configuration in configurations(experiment):
        drawn = configuration.drawn(experiment.calibration)
        assert (drawn is None) == (not configuration.calibrates)
        assert drawn is None or drawn.seed == configuration.draw.seed


def test_noise_is_a_factor_of_its_own(recognizer):
    experiment = load_experiment(Path("experiments/embedded.toml"), ["calibration.noise_db=[5.0,20.0]"])
    calibrated = [c for c in configurations(experiment) if c.calibrates]
    assert {c.draw.noise_db for c in calibrated} == {5.0, 20.0}
    assert all(c.label.endswith(f"noise_db={c.draw.noise_db}") for c in calibrated)
    features = [
        calibration_inputs(recognizer, calibration(noise_db=noise), Decoding())[0].inputs["input_features"]
        for noise in (None, 20.0, 5.0)
    ]
    assert (features[1] - features[0]).norm() < (features[2] - features[0]).norm()
