"""A configuration quantized in a worker process and saved."""

from __future__ import annotations

import shutil
from multiprocessing.connection import Connection
from pathlib import Path

from harness.errors import OutputError
from harness.execution.preparation import Prepared
from harness.execution.processes import fork_server, start
from harness.execution.task import SaveTask
from harness.experiment.cell import Cell, CellStatus
from harness.records.files import temporary_beside, writing


def save(run: Prepared, cell: Cell, directory: Path) -> None:
    """Quantize the configuration of a cell and save the model, whole or not at all.

    Raises:
        OutputError: it could not be done.
    """
    (task,) = run.tasks([cell], workers=1)
    temporary = temporary_beside(directory.absolute())
    try:
        with writing(directory):
            temporary.parent.mkdir(parents=True, exist_ok=True)
        with fork_server(task.threads) as context:
            child = start(context, _enter_worker, SaveTask(task, temporary))
            _, end = child.events(run.experiment.run.stall_timeout, "the model was not saved")
        if end.status is not CellStatus.DONE:
            raise OutputError(f"{directory}: the model was not saved: {end.reason.partition(chr(10))[0]}")
        with writing(directory):
            temporary.replace(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _enter_worker(task: SaveTask, channel: Connection) -> None:
    from harness.execution import worker

    worker.save_model(task, channel)
