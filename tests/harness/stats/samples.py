"""Samples for the statistics, from texts or from counts."""

from __future__ import annotations

from harness.metrics import align, count_errors
from harness.stats import Sample, Transcribed


def sample(texts: dict[str, tuple[str, str]], speakers: dict[str, str] | None = None) -> Sample:
    """A sample from `{id: (reference, hypothesis)}`; the speaker is the part of the id before `-`."""
    return Sample.of(
        Transcribed(
            name,
            speakers.get(name) if speakers is not None else name.partition("-")[0],
            reference,
            hypothesis,
            align(reference.split(), hypothesis.split()),
            count_errors(reference, hypothesis).words,
        )
        for name, (reference, hypothesis) in texts.items()
    )


def with_errors(errors: dict[str, int], words: int = 10) -> Sample:
    """A sample in which the first so many words of every utterance are wrong."""
    reference = [f"w{i}" for i in range(words)]
    return sample({k: (" ".join(reference), " ".join(["x"] * n + reference[n:])) for k, n in errors.items()})
