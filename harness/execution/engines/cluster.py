"""Connection to a Ray cluster, the mailbox of its nodes, and a marker file in the run directory."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import backends
import harness
from harness.errors import ConfigError
from harness.execution.engines.node import Letter, Order, Post
from harness.execution.processes import environment
from harness.experiment.tables import Run
from harness.records.files import temporary_beside, writing
from harness.records.layout import Files

_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""With it Ray listens on loopback only, as it does on systems where it is for one machine."""
_IMPATIENT = {"RAY_NUM_REDIS_GET_RETRIES": "1"}
"""Else Ray tries for a quarter of an hour to reach a cluster that has gone."""
_SECONDS = 5.0


class Mailbox:
    """Letters on their way to the driver: a Ray actor on the driver's own node, so that it is lost with it only."""

    def __init__(self) -> None:
        self._letters: list[tuple[str, Letter]] = []
        self._arrived = asyncio.Event()
        self._stopping = False

    async def put(self, attempt: str, letters: Sequence[Letter]) -> bool:
        """Take letters of an attempt at a task; whether it is to end after its present batch."""
        self._letters += [(attempt, letter) for letter in letters]
        if letters:
            self._arrived.set()
        return self._stopping

    async def take(self) -> list[tuple[str, Letter]]:
        """All letters, in order; waits for one."""
        await self._arrived.wait()
        self._arrived.clear()
        letters, self._letters = self._letters, []
        return letters

    async def stop(self) -> None:
        """From now on whoever puts letters is asked to end."""
        self._stopping = True


@dataclass(frozen=True)
class RayPost:
    """See `Post`.

    Attributes:
        attempt: at a task.
        mailbox: where letters go.
        said: by id the cells whose transcripts are drafts, each boxed, so that Ray fetches none unasked.
    """

    attempt: str
    mailbox: Any
    said: Mapping[str, Sequence[Any]]

    def send(self, letters: Sequence[Letter]) -> bool:
        """Put them into the mailbox, and wait until they are there."""
        import ray

        stopping: bool = ray.get(self.mailbox.put.remote(self.attempt, letters))
        return stopping

    def drafts(self) -> dict[str, Files]:
        """Fetch them from the driver's node."""
        import ray

        return {cell_id: ray.get(ref) for cell_id, (ref,) in self.said.items()}


def on_node(duty: Callable[[Order, Post], None], order: Order, post: Post) -> None:
    """The Ray task."""
    duty(order, post)


@contextmanager
def connected(run: Run) -> Iterator[Any]:
    """Ray, connected to the cluster at `run.address`, or to one of this machine's own that ends with the block.

    Raises:
        ConfigError: nobody answers there, or another version of Ray or Python.
    """
    _check_answers(run.address)
    own = run.address == "local"
    with environment({**_IMPATIENT, **(_LOOPBACK if own else {})}):
        import ray

        with _signals_kept():
            try:
                ray.init(run.address, runtime_env=_code() if run.ship_code else None, **_quiet(own=own))
            except (OSError, RuntimeError, ValueError) as error:
                raise ConfigError(f"run.address {run.address!r}: {_unreached(str(error))}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _unreached(reason: str) -> str:
    """What a user can do where Ray does not answer; its own advice is for its own command."""
    if "Could not find any running Ray instance" in reason:
        return 'no Ray is running; start it (ray start --head), or set run.address = "local"'
    return f"Ray cannot be reached there: {reason.strip().partition(chr(10))[0]}"


def _quiet(*, own: bool) -> dict[str, Any]:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    return {**quiet, "include_dashboard": False} if own else quiet


def _code() -> dict[str, Any]:
    """The two packages with the embedded assets, for nodes that lack them; what they import must be there."""
    return {"py_modules": [str(Path(str(package.__file__)).parent) for package in (backends, harness)]}


def _check_answers(address: str) -> None:
    """Raise where an address with a port is dead, for which Ray itself would wait long."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS).close()
        except OSError as error:
            raise ConfigError(f"run.address {address!r}: nobody answers there: {error}") from None


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself; the runner's way to an end is to be kept."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def token(directory: Path) -> Iterator[tuple[Path, str]]:
    """A file in a directory by which others that see the same one can tell, and its content."""
    path, content = temporary_beside(directory / "shared"), uuid4().hex
    try:
        with writing(path):
            path.write_text(content, encoding="utf-8")
        yield path, content
    finally:
        path.unlink(missing_ok=True)
