"""Reference tables of the READMEs: keys of experiment files from their models, backends from their answers."""

from __future__ import annotations

import inspect
import json
import re
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from backends import Capability, Supported, available
from backends.__main__ import matrix
from harness.experiment.base import Table
from harness.experiment.config import ActivationsTable, Experiment, Grid, Point, Published, Reference, RuleTable
from harness.experiment.tables import Calibration, Data, Decoding, Model, Run, Scoring, Stop

TABLES: dict[str, type[BaseModel]] = {
    "": Experiment,
    "[[model]]": Model,
    "[[data]]": Data,
    "[decoding]": Decoding,
    "[scoring]": Scoring,
    "[calibration]": Calibration,
    "[run]": Run,
    "[run.stop]": Stop,
    "[[grid]]": Grid,
    "[[grid]] activations": ActivationsTable,
    "[[grid]] recipe": RuleTable,
    "[[grid]] reference": Reference,
    "[[published]]": Published,
    "[[point]]": Point,
}
"""The tables of an experiment file, by their headings."""
_NAMES = {str: "text", int: "integer", float: "number", bool: "true, false"}


def key_table() -> str:
    """Every key of an experiment file: values, default and meaning, as Markdown."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for heading, table in TABLES.items():
        meanings = meanings_of(table)
        lines += [f"| **{heading}** | | | |"] if heading else []
        for key, field in table.model_fields.items():
            if key in meanings:
                cells = (f"`{key}`", values_of(field.annotation), _default(field), meanings[key])
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def meanings_of(table: type[BaseModel]) -> dict[str, str]:
    """What the docstring of a table says of its keys, those of its bases included."""
    found: dict[str, str] = {}
    for kind in reversed(table.__mro__[: table.__mro__.index(Table)]):
        text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        for names, meaning in re.findall(r"^ {4}(\w[\w, ]*): (.*(?:\n {8}.*)*)", text, flags=re.MULTILINE):
            found |= dict.fromkeys(names.split(", "), re.sub(r"\s+", " ", meaning))
    return found


def values_of(annotation: Any) -> str:
    """A type in words, for the cell of a table.

    >>> values_of(Literal["a", "b"] | None), values_of(int | list[int])
    ('`a`, `b`', 'integer, or a list')
    """
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values_of(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        parts = dict.fromkeys("a list" if _is_list(a) else values_of(a) for a in arguments if a is not type(None))
        *others, last = parts
        return ", or ".join([", ".join(others), last]) if others else last
    if _is_list(annotation):
        return "list"
    return "table"


def _is_list(annotation: Any) -> bool:
    inner = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    return get_origin(inner) is list


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value in (None, "", {}, []):
        return "" if value is None or value == "" else "none"
    return f"`{json.dumps(value) if isinstance(value, bool | list) else value}`"


def backend_table() -> str:
    """What every backend can do on the CPU of some machine, as Markdown: one row for a scheme."""
    lines = ["| backend | scheme | weights |", "|---|---|---|"]
    for backend in available():
        by_scheme: dict[str, list[str]] = {}
        for scheme, granularity, number_format, bits, answer in matrix(backend, "cpu"):
            if _possible(answer):
                by_scheme.setdefault(scheme, []).append(" ".join(_weights(granularity, number_format, bits, answer)))
        lines += [f"| `{backend}` | `{scheme}` | {'; '.join(weights)} |" for scheme, weights in by_scheme.items()]
    return "\n".join(lines)


def _possible(answer: Capability) -> bool:
    return isinstance(answer, Supported) or answer.elsewhere


def _weights(granularity: str, number_format: str, bits: str, answer: Capability) -> Iterator[str]:
    yield f"int {bits.replace(' ', ', ')}" if number_format == "int" else number_format
    if granularity == "any":
        yield "any granularity"
    else:
        yield re.sub(r"per_group:\d+\|[\d|]+", "per_group", granularity).replace(" ", " or ")
    if isinstance(answer, Supported) and answer.simulated:
        yield "(simulated)"
