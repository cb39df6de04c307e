"""What the library's own quantizers make: codes in groups, and graphs with 8-bit weights and inputs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from backends.core.base import Calibration, CalibrationInput
from backends.core.codes import PerChannel, PerGroup
from backends.core.errors import ModelError
from backends.core.integers import IntegerWeight
from backends.core.spec import QuantSpec, Scheme
from backends.onnxruntime._generator import session
from backends.onnxruntime._modules import Graphs, quiet
from backends.onnxruntime._weights import products, save, unpacked

if TYPE_CHECKING:
    from torch import Tensor

Feeds = Iterator[dict[str, Any]]


def rounded(weight: Tensor, spec: QuantSpec) -> IntegerWeight:
    """A float weight, (rows, columns), rounded in groups as the library does it."""
    code, group = spec.weight_code, spec.granularity
    assert code is not None, "a width is given"
    assert isinstance(group, PerGroup), "capability refuses everything else"
    library = _of_blocks()
    settings = library.DefaultWeightOnlyQuantConfig(group.group_size, bool(code.symmetric), bits=code.bits)
    quantizer = library.DefaultWeightOnlyQuantizer(settings)
    data, scale, zero = quantizer.qbits_block_quant(weight.float().t().contiguous().numpy())
    rows, columns = weight.shape
    return IntegerWeight(
        code,
        torch.from_numpy(unpacked(data.reshape(rows, -1), code.bits, columns)),
        torch.from_numpy(scale),
        None if code.symmetric else torch.from_numpy(unpacked(zero, code.bits, scale.shape[1])),
    )


def _of_blocks() -> Any:
    """The library's module, which would configure the root logger of the whole process unless that has a handler."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        from onnxruntime.quantization import matmul_nbits_quantizer
    finally:
        logging.root.removeHandler(handler)
    return matmul_nbits_quantizer


def with_integers(graphs: Graphs, names: Sequence[str], spec: QuantSpec, calibration: Calibration | None) -> Graphs:
    """The graphs with 8-bit codes of some linear layers, by name, and of their inputs.

    Raises:
        ModelError: ranges of inputs are to be fixed, and there is no calibration input.
    """
    of_weights = {
        "op_types_to_quantize": ["MatMul"],
        "per_channel": spec.granularity == PerChannel(),
        "reduce_range": spec.bits == 7,
        "weight_type": QuantType.QInt8 if spec.symmetric else QuantType.QUInt8,
    }

    def dynamic(model: ModelProto, inside: list[str], target: Path, feeds: Feeds) -> None:
        quantize_dynamic(model, target, nodes_to_quantize=inside, **of_weights)

    def static(model: ModelProto, inside: list[str], target: Path, feeds: Feeds) -> None:
        outputs = {} if spec.outputs else {"OpTypesToExcludeOutputQuantization": ["MatMul"]}
        settings = {**of_weights, "activation_type": QuantType.QUInt8, "extra_options": outputs}
        quantize_static(model, target, _Reader(feeds), nodes_to_quantize=inside, **settings)

    if spec.scheme is Scheme.DYNAMIC:
        nothing: tuple[Feeds, Feeds] = (iter(()), iter(()))
        return _quantized(graphs, names, dynamic, nothing)
    utterances = list(_utterances(calibration))
    if not utterances:
        raise ModelError("the static scheme needs calibration inputs: pass calibration=[...] to quantize")
    with TemporaryDirectory(prefix="asrquant-onnxruntime-") as directory:
        save(graphs.encoder, Path(directory), "encoder")
        encoder = session(Path(directory) / "encoder.onnx")
        speech = ({"speech": own} for own, _ in utterances)
        return _quantized(graphs, names, static, (speech, _decoder_feeds(encoder, utterances)))


def _quantized(
    graphs: Graphs,
    names: Sequence[str],
    quantize: Callable[[ModelProto, list[str], Path, Feeds], None],
    feeds: tuple[Feeds, Feeds],
) -> Graphs:
    found = []
    for model, own in zip((graphs.encoder, graphs.decoder), feeds, strict=True):
        inside = [name for name in products(model) if name in names]
        if inside:
            add_pre_process_metadata(model)  # or it asks for shapes, which torch has put in
            with TemporaryDirectory(prefix="asrquant-onnxruntime-") as directory, quiet():
                target = Path(directory) / "quantized.onnx"
                quantize(model, inside, target, own)
                model = onnx.load(target)
        found.append(model)
    return Graphs(*found)


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """The library's way of asking for inputs."""

    def __init__(self, feeds: Feeds) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        """The next ones, `None` after the last."""
        return next(self._feeds, None)


def _utterances(calibration: Calibration | None) -> Iterator[tuple[Any, Any]]:
    """Speech and tokens of every utterance by itself, both (1, ...), without the padding that is known."""
    for batch in calibration or ():
        shown = batch if isinstance(batch, CalibrationInput) else CalibrationInput(batch)
        inputs: Mapping[str, Tensor] = shown.inputs  # type: ignore[assignment]
        tokens = inputs["decoder_input_ids"]
        counts = shown.lengths.get("decoder", torch.full((len(tokens),), tokens.shape[1]))
        for row, count in enumerate(counts.tolist()):
            if "input_features" in inputs:
                speech = inputs["input_features"][row : row + 1]
            else:
                samples, mask = inputs["input_values"][row : row + 1], inputs.get("attention_mask")
                speech = samples if mask is None else samples[:, : int(mask[row].sum())]
            yield speech.float().contiguous().numpy(), tokens[row : row + 1, :count].contiguous().numpy()


def _decoder_feeds(encoder: Any, utterances: Sequence[tuple[Any, Any]]) -> Feeds:
    """Tokens with what the float encoder makes of their speech, and an empty cache."""
    names = [output.name for output in encoder.get_outputs()]
    for speech, tokens in utterances:
        cross = dict(zip(names, encoder.run(names, {"speech": speech}), strict=True))
        past = {name.replace("cross", "past"): np.zeros_like(value[:, :, :0]) for name, value in cross.items()}
        yield {"tokens": tokens, **cross, **past}
