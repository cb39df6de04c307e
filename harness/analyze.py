"""Find out why configurations lose: layer by layer beside full precision, on speech of the experiment.

Writes runs/<name>/analysis/<configuration>.json, which harness.report and harness.figures show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from backends import Form, Scheme
from backends.core.recipes import plain_specs
from harness._command import experiment_of, experiment_parser, run_command
from harness._printing import printable
from harness.errors import ConfigError
from harness.execution.task import Analysed, AnalysisTask, Ended, Task
from harness.experiment.cell import Cell, CellStatus, Configuration
from harness.experiment.config import Experiment
from harness.experiment.plan import configurations, select
from harness.report.outputs import rounded_outputs

if TYPE_CHECKING:
    from harness.records.recording import RunDirectory
    from harness.resolution.identity import Resolved

_SHOWN = 5
_NUMBERS = {
    "output_error": "output error",
    "input_kurtosis": "input kurtosis",
    "input_peak_ratio": "input peak",
    "output_kurtosis": "output kurtosis",
    "output_peak_ratio": "output peak",
    "output_range_ratio": "output range",
}
_UNSEEN = "not analysed: another engine computes its layers unseen"
Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 200)
    return run_command(lambda: _run(options, console), "interrupted: what is analysed is kept; --only names the rest")


def _parser() -> argparse.ArgumentParser:
    parser = experiment_parser(
        "harness.analyze",
        __doc__,
        ['experiments/edge_asr_why.toml --only "bits=3|2"', "mine.toml --split test --utterances 16"],
        done="all is analysed that can be",
        failed="some failed",
    )
    parser.add_argument("--split", metavar="NAME", help="test set whose speech is taken; default: the first")
    parser.add_argument("--utterances", type=int, default=32, metavar="N", help="how many; default: 32")
    return parser


def _run(options: argparse.Namespace, console: Console) -> int:
    from harness.recognition.loading import inspect_checkpoint
    from harness.records.batch_size import settled
    from harness.records.recording import RunDirectory
    from harness.resolution.identity import resolve

    if options.utterances < 1:
        raise ConfigError("--utterances must be at least 1")
    experiment = experiment_of(options)
    split = options.split or experiment.data[0].label
    if split not in {data.label for data in experiment.data}:
        raise ConfigError(f"--split {split}: the experiment has {', '.join(data.label for data in experiment.data)}")
    planned = configurations(experiment)
    quantizing = [c for c in (planned if options.only is None else select(planned, options.only)) if _quantizes(c)]
    chosen = [c for c in quantizing if c.form is Form.LAYERS]
    for configuration in quantizing:
        if configuration not in chosen:
            console.print(f"{configuration.label}: {_UNSEEN}", markup=False, highlight=False)
    if not chosen:
        where = f"--only {options.only}" if options.only else str(options.file)
        raise ConfigError(f"{where}: no configuration that can be analysed quantizes anything; name others")
    directory = RunDirectory(Path(experiment.run.output).expanduser() / experiment.name)
    with directory.held():
        resolved = resolve(experiment, chosen, partial(settled, directory.path))
        for model in resolved.models.values():
            inspect_checkpoint(model.directory, experiment.decoding)
        ends = _analysed(experiment, chosen, resolved, split, options.utterances, directory, console)
    console.print(f"{directory.path / 'analysis'}: shown by python -m harness.report {directory.path}", highlight=False)
    return 0 if all(end.status in (CellStatus.DONE, CellStatus.UNSUPPORTED) for end in ends) else 1


def _quantizes(configuration: Configuration) -> bool:
    return configuration.spec.scheme is not Scheme.NONE and configuration.form is not None


def _analysed(
    experiment: Experiment,
    chosen: Sequence[Configuration],
    resolved: Resolved,
    split: str,
    utterances: int,
    directory: RunDirectory,
    console: Console,
) -> list[Ended]:
    """Analyse one configuration after another; how each ended."""
    from harness.execution.processes import fork_server, start
    from harness.resolution.identity import cells_of

    ends = []
    with fork_server(experiment.run.threads_per_worker) as context:
        for configuration in chosen:
            cell = next(c for c in cells_of(configuration, experiment, resolved) if c.data.label == split)
            model = resolved.models[configuration.model].directory
            child = start(
                context, _enter_worker, AnalysisTask(Task.of([cell], experiment, model, directory.path), utterances)
            )
            events, end = child.events(experiment.run.stall_timeout, "no layer was done")
            ends.append(end)
            document = next((event.document for event in events if isinstance(event, Analysed)), None)
            if document is None:
                reason = printable(end.reason.partition("\n")[0])
                console.print(f"{configuration.label}: {end.status}: {reason}", markup=False, highlight=False)
                continue
            document = {**_about(configuration, cell), **document}
            directory.write_analysis(configuration.id, document)
            console.print(_table(configuration, document))
            if rounded := rounded_outputs(document):
                console.print(rounded, markup=False, highlight=False)
    return ends


def _enter_worker(task: AnalysisTask, channel: Connection) -> None:
    from harness.execution import worker

    worker.analyse(task, channel)


def _about(configuration: Configuration, cell: Cell) -> Row:
    spec = configuration.spec
    rounded = spec.activations is not None and all(own.outputs for own in plain_specs(spec))
    return {
        "configuration_id": configuration.id,
        "configuration": configuration.label,
        "model": configuration.model.label,
        "split": cell.data.label,
        "output_bits": spec.activations.bits if rounded and spec.activations else None,
    }


def _table(configuration: Configuration, document: Row) -> Table:
    """The layers that do most damage alone, most first, and the parts."""
    table = Table(
        title=f"{escape(configuration.label)}: layers that do most damage alone, and the parts",
        caption="divergence and NLL in nats a token beyond full precision; peak: largest channel over the median; "
        "range: all that one scale spans, in standard deviations",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("layer")
    for heading in ("divergence", "NLL", *_NUMBERS.values()):
        table.add_column(heading, justify="right")
    table.add_column("outlier channels")
    worst = sorted(document["layers"], key=lambda row: -row["divergence"])[:_SHOWN]
    for row in [*worst, *document["parts"]]:
        channels = ", ".join(map(str, row.get("outlier_channels", [])[:8]))
        numbers = [_shown(row.get(key)) for key in _NUMBERS]
        table.add_row(escape(row["name"]), _shown(row["divergence"]), _shown(row["nll"]), *numbers, channels)
    return table


def _shown(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
