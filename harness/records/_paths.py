"""Text and documents without what says where and by whom they were made: local paths, home directories, host names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from harness.experiment.conditions import NOISES
from harness.experiment.config import Experiment
from harness.experiment.tables import Data, is_local

_PATH = re.compile(r"(?<![\w/.~])(?:file://)?(?!//)(?:~[\w.-]*|\.{1,2})?/[^\s\"'<>|,;:()\[\]{}]+")
"""A path that does not begin in the working directory; an address of the web is none."""
_HOST = re.compile(r"(ray://|run\.address\s*=\s*)[^\s\"']+|(?<=run\.address=)\"[^\"]*\"")


class Paths:
    """What is known to be local, and how it is called where others read it.

    Args:
        run: the run's directory.
        experiment: as it was asked for.
    """

    def __init__(self, run: Path, experiment: Experiment) -> None:
        asked = [path for data in _test_sets(experiment) for path in (data.root, data.alignments)]
        roots = [path for path in asked if path is not None]
        noises = [data.condition.noise for data in _test_sets(experiment) if data.condition.noise not in NOISES]
        models = [model.path for model in experiment.model if is_local(model.path)]
        local = [run, Path.cwd(), Path.home(), *map(Path, (*roots, *noises, *models))]
        known = {str(spelling) for path in local for spelling in _spellings(path)}
        self._known = sorted(known, key=len, reverse=True)
        self._models = _names(model.path for model in experiment.model)

    def model(self, name: str) -> str:
        """What a model is called where its path means nothing."""
        return self._models.get(name, name)

    def text(self, text: str) -> str:
        """The text, every local path of it cut down to its last part."""
        for path in self._known:
            text = re.sub(rf"{re.escape(path)}(?=/|\b)/?", lambda found: _tail(found[0]), text)
        return _PATH.sub(lambda found: PurePosixPath(found[0]).name or found[0], _HOST.sub(r"\1...", text))

    def command(self, command: str) -> str:
        """A recorded command line; an argument may have spaces, so each is looked at by itself."""
        try:
            arguments = shlex.split(command)
        except ValueError:
            return self.text(command)
        return shlex.join(self.text(argument) for argument in arguments)

    def environment(self, environment: Mapping[str, Any]) -> dict[str, Any]:
        """Versions and machine; the command line without paths."""
        return {
            key: self.command(value) if key == "command" and isinstance(value, str) else value
            for key, value in environment.items()
        }

    def experiment(self, experiment: Experiment) -> Experiment:
        """The experiment without where its models, its speech and its results lie; ids of the hub stay."""
        run = experiment.run.model_copy(update={"output": "runs", "address": "auto"})
        calibration = experiment.calibration
        if calibration is not None:
            calibration = calibration.model_copy(update={"data": _elsewhere(calibration.data)})
        return experiment.model_copy(
            update={
                "model": [m.model_copy(update={"path": self.model(m.path)}) for m in experiment.model],
                "data": [_elsewhere(data) for data in experiment.data],
                "calibration": calibration,
                "run": run,
                "published": [p.model_copy(update={"model": self.model(p.model)}) for p in experiment.published],
                "grid": [
                    block.model_copy(update={"models": block.models and list(map(self.model, block.models))})
                    for block in experiment.grid
                ],
            }
        )


def _elsewhere(data: Data) -> Data:
    """A test set without where it lies; a directory of noise by its name, as in its label."""
    noise = data.condition.noise
    noise = noise if noise in NOISES else PurePath(noise).name
    alignments = None if data.alignments is None else PurePath(data.alignments).name
    return data.model_copy(update={"root": None, "alignments": alignments, "noise": noise})


def _test_sets(experiment: Experiment) -> list[Data]:
    calibration = [] if experiment.calibration is None else [experiment.calibration.data]
    return [*experiment.data, *calibration]


def _spellings(path: Path) -> list[Path]:
    """A directory as it is given and as it is; the root itself is nobody's."""
    spellings = {path.absolute()}
    with suppress(RuntimeError):  # of a user that this machine does not have
        spellings.add(path.expanduser().resolve())
    return [spelling for spelling in spellings if len(spelling.parts) > 1]


def _tail(path: str) -> str:
    """Nothing of a directory that more follows, the last part of one that ends the path."""
    return "" if path.endswith("/") else PurePosixPath(path).name


def _names(paths: Iterable[str]) -> dict[str, str]:
    """What models are called: local ones by their directory, and with a number where two are called the same."""
    names: dict[str, str] = {}
    for path in paths:
        own = PurePosixPath(path).name if is_local(path) else path
        number = sum(name == own or name.startswith(f"{own}-") for name in names.values())
        names.setdefault(path, f"{own}-{number + 1}" if own in names.values() else own)
    return names
