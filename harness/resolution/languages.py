"""What is spoken in an utterance, and which language the decoder is told."""

from __future__ import annotations

from harness.datasets import Corpus, Utterance
from harness.errors import ConfigError
from harness.experiment.tables import DETECT, Data, Decoding
from harness.metrics import Scorer


def spoken(utterance: Utterance, decoding: Decoding) -> str | None:
    """The code of what is spoken: as the data says, else `decoding`; `None` where that leaves it to the model."""
    return utterance.language or (None if decoding.code == DETECT else decoding.code)


def told(utterance: Utterance, data: Data, decoding: Decoding) -> str:
    """The code that multilingual checkpoints are started with, or `detect`."""
    if DETECT in (data.language, decoding.code):
        return DETECT
    return utterance.language or decoding.code


def languages_told(corpus: Corpus, data: Data, decoding: Decoding) -> list[str]:
    """The codes of all utterances, in their order."""
    return [told(utterance, data, decoding) for utterance in corpus.utterances]


def check_languages(corpus: Corpus, data: Data, decoding: Decoding, scorer: Scorer) -> None:
    """Refuse what could not be scored.

    Raises:
        ConfigError: languages are to be detected and it is not said which they are; or words of some are to be summed
            with characters of others.
    """
    languages = {spoken(utterance, decoding) for utterance in corpus.utterances}
    if None in languages:
        raise ConfigError(
            f'{data.label}: language = "detect" needs data that says what is spoken: give [[data]] a language, or its '
            "table a column of that name"
        )
    by_unit = {scorer.unit(language): language for language in sorted(filter(None, languages))}
    if len(by_unit) > 1:
        raise ConfigError(
            f"{data.label}: {by_unit['word']} is scored by words and {by_unit['character']} by characters, which do "
            "not add up: give [[data]] an error_unit, or each language a [[data]] of its own"
        )
