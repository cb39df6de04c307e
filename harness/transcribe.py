"""Transcribe audio files with a checkpoint or a saved quantized model: one line for each, its name and its words.

Exit status: 0 all were heard, 1 some could not be, 2 something is for you to mend, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.command import run_command
from harness.config import Decoding
from harness.datasets import Utterance
from harness.embedded import MODELS
from harness.errors import CheckpointNotFoundError, ConfigError, DataError
from harness.printing import printable

if TYPE_CHECKING:
    from harness.models import Recognizer


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m harness.transcribe", description=__doc__)
    parser.add_argument("model", help="directory of a checkpoint or of a saved quantized model; or embedded")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio, such as speech.wav")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="files at a time; default: 8")
    parser.add_argument("--language", default="en", help="of multilingual models; default: en")
    parser.add_argument("--max-new-tokens", type=int, default=225, metavar="N", help="of a file; default: 225")
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.batch_size < 1 or options.max_new_tokens < 1:
        raise ConfigError("--batch-size and --max-new-tokens must be at least 1")
    recognizer = _recognizer(options.model, options.device)
    decoding = Decoding(language=options.language, max_new_tokens=options.max_new_tokens)
    heard = 0
    for start in range(0, len(options.files), options.batch_size):
        for line in _lines(recognizer, options.files[start : start + options.batch_size], decoding):
            print(line, flush=True)
            heard += 1
    return 0 if heard == len(options.files) else 1


def _recognizer(model: str, device: str) -> Recognizer:
    from transformers.utils import logging

    from harness.models import load_quantized, load_recognizer

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    directory = MODELS.get(model, Path(model))
    if not directory.is_dir():
        raise CheckpointNotFoundError(f"{directory}: there is no such directory")
    if (directory / "quantization.json").is_file():
        return load_quantized(directory, device)
    return load_recognizer(directory, "float32", device)


def _lines(recognizer: Recognizer, files: Sequence[Path], decoding: Decoding) -> Iterator[str]:
    """A line for every file that can be heard; the others are named on standard error."""
    waveforms = {}
    for path in files:
        try:
            waveforms[path] = Utterance(path.name, path.name, "", path).waveform()
        except DataError as error:
            print(printable(f"error: {error}"), file=sys.stderr)
    if waveforms:
        for path, transcript in zip(waveforms, recognizer.transcribe([*waveforms.values()], decoding), strict=True):
            yield f"{printable(str(path))}\t{printable(transcript.text.strip())}"


if __name__ == "__main__":
    sys.exit(main())
