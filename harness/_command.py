"""What command lines have in common: how an experiment is named and changed, and what becomes of a user's mistake."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from backends import AsrQuantError
from backends.core.commands import command_parser
from backends.core.quiet import hush_torchao
from harness._printing import printable
from harness.embedded import EXPERIMENT as EMBEDDED
from harness.errors import ConfigError
from harness.experiment.config import Experiment, load_experiment


def experiment_parser(
    program: str, purpose: str | None, examples: Sequence[str], *, done: str, failed: str
) -> argparse.ArgumentParser:
    """`command_parser` for what works on the configurations of an experiment: its file, `--only`, `--set`, `--out`."""
    parser = command_parser(program, purpose, examples, done=done, failed=failed)
    parser.add_argument("file", type=Path, help="experiment, such as mine.toml; or embedded, the benchmark inside")
    parser.add_argument(
        "--only", metavar="KEY=VALUE,...", help='only matching configurations, such as "backend=hqq,bits=4|3"'
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument("--limit", type=int, metavar="N", help="N utterances of every split, balanced over speakers")
    parser.add_argument("--out", metavar="DIR", help="where <name>/ is made; default: runs")
    return parser


def experiment_of(options: argparse.Namespace, *overrides: str) -> Experiment:
    """The experiment that `experiment_parser`'s options name, with the command line's changes.

    With limited splits it is another experiment, with a directory of its own.

    Raises:
        ConfigError: see `load_experiment`.
    """
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit is {options.limit}; it must be at least 1")
    inside = str(options.file) == EMBEDDED.stem and not options.file.is_file()
    experiment = load_experiment(EMBEDDED if inside else options.file, [*options.set, *overrides])
    if options.out is not None:
        run = experiment.run.model_copy(update={"output": options.out})
        experiment = experiment.model_copy(update={"run": run})
    if options.limit is None:
        return experiment
    data = [one.model_copy(update={"limit": options.limit}) for one in experiment.data]
    return experiment.model_copy(update={"data": data, "name": f"{experiment.name}-limit{options.limit}"})


def run_command(action: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Return the exit status of `action`: 2 for what the user can mend, 130 after Ctrl-C, each with a sentence.

    A request to end (SIGTERM, as batch systems send it, and SIGHUP) is taken as Ctrl-C.
    """
    hush_torchao()
    try:
        with _ending_as_interrupted():
            return action()
    except AsrQuantError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except MemoryError:
        print("error: there is not enough memory; take fewer workers or a smaller batch", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}")
        return 130
    except BrokenPipeError:  # who reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@contextmanager
def _ending_as_interrupted() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
