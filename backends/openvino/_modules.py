"""Whisper's encoder in OpenVINO, as the module that stands in the place of the float one.

What the engine would do unasked is switched off: on processors that have it, OpenVINO computes in bf16, and it rounds
the inputs of layers with integer weights in groups of 32. Pinning its threads would put all workers on one core.
openvino and nncf report every import and use to their makers, unless a file in the home directory forbids it; from
here they do not, and `openvino.convert_model`, which would ask for that anew, is not used.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from openvino_telemetry import Telemetry

# One object for both libraries, which is made once and keeps its consent as long as it has this name.
Telemetry("OpenVINO", "", "", backend="ga4", enable_opt_in_dialog=True).consent = False

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from backends.core.errors import ModelError, UnsupportedError

GRAPH = "encoder.xml"


class OpenVinoEncoder(nn.Module):
    """An encoder that OpenVINO computes in float32, but for the layers that are quantized in its graph.

    Args:
        graph: takes features and gives the last hidden state.
        strides: of the two convolutions, which Whisper's `generate` asks the encoder for.
    """

    main_input_name = "input_features"

    def __init__(self, graph: openvino.Model, strides: tuple[int, int]) -> None:
        super().__init__()
        self.graph = graph
        self.conv1, self.conv2 = (SimpleNamespace(stride=(stride,)) for stride in strides)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        self._compiled = openvino.Core().compile_model(graph, "CPU", settings)

    def forward(
        self,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutput:
        """The last hidden state, (batch, positions, width); Whisper takes no notice of the mask.

        Raises:
            UnsupportedError: attentions or inner states are asked for.
        """
        if output_attentions or output_hidden_states:
            raise UnsupportedError("OpenVINO's encoder gives neither attentions nor the states of its layers")
        states = self._compiled(input_features.float().contiguous().numpy())[0]
        return BaseModelOutput(last_hidden_state=torch.from_numpy(states.copy()))

    def write(self, directory: Path) -> None:
        """Save the graph as it is; the library would save floats in fp16."""
        openvino.save_model(self.graph, directory / GRAPH, compress_to_fp16=False)


class _LastState(nn.Module):
    """An encoder that returns a tensor."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, features: Tensor) -> Tensor:
        states: Tensor = self.encoder(features).last_hidden_state
        return states


def traced(model: Any) -> openvino.Model:
    """The graph of a float Whisper's encoder, for any batch; modules keep their names in it."""
    encoder, config = model.get_encoder(), model.config
    frames = config.max_source_positions * encoder.conv1.stride[0] * encoder.conv2.stride[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: shapes that are fixed here, and are in use
        decoder = TorchScriptPythonDecoder(
            _LastState(encoder), example_input=(torch.zeros(2, config.num_mel_bins, frames),)
        )
        frontend = FrontEndManager().load_by_framework("pytorch")
        return frontend.convert(frontend.load(decoder))


def read(directory: Path) -> openvino.Model:
    """The graph that `OpenVinoEncoder.write` wrote."""
    return openvino.Core().read_model(directory / GRAPH)


def put(model: nn.Module, graph: openvino.Model) -> None:
    """Put the engine in the place of the encoder of `model`."""
    encoder: Any = model.get_encoder()  # type: ignore[operator]
    (name,) = [name for name, module in model.named_modules() if module is encoder]
    strides = encoder.conv1.stride[0], encoder.conv2.stride[0]
    model.set_submodule(name, OpenVinoEncoder(graph, strides))


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """`nncf`, without a word to the screen."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import nncf

        level = nncf.nncf_logger.level
        nncf.set_log_level(40)
        try:
            yield nncf
        finally:
            nncf.set_log_level(level)


def check(model: Any) -> None:
    """Raise `ModelError` for a model whose encoder cannot be converted."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind == "moonshine":
        raise ModelError("Moonshine's encoder cuts its mask to a length that tracing fixes: only Whisper is converted")
    if kind != "whisper" or not hasattr(model, "get_encoder"):
        raise ModelError(f"this adapter converts the encoder of Whisper, not of {type(model).__name__}")
