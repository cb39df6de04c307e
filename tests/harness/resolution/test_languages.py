"""What the decoder is told, what is scored by it, and what both do to the ids of cells."""

import json
import shutil

import pytest

from harness.embedded import SPEECH_DIRECTORY
from harness.errors import ConfigError, DataError
from harness.experiment.config import Experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Data, Decoding
from harness.resolution.identity import cells_of, resolve
from harness.resolution.languages import languages_told, spoken
from tests.harness.runs import as_asked

FULL = {"backend": "none", "scheme": "none", "granularity": "per_tensor", "bits": 32, "format": "fp32"}


def cells(*data, decoding=None, scoring=None):
    """The cells of the embedded model in full precision on some test sets, and what was resolved."""
    asked = {"name": "languages", "model": "embedded", "data": list(data), "grid": [FULL], "run": {"device": "cpu"}}
    experiment = Experiment.model_validate({**asked, "decoding": decoding or {}, "scoring": scoring or {}})
    planned = configurations(experiment)
    resolved = resolve(experiment, planned, as_asked)
    return cells_of(planned[0], experiment, resolved), resolved


@pytest.fixture
def folder(tmp_path):
    """A folder of recordings with the languages that are given."""

    def write(*languages):
        audio = sorted((SPEECH_DIRECTORY / "clean").glob("*/1/*.ogg"))
        rows = []
        for number, language in enumerate(languages):
            shutil.copy(audio[number], tmp_path / f"{number}.ogg")
            rows.append(json.dumps({"file_name": f"{number}.ogg", "text": "ja", "language": language}))
        (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
        return {"dataset": "folder", "root": str(tmp_path)}

    return write


def test_english_by_words_has_the_ids_that_it_had():
    clean = {"dataset": "embedded", "split": "clean", "limit": 2}
    (usual,), _ = cells(clean)
    assert not {"language", "error_unit"} & set(usual.identity)
    (named,), _ = cells({**clean, "language": "en"}, scoring={"normalizer": "whisper-english", "error_unit": "word"})
    assert named.cell_id == usual.cell_id
    others = [
        cells({**clean, "language": "detect"}),
        cells({**clean, "error_unit": "character"}),
        cells({**clean, "normalizer": "multilingual"}),
        cells(clean, decoding={"language": "detect"}),
    ]
    ids = [own.cell_id for (own,), _ in others]
    assert len({usual.cell_id, *ids}) == 5
    assert [own.identity.get("language") for (own,), _ in others] == ["detect", None, None, None]


def test_rows_then_the_data_set_then_decoding_say_what_is_spoken(folder):
    data = Data(**folder("yue", "", "zh-TW"), language="de")
    _, resolved = cells({**data.model_dump(exclude_none=True), "error_unit": "word"})
    (corpus,) = resolved.corpora.values()
    assert languages_told(corpus, data, Decoding()) == ["yue", "de", "zh"]
    assert languages_told(corpus, data, Decoding(language="detect")) == ["detect"] * 3
    assert [spoken(utterance, Decoding(language="detect")) for utterance in corpus.utterances] == ["yue", "de", "zh"]


def test_one_test_set_may_be_told_and_detected_but_not_told_twice():
    clean = {"dataset": "embedded", "split": "clean", "limit": 2}
    assert len(cells({**clean, "name": "a"}, {**clean, "name": "b", "language": "detect"})[0]) == 2
    with pytest.raises(ConfigError, match="a and b are the same recordings"):
        cells({**clean, "name": "a"}, {**clean, "name": "b", "language": "en"})


def test_what_cannot_be_scored_is_refused(folder):
    with pytest.raises(ConfigError, match="de is scored by words and ja by characters"):
        cells(folder("de", "ja"))
    with pytest.raises(ConfigError, match='language = "detect" needs data that says what is spoken'):
        cells(folder("de", ""), decoding={"language": "detect"})
    with pytest.raises(DataError, match='line 1: language is "German"; write its code'):
        cells(folder("German"))


def test_which_languages_are_spoken_identifies_cells_that_detect_them(folder):
    detect = {"language": "detect"}
    ids = {cells(folder(*rows), decoding=detect)[0][0].cell_id for rows in (("de", "de", "fr"), ("fr", "de", "de"))}
    assert len(ids) == 2
    one = cells(folder("de", "de", "de"), decoding=detect)[0][0]
    assert "spoken" not in one.identity


def test_a_language_by_its_name_is_the_one_by_its_code():
    clean = {"dataset": "embedded", "split": "clean", "limit": 2}
    assert cells(clean, decoding={"language": "english"})[0][0].cell_id == cells(clean)[0][0].cell_id


def test_recordings_of_two_languages_are_not_joined(folder):
    with pytest.raises(DataError, match="would put de and ja into one recording"):
        cells({**folder("ja", "de"), "join_seconds": 60})
