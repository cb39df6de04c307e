"""Backends by name: the public modules of this package, and what others offer by entry point.

Names are listed without importing an adapter, and adapters import without their library.
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module, metadata
from pathlib import Path

from backends.core.base import Backend
from backends.core.errors import SpecError, did_you_mean

ENTRY_POINT_GROUP = "asrquant.backends"
_FOR_OTHERS = {"core", "extending", "testing"}
"""Public modules that are no backends."""
_BUILT_IN = Path(__file__).parents[1]


def available() -> list[str]:
    """Names of all backends, built-in ones and plug-ins, sorted; whether each can run here says its capability."""
    return sorted({*_built_in(), *_plugged_in()})


@cache
def get(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        SpecError: there is none, and a near name is proposed; or a plug-in cannot be loaded.
    """
    if name in _built_in():
        backend: Backend = import_module(f"backends.{name}").BACKEND
        return backend
    if name in _plugged_in():
        try:
            plugged: Backend = _plugged_in()[name].load()
        except Exception as error:  # whatever its code raises
            point = _plugged_in()[name].value
            raise SpecError(f"backend {name}: {point} cannot be loaded: {type(error).__name__}: {error}") from error
        if plugged.name != name:
            raise SpecError(f"backend {name}: its BACKEND is called {plugged.name!r}; give both the same name")
        return plugged
    raise SpecError(f"unknown backend {name!r}; there are {', '.join(available())}{did_you_mean(name, available())}")


@cache
def _built_in() -> frozenset[str]:
    names = {m.name for m in pkgutil.iter_modules([str(_BUILT_IN)]) if not m.name.startswith("_")}
    return frozenset(names - _FOR_OTHERS)


@cache
def _plugged_in() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
