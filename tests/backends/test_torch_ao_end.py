"""What the torch.ao adapters say under a torch that no longer has torch.ao.quantization."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from backends import quantize

CASES = [("torch_dynamic", "dynamic"), ("torch_static", "static")]
SEVEN = {"torch_dynamic": {}, "torch_static": {"reduce_range": True}}
"""Options with which every processor multiplies exactly."""

CAPABILITY = """
import sys
from backends import QuantSpec, Unsupported, PerChannel, capability
answer = capability(QuantSpec("{scheme}", PerChannel(), 8), "{backend}")
assert isinstance(answer, Unsupported), answer
assert "backend torchao" in answer.reason and "torch.ao.quantization is missing" in answer.reason, answer.reason
assert "torch" not in sys.modules
"""

BLOCKED = """
import sys, torch
from backends import UnsupportedError, load, quantize
from torch import nn

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("torch.ao.quantization"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

def torch_without():
    for name in [name for name in sys.modules if name.startswith("torch.ao.quantization")]:
        del sys.modules[name]
    vars(torch.ao).pop("quantization", None)
    sys.meta_path.insert(0, Blocked())

def torch_without_a_function():
    import torch.ao.quantization
    del torch.ao.quantization.convert

def refused(action, model):
    weight = model[0].weight
    try:
        action()
    except UnsupportedError as error:
        assert "backend torchao" in str(error), error
        assert model[0].weight is weight
    else:
        raise SystemExit("nothing was refused")

end, *saved = sys.argv[1:]
globals()[end]()
model, inputs = nn.Sequential(nn.Linear(64, 64)), [torch.zeros(2, 64)]
for backend, scheme in (("torch_dynamic", "dynamic"), ("torch_static", "static")):
    refused(lambda: quantize(model, scheme, "per_channel", 8, backend=backend, calibration=inputs), model)
for directory in saved:
    refused(lambda: load(directory, model), model)
"""


def run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(("backend", "scheme"), CASES)
def test_capability_finds_out_without_importing_torch(backend, scheme, tmp_path):
    package = tmp_path / "torch"
    (package / "ao").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('torch was imported')\n")
    (package / "ao" / "__init__.py").write_text("")
    run(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{CAPABILITY.format(backend=backend, scheme=scheme)}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model of each adapter, saved while torch.ao was there."""
    root = tmp_path_factory.mktemp("saved")
    for backend, scheme in CASES:
        model, inputs = nn.Sequential(nn.Linear(64, 64)), [torch.zeros(2, 64)]
        settings = {"calibration": inputs, "options": SEVEN[backend]}
        quantize(model, scheme, "per_channel", 8, backend=backend, **settings).save(root / backend)
    return [root / backend for backend, _ in CASES]


@pytest.mark.parametrize("end", ["torch_without", "torch_without_a_function"])
def test_quantizing_and_loading_are_refused_before_a_weight_is_touched(end, saved):
    run(BLOCKED, end, *saved)
