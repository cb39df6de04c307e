"""What the engine's arithmetic with 8-bit codes is worth on the processor that it runs on."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession


@cache
def products_are_exact() -> bool:
    """Whether this processor adds up the largest products of uint8 inputs with int8 weights exactly.

    Without VNNI instructions sums of two saturate in 16 bits, and nothing is said.
    """
    codes = np.full((64, 32), 127, dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["inputs", "codes"], ["sums"])],
        "largest",
        [helper.make_tensor_value_info("inputs", TensorProto.UINT8, [4, 64])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [4, 32])],
        [numpy_helper.from_array(codes, "codes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    engine = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = np.full((4, 64), 255, dtype=np.uint8)
    exact = inputs.astype(np.int32) @ codes.astype(np.int32)
    return bool((engine.run(None, {"inputs": inputs})[0] == exact).all())
