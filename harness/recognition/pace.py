"""What a step of plain decoding costs, tried on a batch that is decoded otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.cost.operations import generated
from harness.experiment.tables import Decoding
from harness.recognition.features import Group
from harness.recognition.models import Recognizer

_PROBE = (2, 10)
"""Steps that are compared."""


def step_seconds(
    recognizer: Recognizer, group: Group, samples: Sequence[int], decoding: Decoding, states: Any
) -> float | None:
    """What one step costs for a group, on the clock of `Recognizer.decoder_seconds`: some steps less a few, divided.

    All that the recogniser counts is as before, but for `decode_seconds`, which has what the trial took.

    Args:
        recognizer: its model can be looked into.
        group: which was decoded in one pass.
        samples: of every utterance of the batch.
        decoding: how.
        states: what the encoder returned for the group.

    Returns:
        Seconds; `None` where all transcripts end before.
    """
    found = []
    kept = recognizer.windows, recognizer.prompt, recognizer.decoder_seconds, recognizer.encode_seconds
    for most in _PROBE:
        before = recognizer.decoder_seconds
        short = decoding.model_copy(update={"max_new_tokens": most})
        transcripts = recognizer.decode(group, samples, short, states=states)
        steps = max(len(generated(transcript.tokens, recognizer.prompt)) for transcript in transcripts)
        found.append((steps, recognizer.decoder_seconds - before))
    recognizer.windows, recognizer.prompt, recognizer.decoder_seconds, recognizer.encode_seconds = kept
    (few, less), (many, more) = found
    return (more - less) / (many - few) if many > few and more > less else None
