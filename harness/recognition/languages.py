"""Batches of several languages: told ones, and those that the model finds out.

A decoder is started with the token of a language, so that utterances of one language are decoded together. Where the
language is left to the model, the encoder runs first; what the decoder finds likeliest among the tokens of languages
after the start is what it heard (Radford et al. 2022, arXiv 2212.04356, section 2.3).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backends import UnsupportedError
from harness.experiment.tables import DETECT, Decoding
from harness.recognition.attended import rows_of
from harness.recognition.families import is_multilingual
from harness.recognition.features import Group

if TYPE_CHECKING:
    from harness.recognition.models import Recognizer


class Part(NamedTuple):
    """Utterances of a group that are decoded together.

    Attributes:
        group: they alone.
        decoding: with their language.
        states: what the encoder returned for them, where it ran already.
        detected: the language, where the model found it out.
    """

    group: Group
    decoding: Decoding
    states: Any
    detected: str | None


def by_language(
    recognizer: Recognizer, group: Group, languages: Sequence[str], decoding: Decoding, states: Any = None
) -> Iterator[Part]:
    """The parts of a group, one for every language; a group of one language is its only part, as it is.

    Args:
        recognizer: detects languages; a model that knows one alone is not asked.
        group: of a prepared batch.
        languages: code for every utterance of the group; `detect` for all, or for none.
        decoding: as in the experiment.
        states: what the encoder returned for the group, where that is at hand.

    Raises:
        UnsupportedError: the model cannot be asked for the language.
    """
    detects = DETECT in languages and is_multilingual(recognizer.model)
    if detects:
        languages, states = _detected(recognizer, group, states)
    for language in dict.fromkeys(languages):
        places = [place for place, own in enumerate(languages) if own == language]
        own_decoding = decoding.model_copy(update={"language": language})
        heard = language if detects else None
        if len(places) == len(languages):
            yield Part(group, own_decoding, states, heard)
            continue
        inputs = {name: tensor[places] for name, tensor in group.inputs.items()}
        rows = tuple(group.rows[place] for place in places)
        own_states = None if states is None else rows_of(states, places)
        yield Part(Group(rows, group.whole, inputs), own_decoding, own_states, heard)


def _detected(recognizer: Recognizer, group: Group, states: Any) -> tuple[list[str], Any]:
    """The codes of what the model hears in a group, and the encoder's states of it; adds to the recogniser's seconds.

    Of audio that takes several windows the first one is heard, and no states are returned.
    """
    model, known = recognizer.inside, getattr(recognizer.model.generation_config, "lang_to_id", None)
    if model is None or not known:
        raise UnsupportedError(f'language = "{DETECT}": this model does not detect languages here: name one')
    first = group
    if group.whole:
        frames = recognizer.processor.feature_extractor.nb_max_frames
        first = Group(
            group.rows, False, {"input_features": group.inputs["input_features"][: len(group.rows), ..., :frames]}
        )
        recognizer.windows += len(group.rows)
    heard = recognizer.encode(first) if states is None else states
    began = time.perf_counter()
    found = model.detect_language(encoder_outputs=heard).tolist()
    recognizer.decode_seconds += time.perf_counter() - began
    codes = {token: text.strip("<|>") for text, token in known.items()}
    return [codes[token] for token in found], None if group.whole else heard
