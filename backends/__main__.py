"""Print what every backend can do, quantize a checkpoint, look into a saved one, or export it.

One row for every backend, scheme, granularity and format, with the bits that get the same answer
side by side. No torch is needed for it.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backends import AsrQuantError, Capability, Granularity, QuantSpec, Scheme, Supported, available, capability
from backends._commands import add_card, add_export, add_inspect, add_quantize
from backends.core.codes import (
    FORMAT_BITS,
    NumberFormat,
    PerChannel,
    PerGroup,
    PerTensor,
)
from backends.core.commands import command_parser
from backends.core.spec import EVERYTHING, LINEAR, ModuleKind, Part

_GRANULARITIES: tuple[Granularity, ...] = (PerTensor(), PerChannel(), *map(PerGroup, (16, 32, 64, 128)))


_PLACES = (
    {"parts": frozenset({Part.ENCODER})},
    {"modules": EVERYTHING},
    {"modules": LINEAR | {ModuleKind.TIED}},
)
"""Other than all linear layers: some engines do the encoder alone, or a model as a whole."""


def matrix(backend: str, device: str) -> Iterator[tuple[str, str, str, str, Capability]]:
    """Yield (scheme, granularity, format, bits, answer); bits with the same answer are joined."""
    for scheme, number_format in itertools.product(Scheme, NumberFormat):
        answers: dict[tuple[str, Capability], list[str]] = {}
        for bits in _widths(number_format):
            for granularity in _GRANULARITIES:
                answer = _answer(QuantSpec(scheme, granularity, bits, number_format), backend, device)
                answers.setdefault((str(bits), answer), []).append(str(granularity))
        joined: dict[tuple[str, Capability], list[str]] = {}
        for (width, answer), granularities in answers.items():
            joined.setdefault((_brief(granularities), answer), []).append(width)
        for (granularities_text, answer), widths in joined.items():
            yield str(scheme), granularities_text, str(number_format), " ".join(widths), answer


def _answer(spec: QuantSpec, backend: str, device: str) -> Capability:
    """For all linear layers; where that is not possible, for a choice of layers for which it is, named in the note."""
    first = capability(spec, backend, device=device)
    if isinstance(first, Supported):
        return first
    for place in _PLACES:
        asked = replace(spec, **place)
        answer = capability(asked, backend, device=device)
        if isinstance(answer, Supported):
            where = "+".join(sorted(asked.parts if "parts" in place else asked.modules))
            return replace(answer, note=f"{where}{'; ' * bool(answer.note)}{answer.note}")
    return first


def _widths(number_format: NumberFormat) -> Sequence[int]:
    return [FORMAT_BITS[number_format]] if number_format in FORMAT_BITS else list(range(8, 0, -1))


def _brief(granularities: Sequence[str]) -> str:
    if len(granularities) == len(_GRANULARITIES):
        return "any"
    groups = [g.partition(":")[2] for g in granularities if g.startswith("per_group")]
    others = [g for g in granularities if not g.startswith("per_group")]
    return " ".join(others + ([f"per_group:{'|'.join(groups)}"] if groups else []))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command and (options.only or options.on):
        parser.error(f"--backend and --device stand after {options.command}")
    try:
        options.action(options)
    except AsrQuantError as error:
        print(f"error: {_as_flags(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted")
        return 130
    return 0


def _as_flags(sentence: str) -> str:
    """A sentence whose settings are spelled as flags of the command line.

    >>> _as_flags('say so with parts = ["encoder"] and modules = ["linear", "head"]')
    'say so with --parts encoder and --modules linear+head'
    """

    def flag(found: re.Match[str]) -> str:
        values = [value.strip().strip('"') for value in found["values"].strip("[]").split(",")]
        return f"--{found['key']} {'+'.join(values)}"

    keys = r"(?P<key>backend|parts|modules|bits|format|granularity|method|scheme|device)"
    return re.sub(rf"\b{keys} = (?P<values>\[[^\]]*\]|\"[^\"]*\"|\w+)", flag, sentence)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "backends",
        __doc__,
        [
            "",
            "--backend hqq --device cuda",
            "quantize MODEL_DIR OUT_DIR --backend hqq --bits 4 --granularity per_group:64",
            "inspect OUT_DIR",
            "export OUT_DIR ggml FILE",
            "card OUT_DIR --base-model openai/whisper-tiny.en --license apache-2.0",
        ],
        done="it is printed or saved",
    )
    parser.add_argument("--backend", dest="only", help="only this one")
    parser.add_argument("--device", dest="on", choices=["cpu", "cuda"], help="default: cpu")
    parser.set_defaults(action=_print_matrix)
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    add_quantize(commands)
    add_inspect(commands)
    add_export(commands)
    add_card(commands)
    return parser


def _print_matrix(options: argparse.Namespace) -> None:
    if options.only is not None and options.only not in available():
        capability(QuantSpec(Scheme.NONE, PerTensor(), 32, NumberFormat.FP32), options.only)
    Console(width=None if sys.stdout.isatty() else 160).print(_table(options.only, options.on or "cpu"))


def _table(only: str | None, device: str) -> Table:
    table = Table(
        title=f"what each backend can do on {device}, default options, all linear layers unless it says others",
        title_justify="left",
    )
    for heading in ("backend", "scheme", "granularity", "format", "bits", "possible"):
        table.add_column(heading, overflow="fold")
    for backend in [only] if only else available():
        refused: dict[str, list[tuple[str, str, str, str]]] = {}
        for scheme, granularity, number_format, bits, answer in matrix(backend, device):
            if isinstance(answer, Supported):
                yes = "[green]yes[/]" + (f": {escape(answer.note)}" if answer.note else "")
                table.add_row(backend, scheme, granularity, number_format, bits, yes)
            else:
                refused.setdefault(answer.reason, []).append((scheme, granularity, number_format, bits))
        for reason, rows in refused.items():
            united = [" ".join(dict.fromkeys(" ".join(column).split())) for column in zip(*rows, strict=True)]
            table.add_row(backend, *united, f"[red]no[/]: {escape(reason)}")
        table.add_section()
    return table


if __name__ == "__main__":
    sys.exit(main())
