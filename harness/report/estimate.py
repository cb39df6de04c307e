"""How long a plan takes on this machine, before anything is downloaded: encoders are measured, the rest is counted.

An encoder takes the same time whatever its weights are, and it takes most of the time. So it is measured on random
weights, in child processes (`harness.cost.trial`), as many at once as there will be workers: torch is not loaded here.
What cannot be known here is said.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from backends import Supported
from harness import datasets
from harness._printing import counted
from harness.datasets import Extent
from harness.errors import CheckpointNotFoundError, DataError
from harness.execution.processes import worker_environment
from harness.experiment.cell import Configuration
from harness.experiment.config import Experiment
from harness.experiment.tables import Data, Model
from harness.report.numbers import duration
from harness.report.shapes import PUBLISHED
from harness.resolution.architectures import ARCHITECTURES, Shape
from harness.resolution.batching import default_workers, read_config
from harness.resolution.checkpoints import local_directory

_REST = (0.4, 1.0)
"""Of the encoder's time, for all that follows it, from and to. It was .4 with Whisper base, where drafts were taken,
.5 to 1.4 with Whisper tiny.en token by token (the longer, the more) and .2 to .7 with both embedded models."""
_SAMPLE = 32
"""Local recordings whose length is looked at."""
_USUAL = 10.0
"""Seconds of a recording where no length is known."""

Trial = tuple[Shape, str]
"""An encoder and its dtype."""
Measure = Callable[[Sequence[Trial], int, int], Sequence[float]]
"""Seconds of encoders for one recording each, given threads and processes at once; raises `UnmeasuredError`."""


class UnmeasuredError(Exception):
    """Nothing can be measured here; says why."""


@dataclass(frozen=True)
class _Known:
    """What is known of a plan before it is measured.

    Attributes:
        extents: of the test sets, limits applied.
        configs: of the models, what decides the time.
        unknown: what cannot be counted, in words.
    """

    extents: Sequence[Extent]
    configs: Mapping[Model, Mapping[str, Any]]
    unknown: Sequence[str]

    @property
    def missing(self) -> str:
        """All that cannot be counted."""
        return "; ".join(self.unknown)

    @property
    def speech(self) -> Extent:
        """All test sets together."""
        return Extent(sum(e.utterances for e in self.extents), sum(e.hours for e in self.extents))

    def trial(self, model: Model) -> Trial:
        """What is to be measured of a model: for a recording of usual length where that matters."""
        config = self.configs[model]
        seconds = self.speech.seconds if self.extents else _USUAL
        return ARCHITECTURES[config["model_type"]].shape(config, seconds), model.dtype

    def passes(self, model: Model, *, whole: bool) -> float:
        """How often the encoder is used for all test sets."""
        family = ARCHITECTURES[self.configs[model]["model_type"]]
        return sum(extent.utterances * family.passes(extent.seconds, whole=whole) for extent in self.extents)


def time_sentence(planned: Sequence[Configuration], experiment: Experiment, measure: Measure | None = None) -> str:
    """How long the possible ones of `planned` take, what that rests on, and what is not in it."""
    possible = [c for c in planned if isinstance(c.capability, Supported)]
    if not possible:
        return "no configuration can run here"
    unknown = f"{counted(len(possible), 'configuration')} can run; how long that takes is not known"
    if experiment.run.engine == "ray":
        return f"{unknown}: it depends on the cluster"
    known = _known(possible, experiment)
    counting = [c for c in possible if c.device == "cpu" and c.model in known.configs]
    if not counting:
        return f"{unknown}: {known.missing}"
    workers = min(experiment.run.workers or default_workers(c.device for c in possible), len(counting))
    trials = list(dict.fromkeys(known.trial(c.model) for c in counting))
    try:
        seconds = (measure or measured)(trials, experiment.run.threads_per_worker, workers)
    except UnmeasuredError as error:
        return f"{unknown}: {error}"
    by_trial = dict(zip(trials, seconds, strict=True))
    encoders = {c.model: by_trial[known.trial(c.model)] for c in counting}
    pace = f"the encoder alone takes {_paces(encoders)} a recording, measured now"
    if not known.extents:
        return f"{unknown}: {known.missing}; {pace}"
    whole = experiment.decoding.long_audio != "truncate"
    times = [encoders[c.model] * known.passes(c.model, whole=whole) for c in counting]
    wall = _wall(times, workers)
    about = [
        counted(len(counting), "configuration"),
        f"{counted(known.speech.utterances, 'recording')} each; {pace}",
        f"and all after it takes {_REST[0]:.0%} to {_REST[1]:.0%} of that by experience",
    ]
    return (
        f"about {' to '.join(duration((1 + rest) * wall) for rest in _REST)} on this machine with "
        f"{counted(workers, 'worker')}, if nothing else runs ({', '.join(about)}), "
        "without loading and quantizing, some seconds for each configuration, and calibration"
        + (f"; not counted: {known.missing}" if known.unknown else "")
    )


def _wall(times: Sequence[float], workers: int) -> float:
    """Seconds until all is done; nothing ends before one configuration and its baseline, which it waits for."""
    return max(sum(times) / workers, min(2, len(times)) * max(times))


def _paces(encoders: Mapping[Model, float]) -> str:
    by_path = {model.path: duration(seconds) for model, seconds in encoders.items()}
    if len(by_path) == 1:
        return next(iter(by_path.values()))
    return ", ".join(f"{seconds} ({path})" for path, seconds in by_path.items())


def _known(possible: Sequence[Configuration], experiment: Experiment) -> _Known:
    unknown = []
    elsewhere = sum(c.device != "cpu" for c in possible)
    if elsewhere:
        unknown.append(f"{counted(elsewhere, 'configuration')} on the GPU, whose pace is not known here")
    configs: dict[Model, Mapping[str, Any]] = {}
    for model in dict.fromkeys(c.model for c in possible if c.device == "cpu"):
        try:
            configs[model] = _config(model)
        except CheckpointNotFoundError as error:
            unknown.append(str(error))
    extents = {data.label: _extent(data) for data in experiment.data}
    unread = [label for label, extent in extents.items() if extent is None]
    if unread:
        unknown.append(f"{', '.join(unread)}: the number of recordings is known once they are read")
    return _Known([extent for extent in extents.values() if extent is not None], configs, unknown)


def _config(model: Model) -> Mapping[str, Any]:
    """What decides the time of a model, from its own directory or as published.

    Raises:
        CheckpointNotFoundError: it is not known, or not enough of it.
    """
    directory = local_directory(model)
    config = read_config(directory) if directory.is_dir() else PUBLISHED.get(model.path)
    if config is None:
        raise CheckpointNotFoundError(f"{model.path}, whose shape is known once it is downloaded")
    family = ARCHITECTURES.get(config.get("model_type", ""))
    try:
        if family is not None and family.shape(config, 1.0):
            return config
    except (KeyError, TypeError, ValueError):
        pass
    raise CheckpointNotFoundError(f"{model.path}, whose config.json does not tell its shape")


def _extent(data: Data) -> Extent | None:
    """How much of a test set is transcribed, as published or as local files say; `None` where it is not known yet."""
    changed = data.max_seconds or data.alignments or data.join_seconds
    published = None if changed else datasets.get(data.dataset).extent(data)
    if published is None:
        return None if data.root is None else _extent_of_files(data)
    utterances = min(published.utterances, data.limit or published.utterances)
    return Extent(utterances, utterances * data.condition.seconds(published.seconds) / 3600)


def _extent_of_files(data: Data) -> Extent | None:
    try:
        utterances = datasets.load(data, cached_only=True).utterances
        some = utterances[:: -(-len(utterances) // _SAMPLE)]
        return Extent(len(utterances), len(utterances) * sum(u.seconds() for u in some) / len(some) / 3600)
    except DataError:
        return None


def measured(trials: Sequence[Trial], threads: int, processes: int) -> Sequence[float]:
    """Seconds of encoders on this machine, with so many processes at once; see `Measure`."""
    command = [sys.executable, "-m", "harness.cost.trial", str(threads)]
    environment = {**os.environ, **worker_environment(threads)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    asked = json.dumps([{"shape": asdict(shape), "dtype": dtype} for shape, dtype in trials]) + "\n"
    children = [subprocess.Popen(command, env=environment, text=True, **pipes) for _ in range(processes)]  # type: ignore[call-overload]
    try:
        if any(child.stdout.readline() != "ready\n" for child in children):
            raise UnmeasuredError("torch cannot be loaded here; python -c 'import torch' says why")
        for child in children:  # all at once
            child.stdin.write(asked)
            child.stdin.flush()
        return [sum(own) / processes for own in zip(*map(_answer, children), strict=True)]
    finally:
        for child in children:
            child.kill()
            child.communicate()


def _answer(child: Any) -> list[float]:
    try:
        answer: list[float] = json.loads(child.stdout.readline())
    except ValueError:
        raise UnmeasuredError("an encoder could not be measured here") from None
    return answer
