"""Make the embedded benchmark anew: `python -m harness.embedded.make WORK_DIRECTORY [speech|features|train|moonshine]`.

Needs the Debian packages `espeak-ng` and `flite`, two cores, 8 GB of disk and about three hours.
Without a stage all run: `speech` writes the shipped splits, `features` the training corpus, `train` the Whisper
(resuming from WORK_DIRECTORY when it was interrupted), `moonshine` corpus and model of the second one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY, SPEECH_DIRECTORY

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


def make_moonshine_model(work: Path) -> None:
    """Write a corpus of samples to `work`, train on it, and replace `moonshine/` by the result, stored as fp16."""
    from harness.embedded._corpus import build_lesson
    from harness.embedded._moonshine import make_moonshine_processor
    from harness.embedded._moonshine_training import LESSONS, samples_of, train

    directory = work / "samples"
    directory.mkdir(exist_ok=True)
    for lesson in LESSONS:
        build_lesson(lesson, directory, 0, 1, samples_of)
    processor = make_moonshine_processor(_SEED)
    train(directory, processor.tokenizer, 0).half().save_pretrained(MOONSHINE_DIRECTORY)
    processor.save_pretrained(MOONSHINE_DIRECTORY)


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
    parser.add_argument(
        "stage", nargs="?", choices=["speech", "features", "train", "moonshine"], help="only this stage"
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    stages = {
        "speech": make_speech,
        "features": lambda: make_features(arguments.work),
        "train": lambda: make_model(arguments.work),
        "moonshine": lambda: make_moonshine_model(arguments.work),
    }
    for name, stage in stages.items():
        if arguments.stage in (None, name):
            stage()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
