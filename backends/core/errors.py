"""The exceptions that users of the adapters meet; what is theirs to mend derives from `AsrQuantError`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AsrQuantError(Exception):
    """Something that the user can mend; its message is one sentence that says how."""


class SpecError(AsrQuantError, ValueError):
    """A specification that contradicts itself or names something unknown."""


class UnsupportedError(AsrQuantError):
    """A backend cannot do what the specification asks; the message is the capability's reason."""


class ModelError(AsrQuantError):
    """A model that the specification cannot be applied to; the message names every offending module."""


class CheckpointError(AsrQuantError):
    """A saved model that is incomplete, altered, or of an unknown version."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A question that proposes the nearest of the names, to stand behind a sentence; empty where none is near.

    >>> did_you_mean("quantoo", ["hqq", "quanto"]), did_you_mean("", ["hqq"])
    ("; did you mean 'quanto'?", '')
    """
    close = difflib.get_close_matches(name, [str(each) for each in names], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
