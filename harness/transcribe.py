"""Transcribe audio files with a checkpoint or a saved quantized model: one line for each, its name and its words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backends import AsrQuantError
from backends.core.commands import command_parser
from backends.core.errors import did_you_mean
from harness._command import run_command
from harness._printing import printable
from harness.datasets import Utterance, Waveform
from harness.embedded import MODELS
from harness.errors import CheckpointNotFoundError, ConfigError, DataError
from harness.experiment.tables import Decoding

if TYPE_CHECKING:
    from harness.recognition.models import Recognizer

_PROMPT = 4
"""Tokens at most that Whisper begins with."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_command(lambda: _run_with_flags(options))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "harness.transcribe",
        __doc__,
        ["embedded speech.wav", "my-whisper-int4 *.flac --long-audio sequential"],
        done="all were transcribed",
        failed="some could not be",
    )
    parser.add_argument(
        "model",
        help="directory of a checkpoint or of a saved quantized model; or embedded, of synthesised speech",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio, such as speech.wav")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="files at a time; default: 8")
    parser.add_argument("--language", default="en", help="of multilingual models, or detect; default: en")
    parser.add_argument("--max-new-tokens", type=int, default=225, metavar="N", help="of a file; default: 225")
    parser.add_argument(
        "--long-audio",
        choices=["truncate", "sequential", "chunked"],
        default="truncate",
        help="of audio longer than Whisper's window: the beginning (default, with a note), window after window, or "
        "overlapping pieces",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    if options.batch_size < 1 or options.max_new_tokens < 1:
        raise ConfigError("--batch-size and --max-new-tokens must be at least 1")
    recognizer = _recognizer(options.model, options.device)
    room = recognizer.positions - _PROMPT
    if options.max_new_tokens > room:
        raise ConfigError(f"--max-new-tokens {options.max_new_tokens}: this model has room for {room}")
    decoding = Decoding(language=options.language, max_new_tokens=options.max_new_tokens, long_audio=options.long_audio)
    size = options.batch_size
    done = 0
    for start in range(0, len(options.files), size):
        for line in _lines(recognizer, options.files[start : start + size], decoding):
            print(line, flush=True)
            done += 1
    return 0 if done == len(options.files) else 1


def _run_with_flags(options: argparse.Namespace) -> int:
    """`_run`, whose sentences name flags where those of others name keys of an experiment file."""
    try:
        return _run(options)
    except AsrQuantError as error:
        sentence = str(error).replace("long_audio = ", "--long-audio ")
        raise type(error)(sentence) from None


def _recognizer(model: str, device: str) -> Recognizer:
    from backends.core.pretrained import check_device, hush_transformers
    from harness.recognition.loading import load_quantized, load_recognizer

    hush_transformers()
    check_device(device)
    directory = MODELS.get(model, Path(model))
    if directory.is_file():
        raise CheckpointNotFoundError(f"{directory}: it is a file; name the directory of the model first")
    if not directory.is_dir():
        near = did_you_mean(model, MODELS)
        raise CheckpointNotFoundError(f"{directory}: there is no such directory{near}")
    if (directory / "quantization.json").is_file():
        return load_quantized(directory, device)
    return load_recognizer(directory, "float32", device)


def _lines(recognizer: Recognizer, files: Sequence[Path], decoding: Decoding) -> Iterator[str]:
    """A line for every file that can be decoded; the others, and what is cut, are named on standard error."""
    waveforms = list(_waveforms(recognizer, files, decoding))
    if waveforms:
        transcripts = recognizer.transcribe([waveform for _, waveform in waveforms], decoding)
        for (path, _), transcript in zip(waveforms, transcripts, strict=True):
            yield f"{_one_line(path)}\t{_one_line(transcript.text.strip())}"


def _waveforms(recognizer: Recognizer, files: Sequence[Path], decoding: Decoding) -> Iterator[tuple[Path, Waveform]]:
    for path in files:
        try:
            if path.is_dir():
                raise DataError(f"{path}: it is a directory; name the files in it, such as {path}/*.wav")
            if not path.is_file():
                raise DataError(f"{path}: there is no such file")
            waveform = recognizer.short_enough(Utterance(str(path), "", "", path))
        except DataError as error:
            print(f"error: {_one_line(error)}", file=sys.stderr)
            continue
        if decoding.long_audio == "truncate" and not recognizer.family.fits(recognizer.processor, len(waveform)):
            print(
                f"{_one_line(path)}: only the beginning is transcribed; --long-audio sequential transcribes all",
                file=sys.stderr,
            )
        yield path, waveform


def _one_line(text: object) -> str:
    return printable(str(text)).replace("\n", "\\n")


if __name__ == "__main__":
    sys.exit(main())
