"""OmniQuant and TesseraQ: never worse than where they start, reproducible, and nothing else of the model changes."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backends import Activations, CalibrationInput, load, quantize
from backends.ptq import omniquant, tesseraq
from backends.ptq._block import Solved, Trial
from backends.ptq._codes import clipped_grid
from backends.ptq._linear import QuantizedLinear, Solution, Transform
from backends.ptq._method import Block, Request
from harness.datasets import get
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Data
from harness.recognition.loading import load_recognizer
from tests.conftest import build_whisper

METHODS = {"omniquant": omniquant.METHOD, "tesseraq": tesseraq.METHOD}
CODES = [("per_channel", 3), ("per_group:64", 2)]


@dataclass
class Recorder:
    """A method that notes the loss of every block at the method's start and at its end."""

    solve: Any
    begun: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def __call__(self, block: Block, request: Request) -> Solved:
        kept = copy.deepcopy(block.module)
        solved = self.solve(block, request)
        assert str(kept) == str(block.module)
        assert all(torch.equal(t, block.module.state_dict()[name]) for name, t in kept.state_dict().items())
        trial = Trial(block, request)
        self.begun.append(trial.loss(nearest(block, request)))
        self.ended.append(trial.loss(solved))
        return solved


def nearest(block: Block, request: Request) -> Solved:
    """Round to nearest on a searched range."""
    grids = {
        n: clipped_grid(layer.weight, request.code, layer.known.second.diagonal()) for n, layer in block.layers.items()
    }
    return {n: (Transform(), Solution(own.codes(block.layers[n].weight), own)) for n, own in grids.items()}


@pytest.fixture
def recorded(method: str, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder(METHODS[method].solve_block)
    monkeypatch.setattr(METHODS[method], "solve_block", recorder)
    return recorder


def learned(model: Any, calibration: Any, method: str, granularity: str, bits: int, **more: Any) -> Any:
    """`model` quantized in few epochs."""
    options = {"epochs": 3, "learning_rate": 0.05, **more.pop("options", {})}
    scheme = "dynamic" if "activations" in more else "weight_only"
    return quantize(
        model, scheme, granularity, bits, backend="ptq", method=method, calibration=calibration, options=options, **more
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("granularity", "bits"), CODES)
def test_no_block_of_the_embedded_model_is_worse_than_at_the_start(
    method: str, granularity: str, bits: int, recorded: Recorder
) -> None:
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    spoken = get("embedded").load(Data(dataset="embedded", split="calibration", limit=6)).utterances
    calibration = recognizer.calibration_inputs([u.waveform() for u in spoken], [u.text for u in spoken], 4)
    learned(recognizer.model, calibration, method, granularity, bits)
    pairs = list(zip(recorded.begun, recorded.ended, strict=True))
    assert len(pairs) == 6
    assert all(ended <= begun for begun, ended in pairs)
    assert sum(ended < begun for begun, ended in pairs) >= 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_rate_that_is_far_too_high_does_no_harm(
    method: str, symmetric: bool, recorded: Recorder, whisper_inputs: dict[str, Tensor]
) -> None:
    learned(
        build_whisper(),
        [whisper_inputs],
        method,
        "per_group:32",
        3,
        symmetric=symmetric,
        options={"learning_rate": 50.0},
    )
    assert all(ended <= begun for begun, ended in zip(recorded.begun, recorded.ended, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_rounded_activations_are_learned_against(
    method: str, recorded: Recorder, whisper_inputs: dict[str, Tensor]
) -> None:
    result = learned(build_whisper(), [whisper_inputs], method, "per_channel", 4, activations=Activations(8))
    assert all(ended < begun for begun, ended in zip(recorded.begun, recorded.ended, strict=True))
    assert (layers(result)[0].input_channels is not None) == (method == "omniquant")
    assert torch.isfinite(logits(result, whisper_inputs)).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{"rotate": True}, {"smooth": 0.5}], ids=["rotate", "smooth"])
def test_what_options_do_before_is_kept(
    method: str, options: dict[str, Any], whisper_inputs: dict[str, Tensor]
) -> None:
    result = learned(build_whisper(), [whisper_inputs], method, "per_channel", 4, options=options)
    exact = build_whisper()
    for name, module in result.model.named_modules():
        if isinstance(module, QuantizedLinear):
            assert module.rotated == ("rotate" in options)
            assert (module.input_channels is not None) == ("smooth" in options)
            error = module.original_weight() - exact.get_submodule(name).weight
            assert error.norm() < 0.25 * exact.get_submodule(name).weight.norm()


@pytest.mark.parametrize("method", METHODS)
def test_runs_are_equal_and_survive_saving(method: str, tmp_path: Path, whisper_inputs: dict[str, Tensor]) -> None:
    once, again = (learned(build_whisper(), [whisper_inputs], method, "per_group:64", 2) for _ in range(2))
    once.save(tmp_path)
    assert torch.equal(logits(once, whisper_inputs), logits(again, whisper_inputs))
    assert torch.equal(logits(once, whisper_inputs), logits(load(tmp_path), whisper_inputs))


@pytest.mark.parametrize("method", METHODS)
def test_masked_positions_do_not_count(method: str, whisper_inputs: dict[str, Tensor]) -> None:
    other = {**whisper_inputs, "decoder_input_ids": whisper_inputs["decoder_input_ids"].clone()}
    other["decoder_input_ids"][1, 4:] = 77
    lengths = {"decoder": torch.tensor([7, 4])}
    results = [
        learned(build_whisper(), [CalibrationInput(inputs, lengths)], method, "per_group:64", 2)
        for inputs in (whisper_inputs, other)
    ]
    for one, two in zip(*map(layers, results), strict=True):
        assert torch.equal(one.codes, two.codes)
        assert torch.equal(one.grid_scale, two.grid_scale)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_is_learned_as_a_block_of_its_own(
    method: str, recorded: Recorder, whisper_inputs: dict[str, Tensor]
) -> None:
    result = learned(build_whisper(), [whisper_inputs], method, "per_group:32", 2, modules={"linear", "head"})
    assert isinstance(result.model.get_output_embeddings(), QuantizedLinear)
    assert len(recorded.begun) == 3
    assert all(ended < begun for begun, ended in zip(recorded.begun, recorded.ended, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_rest_of_the_model_stays(method: str, whisper_inputs: dict[str, Tensor]) -> None:
    result = learned(build_whisper(), [whisper_inputs], method, "per_channel", 3)
    names = [name for name, module in result.model.named_modules() if isinstance(module, QuantizedLinear)]
    before = {n: p for n, p in build_whisper().named_parameters() if n.rpartition(".")[0] not in names}
    after = dict(result.model.named_parameters())
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(tensor.requires_grad == after[name].requires_grad for name, tensor in before.items())


def layers(result: Any) -> list[QuantizedLinear]:
    return [module for module in result.model.modules() if isinstance(module, QuantizedLinear)]


def logits(result: Any, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        output: Tensor = result.model(**inputs).logits
    return output
