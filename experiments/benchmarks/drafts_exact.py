"""Whether drafted decoding is greedy decoding: every eligible cell of an experiment, utterance by utterance.

    python -m experiments.benchmarks.drafts_exact [FILE.toml ...] > experiments/benchmarks/drafts_exact.txt

Each quantized model decodes every planned batch plainly (`generate()`, greedy, float32) and with the drafts of full
precision; the generated tokens are compared. Where they differ, the margin of the drafted token over the plain one at
the first difference is shown, relative to the larger logit, twice: the same batch with all tokens before it in one
pass, and token by token. Of opposite signs, the model itself says one thing and the other. Where activations are
quantized, one unit in the last place can change a code: there the same batches are also decoded plainly at half the
size, which tells how much the model's own words hang on the shape of a batch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from backends import Supported, quantize_spec
from harness import cost, datasets
from harness.cost.operations import generated
from harness.experiment.cell import Configuration
from harness.experiment.config import Experiment, load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Decoding
from harness.recognition.attended import attended
from harness.recognition.calibrating import calibration_inputs
from harness.recognition.features import PreparedBatch
from harness.recognition.loading import load_recognizer
from harness.recognition.models import Recognizer
from harness.resolution.batching import batch_plan, lengths_of
from harness.resolution.checkpoints import resolve_model

Tokens = tuple[int, ...]
FILES = ("experiments/embedded.toml", "experiments/embedded_moonshine.toml")


def words(recognizer: Recognizer, batch: PreparedBatch, decoding: Decoding, drafts: Any = None) -> list[Tokens]:
    """Tokens after the prompt for every utterance."""
    found = recognizer.transcribe(batch, decoding, drafts)
    return [tuple(generated(t.tokens, recognizer.prompt)) for t in found]


def margins(
    recognizer: Recognizer, batch: PreparedBatch, said: Sequence[Tokens], row: int, drafted: Tokens
) -> tuple[float, float]:
    """By how much the drafted token is likelier than the plain one where they part: in one pass, and token by token."""
    plain = said[row]
    place = next((i for i, (a, b) in enumerate(zip(plain, drafted, strict=False)) if a != b), None)
    place = min(len(plain), len(drafted)) if place is None else place
    end, start = min(recognizer.ends), len(recognizer.prompt)
    both = [(*tokens, end)[place] for tokens in (drafted, plain)]
    (group,) = batch.groups
    model = recognizer.model
    texts = [(*tokens, *[end] * place)[:place] for tokens in said]
    with torch.no_grad(), attended(model) as seen:
        model.generate(**group.inputs, max_new_tokens=1)
        tokens = torch.tensor([[*recognizer.prompt, *text] for text in texts])
        at_once = model(**seen.arguments(), decoder_input_ids=tokens)
        cached = seen.arguments()
        by_step = model(**cached, decoder_input_ids=tokens[:, :start])
        for token in tokens[:, start:].unbind(1):
            by_step = model(**cached, decoder_input_ids=token[:, None])

    def margin(found: Any) -> float:
        likelier, other = (float(found.logits[row, -1, token]) for token in both)
        return (likelier - other) / max(abs(likelier), abs(other))

    return margin(at_once), margin(by_step)


class Speech:
    """The planned batches of an experiment's splits, prepared once, with what full precision says to them."""

    def __init__(self, experiment: Experiment, model: Any) -> None:
        self.directory = resolve_model(model).directory
        self.decoding = experiment.decoding
        full = load_recognizer(self.directory, "float32", "cpu")
        self._prepared: dict[int, list[PreparedBatch]] = {}
        self._splits = [datasets.get(data.dataset).load(data).utterances for data in experiment.data]
        self._recognizer = full
        self.said = [words(full, batch, self.decoding) for batch in self.batches(self.decoding.batch_size)]

    def batches(self, size: Any) -> list[PreparedBatch]:
        """All splits in batches of `size`."""
        if size not in self._prepared:
            self._prepared[size] = [
                self._recognizer.prepare([by_id[name].waveform() for name in names], self.decoding)
                for split in self._splits
                for by_id in [{u.id: u for u in split}]
                for names in batch_plan(lengths_of(split), size)
            ]
        return self._prepared[size]


def flat(batches: Sequence[Sequence[Tokens]]) -> list[Tokens]:
    """All utterances; the order is that of the plan, whatever the batch size."""
    return [tokens for batch in batches for tokens in batch]


def compare(configuration: Configuration, experiment: Experiment, speech: Speech) -> None:
    """Print one row."""
    recognizer = load_recognizer(speech.directory, configuration.model.dtype, "cpu")
    inputs = None
    if configuration.calibrates and experiment.calibration is not None:
        inputs = calibration_inputs(recognizer, experiment.calibration, experiment.decoding)
    spec, options = configuration.spec, configuration.option_values
    recognizer.model = quantize_spec(recognizer.model, spec, configuration.backend, options, inputs).model
    batches = speech.batches(speech.decoding.batch_size)
    plain = [words(recognizer, batch, speech.decoding) for batch in batches]
    drafted = [words(recognizer, b, speech.decoding, d) for b, d in zip(batches, speech.said, strict=True)]
    parted = [
        margins(recognizer, batch, ours, row, b)
        for batch, ours, theirs in zip(batches, plain, drafted, strict=True)
        for row, (a, b) in enumerate(zip(ours, theirs, strict=True))
        if a != b
    ]
    as_full = sum(a == b for a, b in zip(flat(plain), flat(speech.said), strict=True))
    shapes = ""
    if spec.activations is not None or parted:
        half = [words(recognizer, b, speech.decoding) for b in speech.batches(speech.decoding.batch_size // 2)]
        shapes = str(sum(a != b for a, b in zip(flat(plain), flat(half), strict=True)))
    shown = " ".join(f"{at_once:+.1e}/{by_step:+.1e}" for at_once, by_step in parted)
    total = len(flat(plain))
    print(f"{configuration.label:62} {total:6} {total - len(parted):6} {as_full:6} {shapes:>6}  {shown}", flush=True)


def main() -> None:
    """Print a table for every experiment file."""
    torch.set_num_threads(1)
    machine = cost.environment(1, "")
    print(f"{machine['processor']}, one thread, torch {machine['packages']['torch']}")
    for file in map(Path, sys.argv[1:] or FILES):
        experiment = load_experiment(file)
        planned = configurations(experiment)
        eligible = [c for c in planned if isinstance(c.capability, Supported) and c.takes_drafts and not c.is_baseline]
        others = [c for c in planned if isinstance(c.capability, Supported) and not c.takes_drafts]
        print(f"\n{file}: {len(eligible)} eligible configurations; decoded plainly: {len(others)}")
        head = ("utt.", "same", "=fp32", "shape")
        print(f"{'configuration':62} " + " ".join(f"{h:>6}" for h in head) + "  margins where they part")
        speech = cache(lambda model, experiment=experiment: Speech(experiment, model))
        for configuration in eligible:
            compare(configuration, experiment, speech(configuration.model))


if __name__ == "__main__":
    main()
