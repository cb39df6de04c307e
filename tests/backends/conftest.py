"""What the tests of backends share."""

import copy
import hashlib

import pytest

from backends.core.base import missing_package
from backends.core.registry import get


@pytest.fixture(scope="session")
def exported_once():
    """ONNX graphs of equal models are exported once a session: that takes seconds, and says nothing new."""
    if missing_package(get("onnxruntime")):
        yield
        return
    from backends.onnxruntime import _modules

    export, kept = _modules.exported, {}

    def once(model, coded, *, tied):
        key = hashlib.sha256(f"{tied} {model.config}".encode())
        for name, tensor in model.state_dict().items():
            module, _, kind = name.rpartition(".")
            if module not in coded or kind == "bias":
                key.update(name.encode() + tensor.numpy().tobytes())
        for name, weight in coded.items():
            key.update(name.encode() + (b"" if weight.divisor is None else weight.divisor.numpy().tobytes()))
        if key.digest() not in kept:
            kept[key.digest()] = export(model, coded, tied=tied)
        return copy.deepcopy(kept[key.digest()])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_modules, "exported", once)
        yield
