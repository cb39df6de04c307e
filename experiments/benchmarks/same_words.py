"""Whether others transcribe the same: recorded tokens beside transformers' own `generate`, and beside CTranslate2.

    python -m experiments.benchmarks.same_words RUN MODEL_DIRECTORY LIBRISPEECH_ROOT

RUN has a Whisper in full precision, float32, on `test-clean` and `test-other`; it may be a published one. transformers
gets the same batches as the run and the speech as its processor makes it, and nothing else of this project.
CTranslate2 gets them through the adapter, its weights in float32. Where transcripts part, the row says by how much
transformers' model prefers its own token over the other at that place, as a share of the larger logit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from backends import quantize
from experiments.benchmarks._worker import in_worker
from harness import cost, datasets
from harness.datasets import SAMPLE_RATE, Waveform
from harness.experiment.tables import Data, Decoding
from harness.recognition.loading import load_recognizer
from harness.records.reading import RecordedRun, open_run
from harness.resolution.batching import batch_plan, lengths_of

WHOLE = {"backend": "ctranslate2", "modules": ["linear", "head", "embedding", "conv"]}
FULL = {"scheme": "none", "granularity": "per_tensor", "bits": 32, "format": "fp32"}
MULTILINGUAL = {"language": "en", "task": "transcribe"}
Tokens = tuple[int, ...]


class Hypothesis(NamedTuple):
    """What a way of decoding made of one utterance."""

    tokens: Tokens
    text: str


class Elsewhere:
    """transformers without this project."""

    def __init__(self, directory: Path) -> None:
        self.processor = WhisperProcessor.from_pretrained(directory)
        self.model = WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
        own = self.model.generation_config
        self.language = MULTILINGUAL if own.is_multilingual else {}
        prompt = self.processor.get_decoder_prompt_ids(**self.language, no_timestamps=True)
        self.prompt = [own.decoder_start_token_id, *(token for _, token in prompt)]

    def features(self, waveforms: Sequence[Waveform]) -> torch.Tensor:
        """Log-mel spectrograms of a batch, float32, `[batch, mels, frames]`."""
        made = self.processor(list(waveforms), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        return made.input_features

    def decode(self, features: torch.Tensor, most: int) -> list[Hypothesis]:
        """Greedy decoding of a batch."""
        found = self.model.generate(features, max_new_tokens=most, num_beams=1, do_sample=False, **self.language)
        special = set(self.processor.tokenizer.all_special_ids)
        rows = [tuple(token for token in row.tolist() if token not in special) for row in found]
        return [Hypothesis(row, self.processor.decode(row)) for row in rows]

    def preference(self, features: torch.Tensor, ours: Tokens, theirs: Tokens) -> float:
        """By how much `ours` is preferred to `theirs` at the first token that differs; features of one utterance."""
        end = self.model.generation_config.eos_token_id
        place = next(i for i, (a, b) in enumerate(zip((*ours, end), (*theirs, end), strict=False)) if a != b)
        with torch.no_grad():
            tokens = torch.tensor([[*self.prompt, *ours[:place]]])
            logits = self.model(features, decoder_input_ids=tokens).logits[0, -1]
        mine, other = (float(logits[(*row, end)[place]]) for row in (ours, theirs))
        return (mine - other) / max(abs(mine), abs(other))


def recorded(run: RecordedRun) -> Iterator[tuple[str, Mapping[str, Hypothesis]]]:
    """The transcripts of full precision in the run, by split and utterance."""
    for row in run.results():
        if row["format"] == "fp32" and row["backend"] == "none":
            found = run.utterances(row["cell_id"])
            yield row["split"], {u["id"]: Hypothesis(tuple(u["tokens"]), u["hypothesis"]) for u in found}


def print_row(split: str, way: str, parted: Sequence[str], count: int) -> None:
    """How many of the utterances agree, and where they do not."""
    print(f"{split:12} {way:38} {count - len(parted):4} of {count:4} the same")
    for line in parted:
        print(f"    {line}", flush=True)


def main() -> None:
    """Print two rows for each split."""
    torch.set_num_threads(1)
    place, directory, root = (Path(path) for path in sys.argv[1:4])
    run = open_run(place)
    decoding = Decoding.model_validate(run.experiment()["decoding"])
    elsewhere, engine = Elsewhere(directory), load_recognizer(directory, "float32", "cpu")
    engine.model = quantize(engine.model, **FULL, **WHOLE).model
    packages: Mapping[str, Any] = cost.environment(1, "")["packages"]
    print(", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers", "ctranslate2")), end=", ")
    print(f"one thread; {directory.name}, batches of {decoding.batch_size}\n")
    for split, known in recorded(run):
        speech = datasets.get("librispeech").load(Data(dataset="librispeech", root=str(root), split=split)).utterances
        by_id = {u.id: u for u in speech if u.id in known}
        parted: dict[str, list[str]] = {"transformers generate, tokens": [], "CTranslate2 float32, transcripts": []}
        for names in batch_plan(lengths_of(by_id.values()), decoding.batch_size):
            waveforms = [by_id[name].waveform() for name in names]
            features = elsewhere.features(waveforms)
            theirs = elsewhere.decode(features, decoding.max_new_tokens)
            others = [Hypothesis(t.tokens, t.text) for t in engine.transcribe(waveforms, decoding)]
            for i, (name, own, other) in enumerate(zip(names, theirs, others, strict=True)):
                if own.tokens != known[name].tokens:
                    lead = elsewhere.preference(features[i : i + 1], own.tokens, known[name].tokens)
                    parted["transformers generate, tokens"].append(f"{name} {lead:+.1e}")
                if other.text != known[name].text:
                    theirs_only = tuple(token for token in other.tokens if token < min(elsewhere.prompt))
                    lead = elsewhere.preference(features[i : i + 1], known[name].tokens, theirs_only)
                    parted["CTranslate2 float32, transcripts"].append(
                        f"{name} {lead:+.1e}\n        {known[name].text}\n        {other.text}"
                    )
        for way, lines in parted.items():
            print_row(split, way, lines, len(by_id))


if __name__ == "__main__":
    in_worker(main)
