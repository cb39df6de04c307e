"""The frame of a task in its own process: output to a log, a stop on request, errors as events."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from backends import AsrQuantError, CheckpointError, ModelError, UnsupportedError
from harness.errors import OutputError
from harness.execution.processes import die_with_parent
from harness.execution.task import Ended, Unwritable
from harness.experiment.cell import CellStatus

_NO_MEMORY = ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory")
"""What torch's allocator, C++ and the kernel say, in errors that are not MemoryError."""


class Stopped(Exception):
    """The runner asked for an end after the present batch, which is kept."""


stop_requested = threading.Event()


def guarded(action: Callable[[Any, Connection, Path, Path], None], task: Any, channel: Connection) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop_requested.set())
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log.txt"
        with _output_to(log):
            try:
                action(task, channel, Path(scratch), log)
                channel.send(Ended(CellStatus.DONE, ""))
            except Stopped:
                pass
            except Exception as error:
                channel.send(_ending(error, Path(scratch)))
    channel.close()


def _ending(error: Exception, scratch: Path) -> Ended | Unwritable:
    """What an error means for the task, or for the whole run."""
    text = str(error)
    if isinstance(error, OutputError):
        return Unwritable(text)
    if "No space left on device" in text:  # also what libraries say, in errors of their own
        return Unwritable(f"{scratch}: no space is left for temporary files; make room, or set TMPDIR to another place")
    if isinstance(error, UnsupportedError | ModelError | CheckpointError):
        return Ended(CellStatus.UNSUPPORTED, text)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return Ended(CellStatus.OUT_OF_MEMORY, f"not enough memory: {text}")
    if isinstance(error, AsrQuantError):
        return Ended(CellStatus.FAILED, text)
    no_room = any(words in text for words in _NO_MEMORY)
    status = CellStatus.OUT_OF_MEMORY if no_room else CellStatus.FAILED
    trace = "".join(traceback.format_exception(error))
    return Ended(status, f"{type(error).__name__}: {text}\n{trace}")


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send everything that this process and its libraries print to a file, C code included."""
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    yield
    sys.stdout.flush()
    sys.stderr.flush()


def text_of(log: Path) -> str:
    sys.stdout.flush()
    sys.stderr.flush()
    return log.read_text(errors="replace")
