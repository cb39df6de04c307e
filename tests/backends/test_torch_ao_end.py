"""What the torch.ao adapters say under a torch that no longer has torch.ao.quantization."""

import subprocess
import sys

import pytest

CASES = [("torch_dynamic", "dynamic"), ("torch_static", "static")]

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
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def torch_without():
    for name in [name for name in sys.modules if name.startswith("torch.ao.quantization")]:
        del sys.modules[name]
    vars(torch.ao).pop("quantization", None)
    sys.meta_path.insert(0, Blocked())

def torch_without_a_function():
    import torch.ao.quantization
    del torch.ao.quantization.convert

{end}()
model = nn.Sequential(nn.Linear(64, 64))
weight = model[0].weight
try:
    {action}
except UnsupportedError as error:
    assert "backend torchao" in str(error), error
    assert model[0].weight is weight
else:
    raise SystemExit("nothing was refused")
"""

QUANTIZE = 'quantize(model, "{scheme}", "per_channel", 8, backend="{backend}", calibration=[torch.zeros(2, 64)])'


def run(code, *, first=()):
    code = f"import sys; sys.path[:0] = {list(map(str, first))}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(("backend", "scheme"), CASES)
def test_capability_finds_out_without_importing_torch(backend, scheme, tmp_path):
    package = tmp_path / "torch"
    (package / "ao").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('torch was imported')\n")
    (package / "ao" / "__init__.py").write_text("")
    run(CAPABILITY.format(backend=backend, scheme=scheme), first=[tmp_path])


@pytest.mark.parametrize("end", ["torch_without", "torch_without_a_function"])
@pytest.mark.parametrize(("backend", "scheme"), CASES)
def test_quantizing_is_refused_before_a_weight_is_touched(backend, scheme, end):
    action = QUANTIZE.format(backend=backend, scheme=scheme)
    run(BLOCKED.format(end=end, action=action))


@pytest.mark.parametrize(("backend", "scheme"), CASES)
def test_loading_is_refused_too(backend, scheme, tmp_path):
    quantized = QUANTIZE.format(backend=backend, scheme=scheme)
    saving = f"model = nn.Sequential(nn.Linear(64, 64))\n{quantized}.save({str(tmp_path)!r})"
    run(f"import torch\nfrom torch import nn\nfrom backends import quantize\n{saving}")
    run(BLOCKED.format(end="torch_without", action=f"load({str(tmp_path)!r}, model)"))
