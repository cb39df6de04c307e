"""torch.ao.quantization, which torch has announced to end: whether it is still there, and the one way to it.

The adapters torch_dynamic and torch_static were tried with torch 2.13; 2.15 still has the package. Where it is
gone both say so, and name the adapter of the library that follows it.
"""

from __future__ import annotations

from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from typing import Any

from backends.core.base import Unsupported
from backends.core.errors import UnsupportedError

_NEEDED = ("torch.ao.quantization", "torch.ao.nn.quantized.dynamic")


def ended() -> Unsupported | None:
    """The answer where torch has no torch.ao.quantization, or `None`. It looks for files and imports nothing."""
    lacking = [name for name in _NEEDED if not _found(name)]
    return Unsupported(_reason(f"{lacking[0]} is missing")) if lacking else None


def torch_ao() -> Any:
    """Every name of torch.ao that the adapters use, as one module.

    Raises:
        UnsupportedError: torch does not have all of them.
    """
    try:
        from backends._torch_ao import _modules
    except (ImportError, AttributeError) as error:
        raise UnsupportedError(_reason(str(error))) from error
    return _modules


def _reason(what: str) -> str:
    return (
        "this torch no longer has the torch.ao.quantization that is needed (tried with torch 2.13): "
        f"use the backend torchao, or an older torch ({what})"
    )


def _found(name: str) -> bool:
    """Whether a module is there to be imported; unlike `find_spec`, without importing the packages it stands in."""
    first, *others = name.split(".")
    spec: ModuleSpec | None = find_spec(first)
    for other in others:
        if spec is None or spec.submodule_search_locations is None:
            return False
        spec = PathFinder.find_spec(f"{spec.name}.{other}", spec.submodule_search_locations)
    return spec is not None
