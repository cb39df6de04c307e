"""A grid on real Whisper, beside itself without shared encoder states, a pipeline loop, and faster-whisper.

    python -m experiments.benchmarks.real_grid MODEL LIBRISPEECH UTTERANCES TURNS

All are whole processes on all cores, one after the other in the same minutes, each once a turn: the grid of
`real_grid.toml` (ten configurations in five pairs that differ in the head, and full precision), the same without
sharing, the loop over the same quantized models in batches of 8, greedy, and faster-whisper, greedy, one utterance at
a time, for its float32 and int8, where it is installed. What is said of faster-whisper is for one configuration.

The limit is what the encoders of all configurations take at the speed of this processor's own matrix product.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FILE = Path("experiments/benchmarks/real_grid.toml")
BATCH = 8
ENGLISH = {"language": "en", "task": "transcribe"}


def changes(model: str, root: str, utterances: str) -> list[str]:
    """Overrides of the file for this machine."""
    return [f"model.path={model}", f"data.root={root}", f"data.limit={utterances}"]


def loop(*place: str) -> None:
    """What a user would write; prints a line for every configuration."""
    import jiwer
    import torch
    from transformers import pipeline

    from harness import datasets
    from harness.experiment.config import load_experiment
    from harness.metrics import Normaliser

    torch.set_num_threads(_cores())
    experiment, normalise = load_experiment(FILE, changes(*place)), Normaliser()
    speech = datasets.get("librispeech").load(experiment.data[0]).utterances
    window = 30 * datasets.SAMPLE_RATE  # the grid cuts what is longer too; the pipeline asks for timestamps then
    audio = [{"raw": utterance.waveform()[:window], "sampling_rate": datasets.SAMPLE_RATE} for utterance in speech]
    expected = [normalise(utterance.text) for utterance in speech]
    for label, recognizer in _quantized(experiment, Path(place[0])):
        recognise: Any = pipeline(
            "automatic-speech-recognition",
            model=recognizer.model,
            tokenizer=recognizer.processor.tokenizer,
            feature_extractor=recognizer.processor.feature_extractor,
            batch_size=BATCH,
        )
        forced = ENGLISH if recognizer.model.generation_config.is_multilingual else {}
        settings = {"max_new_tokens": experiment.decoding.max_new_tokens, "num_beams": 1, **forced}
        found = recognise([dict(one) for one in audio], generate_kwargs=settings)
        print(f"{label}: {jiwer.wer(expected, [normalise(one['text']) for one in found]):.4f}", flush=True)


def _quantized(experiment: Any, directory: Path) -> Iterator[tuple[str, Any]]:
    from transformers.utils import logging

    from backends import quantize_spec
    from harness.experiment.plan import configurations
    from harness.recognition.loading import load_recognizer

    logging.set_verbosity_error()
    for configuration in configurations(experiment):
        recognizer = load_recognizer(directory, "float32", "cpu")
        options = configuration.option_values
        recognizer.model = quantize_spec(recognizer.model, configuration.spec, configuration.backend, options).model
        yield configuration.label, recognizer


def faster(kind: str, model: str, root: str, utterances: str) -> None:
    """faster-whisper as its users call it, without what would change the task: no search, no filter, no timestamps."""
    import ctranslate2
    from faster_whisper import WhisperModel

    from harness import datasets
    from harness.experiment.config import load_experiment

    experiment = load_experiment(FILE, changes(model, root, utterances))
    speech = datasets.get("librispeech").load(experiment.data[0]).utterances
    with tempfile.TemporaryDirectory() as converted:
        copied = ["tokenizer.json", "preprocessor_config.json"]
        there = [name for name in copied if (Path(model) / name).is_file()]
        ctranslate2.converters.TransformersConverter(model, copy_files=there).convert(converted, force=True)
        recognizer = WhisperModel(converted, device="cpu", compute_type=kind, cpu_threads=_cores())
        for utterance in speech:
            settings = {"beam_size": 1, "temperature": 0.0, "without_timestamps": True, "language": "en"}
            segments, _ = recognizer.transcribe(utterance.waveform(), condition_on_previous_text=False, **settings)
            list(segments)


def limit(model: str, passes: int) -> str:
    """Seconds of all cores for so many passes of the encoder, at the speed of the matrix product."""
    import torch

    config = json.loads((Path(model) / "config.json").read_text())
    width, inner, positions = config["d_model"], config["encoder_ffn_dim"], config["max_source_positions"]
    layers = config["encoder_layers"] * (
        positions * (4 * width * width + 2 * width * inner) + 2 * positions * positions * width
    )
    convolutions = 2 * positions * 3 * 80 * width + positions * 3 * width * width
    operations = 2 * (layers + convolutions)
    torch.set_num_threads(1)
    a, b = torch.randn(positions, inner), torch.randn(inner, width)
    rate = 0.0
    for _ in range(20):
        began = time.perf_counter()
        a @ b
        rate = max(rate, 2 * positions * inner * width / (time.perf_counter() - began))
    seconds = passes * operations / rate / _cores()
    return f"{operations / 1e9:.1f} GFLOP a pass, {rate / 1e9:.0f} GFLOP/s a core: {seconds:.0f} s for {passes} passes"


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _seconds(*arguments: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True)
    return time.perf_counter() - began


def _grid(place: list[str], gigabytes: float, out: Path) -> float:
    sets = [part for change in [*changes(*place), f"run.encoder_cache_gb={gigabytes}"] for part in ("--set", change)]
    return _seconds("-m", "harness.grid", str(FILE), "--out", str(out), *sets)


def _transcripts(out: Path) -> tuple[list[Any], int]:
    """Tokens by configuration, and passes of the encoder."""
    from harness.records.reading import open_run

    run = open_run(out / "real_grid")
    rows = sorted(run.results(), key=lambda row: str(row["configuration"]))
    return [[u["tokens"] for u in run.utterances(row["cell_id"])] for row in rows], sum(
        r["encoder_passes"] for r in rows
    )


def main(*arguments: str) -> None:
    """Print the table."""
    from harness import cost

    *place, turns = arguments
    machine = cost.environment(_cores(), "")
    print(
        f"{machine['processor']}, {_cores()} cores, torch {machine['packages']['torch']}, {Path(place[0]).name}, ",
        end="",
    )
    print(f"{place[2]} utterances, load {os.getloadavg()[0]:.1f}\n")
    kinds = ("float32", "int8") if find_spec("faster_whisper") else ()
    took: dict[str, list[float]] = {}
    for turn in range(int(turns)):
        with tempfile.TemporaryDirectory() as shared, tempfile.TemporaryDirectory() as apart:
            ways = {
                "grid, encoder states shared": lambda out=shared: _grid([*place], 4.0, Path(out)),
                "grid, every encoder by itself": lambda out=apart: _grid([*place], 0.0, Path(out)),
                "transformers.pipeline loop": lambda: _seconds("-m", __spec__.name, "loop", *place),
            } | {
                f"faster-whisper {kind} (one configuration)": lambda kind=kind: _seconds(
                    "-m", __spec__.name, "faster", kind, *place
                )
                for kind in kinds
            }
            for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
                took.setdefault(name, []).append(ways[name]())
                print(f"{name:42}{took[name][-1]:9.1f} s", flush=True)
            (own, passes), (other, more) = _transcripts(Path(shared)), _transcripts(Path(apart))
            same = sum(a == b for x, y in zip(own, other, strict=True) for a, b in zip(x, y, strict=True))
    print()
    first, *others = ("grid, encoder states shared", "grid, every encoder by itself", "transformers.pipeline loop")
    for name in others:
        print(f"{name} / {first}: " + ", ".join(f"{b / a:.2f}" for a, b in zip(took[first], took[name], strict=True)))
    print(f"transcripts the same with shared states, token for token: {same} of {sum(map(len, own))}")
    print(f"passes of the encoder: {passes} shared, {more} by itself")
    print(f"limit: {limit(place[0], passes)}; {limit(place[0], more)}\n")


if __name__ == "__main__":
    if sys.argv[1] in ("loop", "faster"):
        globals()[sys.argv[1]](*sys.argv[2:])
    else:
        main(*sys.argv[1:])
