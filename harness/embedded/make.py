"""Make the embedded benchmark anew: `python -m harness.embedded.make WORK_DIRECTORY [speech|features|train]`.

Needs the Debian packages `espeak-ng` and `flite`, two cores, 8 GB of disk and about two hours.
Without a stage all three run: `speech` writes the shipped splits, `features` the training corpus,
`train` the model (resuming from WORK_DIRECTORY when it was interrupted).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.embedded import MODEL_DIRECTORY, SPEECH_DIRECTORY

_SEED = 11


def make_speech() -> None:
    """Replace `speech/` by newly synthesised splits."""
    from harness.embedded._corpus import write_speech

    if SPEECH_DIRECTORY.exists():
        shutil.rmtree(SPEECH_DIRECTORY)
    write_speech(SPEECH_DIRECTORY)


def make_features(work: Path) -> None:
    """Write the training corpus to `work`, one process a core."""
    _in_parallel(_build_shard, work)


def make_model(work: Path) -> None:
    """Train in `work`, then replace `model/` by the result, stored as fp16 safetensors with its processor."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from harness.embedded._architecture import make_processor

    make_processor(_SEED).save_pretrained(work)
    (work / "rendezvous").unlink(missing_ok=True)
    _in_parallel(_train_shard, work)
    trained = WhisperForConditionalGeneration.from_pretrained(work, dtype=torch.float32)
    trained.half().save_pretrained(MODEL_DIRECTORY)
    make_processor(_SEED).save_pretrained(MODEL_DIRECTORY)


def _build_shard(rank: int, processes: int, work: Path) -> None:
    import torch

    from harness.embedded._corpus import LESSONS, build_lesson

    torch.set_num_threads(1)
    for lesson in LESSONS:
        build_lesson(lesson, work, rank, processes)


def _train_shard(rank: int, _processes: int, work: Path) -> None:
    from harness.embedded._architecture import make_processor
    from harness.embedded._training import Schedule, train

    train(rank, work, make_processor(_SEED), work, Schedule(), _SEED)


def _in_parallel(target: Callable[[int, int, Path], None], work: Path, processes: int = 2) -> None:
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"
    workers = [context.Process(target=target, args=(rank, processes, work)) for rank in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a process of the recipe failed; its traceback is above")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m harness.embedded.make", description=__doc__)
    parser.add_argument("work", type=Path, help="directory for the training corpus and state")
    parser.add_argument("stage", nargs="?", choices=["speech", "features", "train"], help="only this stage")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    stages = {
        "speech": make_speech,
        "features": lambda: make_features(arguments.work),
        "train": lambda: make_model(arguments.work),
    }
    for name, stage in stages.items():
        if arguments.stage in (None, name):
            stage()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
