"""The command line of `python -m backends`: quantize a checkpoint, look into a saved one, export it, describe it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backends.core.base import Unsupported
from backends.core.checkpoint import Quantized, load, read_report
from backends.core.codes import NumberFormat, parse_granularity
from backends.core.errors import CheckpointError, SpecError, UnsupportedError
from backends.core.inspection import check_directory, check_recognizer
from backends.core.pretrained import check_device, hush_transformers, load_pretrained
from backends.core.quantize import calibrates, capability, quantize_spec, resolve
from backends.core.quiet import hush_torchao
from backends.core.report import LayerReport, QuantReport
from backends.core.spec import QuantSpec, Rest, Scheme

if TYPE_CHECKING:
    from torch import nn


def add_quantize(commands: Any) -> None:
    """Add `quantize` to the subcommands."""
    parser = commands.add_parser("quantize", help="quantize a checkpoint and save it")
    parser.add_argument("model", type=Path, help="directory of a transformers checkpoint with its processor")
    parser.add_argument("output", type=Path, help="directory to be made")
    parser.add_argument("--backend", help="such as hqq; python -m backends lists them")
    parser.add_argument("--scheme", default="weight_only", choices=[str(s) for s in Scheme])
    parser.add_argument("--granularity", default="per_channel", help="per_tensor, per_channel or per_group:64")
    parser.add_argument("--bits", type=int)
    parser.add_argument("--format", default="int", choices=[str(f) for f in NumberFormat])
    parser.add_argument("--method", help="default: the backend's own")
    parser.add_argument("--modules", default="linear", help="such as linear+head; default: linear")
    parser.add_argument("--parts", default="encoder+decoder", help="encoder, decoder, or both, the default")
    parser.add_argument("--rest", default="fp32", choices=[str(r) for r in Rest], help="of what is not quantized")
    parser.add_argument(
        "--recipe", metavar="JSON", help='rules, as the column recipe has them: \'[{"modules": ["tied"], "bits": 6}]\''
    )
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the backend, such as axis=0"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.set_defaults(action=_quantize)


def add_inspect(commands: Any) -> None:
    """Add `inspect` to the subcommands."""
    parser = commands.add_parser("inspect", help="what every layer of a saved quantized model is")
    parser.add_argument("directory", type=Path)
    parser.set_defaults(action=lambda options: _print_report(read_report(options.directory)))


def add_export(commands: Any) -> None:
    """Add `export` to the subcommands."""
    parser = commands.add_parser("export", help="write a saved quantized model in the format of another program")
    parser.add_argument("directory", type=Path, help="that quantize made")
    parser.add_argument("format", help="ggml, a file of whisper.cpp; or onnx, graphs for ONNX Runtime")
    parser.add_argument("output", type=Path, help="path to be made")
    parser.set_defaults(action=_export)


def add_card(commands: Any) -> None:
    """Add `card` to the subcommands."""
    parser = commands.add_parser("card", help="write the model card of a saved quantized model, and send it to the hub")
    parser.add_argument("directory", type=Path, help="that quantize made")
    parser.add_argument("--base-model", default="", metavar="NAME", help="on the hub, such as openai/whisper-tiny.en")
    parser.add_argument("--license", default="", help="of the base model, such as apache-2.0")
    parser.add_argument(
        "--push", metavar="REPOSITORY", help="on the hub; says what would be sent, with the card that is there"
    )
    parser.add_argument("--upload", action="store_true", help="with --push: send it, with the token in HF_TOKEN")
    parser.set_defaults(action=_card)


def _card(options: argparse.Namespace) -> None:
    from backends.core.card import Evaluated, card_of, push, updated_card, write_card

    if options.upload and not options.push:
        raise SpecError("--upload wants --push REPOSITORY")
    fresh = card_of(options.directory, options.base_model, options.license, Evaluated())
    there = updated_card(options.directory, options.base_model, options.license)
    print(write_card(options.directory, there or fresh))
    if options.push:
        print(push(options.directory, options.push, upload=options.upload))


def _export(options: argparse.Namespace) -> None:
    hush_transformers()
    load(options.directory).export(options.format, options.output)
    files = [path for path in (options.output, *options.output.rglob("*")) if path.is_file()]
    print(f"{options.output}: {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")


def _quantize(options: argparse.Namespace) -> None:
    for flag in ("backend", "bits"):
        if getattr(options, flag) is None:
            raise SpecError(f"--{flag} is missing; it stands after quantize")
    if "," in options.modules + options.parts:
        raise SpecError("--modules and --parts: join names with +, as in linear+head")
    spec = QuantSpec(
        Scheme(options.scheme),
        parse_granularity(options.granularity),
        options.bits,
        NumberFormat(options.format),
        method=options.method,
        modules=frozenset(options.modules.split("+")),  # type: ignore[arg-type]
        parts=frozenset(options.parts.split("+")),  # type: ignore[arg-type]
        rest=Rest(options.rest),
        recipe=_recipe(options.recipe or "[]"),
    )
    values = dict(_option(text) for text in options.option)
    resolved, _ = resolve(spec, options.backend, values)
    answer = capability(resolved, options.backend, values, options.device)
    if isinstance(answer, Unsupported):
        raise UnsupportedError(f"{options.backend}: {answer.reason}")
    if calibrates(resolved, options.backend, values):
        raise SpecError(
            f"{options.backend} needs calibration speech for {options.scheme}: call backends.quantize with "
            "calibration=..., or use an experiment file with [calibration]"
        )
    check_device(options.device)
    model = _loaded(options.model).to(options.device)
    with _new_directory(options.output):
        quantized = quantize_spec(model, spec, options.backend, values)
        quantized.save(options.output)
    _print_summary(quantized, options.output)


@contextmanager
def _new_directory(path: Path) -> Iterator[None]:
    """Make a directory, so that what forbids it is known before the work; it is gone if the block fails.

    Raises:
        CheckpointError: it cannot be made, or is there and not empty.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise CheckpointError(f"{path}: there is something already; name a new directory")
    except OSError as error:
        reason = "it is a file" if path.is_file() else f"cannot be made: {error.strerror}"
        raise CheckpointError(f"{path}: {reason}; name another directory") from None
    try:
        yield
    except BaseException:
        path.rmdir()
        raise


def _recipe(text: str) -> tuple[Any, ...]:
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise SpecError(f"--recipe {text}: it is no JSON ({error})") from None
    if not isinstance(rules, list):
        raise SpecError(f'--recipe {text}: write a list of rules, such as [{{"parts": ["decoder"], "bits": 4}}]')
    return tuple(rules)


def _option(text: str) -> tuple[str, Any]:
    import tomllib

    key, separator, value = text.partition("=")
    if not separator:
        raise SpecError(f"--option {text}: write it as KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _loaded(directory: Path) -> nn.Module:
    """The checkpoint's own class in float32, from safetensors, without running code of the checkpoint's."""
    check_directory(directory)
    if not (directory / "config.json").is_file():
        raise CheckpointError(f"{directory}: there is no config.json; it is not a transformers checkpoint")
    check_recognizer(directory)
    hush_torchao()
    import torch
    import transformers

    hush_transformers()
    try:
        config = transformers.AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{directory}: cannot be loaded: {str(error).splitlines()[0]}") from None
    model_class = getattr(transformers, (config.architectures or [""])[0], None)
    if model_class is None:
        raise CheckpointError(f"{directory / 'config.json'}: architectures names no model of transformers")
    model: nn.Module = load_pretrained(model_class, directory, torch.float32)
    return model


def _print_summary(quantized: Quantized, directory: Path) -> None:
    report = quantized.report
    Console(highlight=False).print(
        f"{directory}: {report.size_bytes / 1e6:.2f} MB, {report.size_reduction:.1%} less than in full precision, "
        f"{report.effective_bits:.2f} bits a weight",
        markup=False,
        soft_wrap=True,
    )


def _print_report(report: QuantReport) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(title=f"{report.size_bytes / 1e6:.2f} MB, {report.size_reduction:.1%} saved", title_justify="left")
    for heading in ("layer", "kind", "shape", "requested", "effective", "bits/weight", "weight error"):
        table.add_column(heading, overflow="fold")
    for layer in report.layers:
        table.add_row(*(escape(text) for text in _cells(layer)))
    console.print(table)
    for note in report.notes:
        console.print(note, markup=False)


def _cells(layer: LayerReport) -> Sequence[str]:
    error = "" if layer.weight_error is None else f"{layer.weight_error:.4f}"
    effective = str(layer.effective) if layer.effective is not None else layer.reason
    requested = "" if layer.requested is None else str(layer.requested)
    shape = " x ".join(map(str, layer.shape))
    return layer.name, str(layer.kind), shape, requested, effective, f"{layer.effective_bits:.2f}", error
