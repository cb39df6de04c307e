"""The batch size of a run, chosen once: whoever goes on with the run takes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.records.files import create_json, read_json


def settled(directory: Path, asked: int | str, choose: Callable[[], int]) -> int:
    """The batch size of a run: as asked, as it was chosen when the run began, or chosen now and written down."""
    if isinstance(asked, int):
        return asked
    path = directory / "batch_size.json"
    if not path.is_file():
        create_json(path, {"batch_size": choose()})
    return int(read_json(path)["batch_size"])
