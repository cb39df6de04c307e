"""A node that is not like the driver says what it lacks, and does nothing."""

import dataclasses
import platform
from pathlib import Path

import pytest

from harness.execution.engines.node import Began, Order, work
from harness.execution.task import Ended
from harness.experiment.cell import CellStatus
from harness.experiment.tables import Data
from tests.harness.execution.test_engines import Workbench, install, plugged_in
from tests.harness.faults import WORKS


class Letters:
    """A way to a driver who reads nothing."""

    def __init__(self):
        self.sent = []

    def send(self, letters):
        self.sent += letters
        return False

    def drafts(self):
        return {}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    root = tmp_path_factory.mktemp("node")
    pid = install(root / "plugin")
    with plugged_in(root / "plugin"):
        yield Workbench(root, pid, None).task(WORKS)


def of_cell(task, **changes):
    (cell,) = task.cells
    return dataclasses.replace(task, cells=(dataclasses.replace(cell, **changes),))


def of_identity(task, key, value):
    return of_cell(task, identity={**task.cells[0].identity, key: value})


def other_software(task):
    return of_identity(task, "versions", {**task.cells[0].identity["versions"], "torch": "1.0"})


def other_speech(task):
    return of_identity(task, "data", {**task.cells[0].identity["data"], "revision": "0"})


def no_speech(task):
    return of_cell(task, data=Data(dataset="folder", root="/nowhere/speech"))


def other_model(task):
    return of_identity(task, "model", {"revision": "0", "dtype": "float32"})


def no_model(task):
    own = task.configuration.model.model_copy(update={"path": "models/mine"})
    configuration = dataclasses.replace(task.configuration, model=own)
    return dataclasses.replace(task, configuration=configuration, model_directory=Path("/nowhere/models/mine"))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (other_software, "and 1.0 at the driver; install the same"),
        (other_speech, "the data set clean is another one than the driver's; install the same asrquant"),
        (no_speech, "/nowhere/speech"),
        (other_model, "it is another model than the driver's; copy the same files"),
        (no_model, "/nowhere/models/mine': there is no such directory"),
    ],
)
def test_what_a_node_lacks_is_a_sentence_that_names_it(task, changed, words):
    post = Letters()
    work(Order(changed(task), (task.run_directory / "token", ""), 60.0), post)
    began, end = post.sent
    assert began == Began()
    assert isinstance(end, Ended)
    assert end.status is CellStatus.FAILED
    assert end.reason.startswith(f"node {platform.node()}: ")
    assert words in end.reason
