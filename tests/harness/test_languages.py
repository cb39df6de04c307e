"""Three scripts from three corpora of the hub on loopback, a table of two languages, and languages that are heard."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from datasets import Audio, Dataset

from backends import UnsupportedError
from harness import datasets
from harness.datasets import _hub, fleurs
from harness.embedded import SPEECH_DIRECTORY
from harness.errors import DataError
from harness.experiment.tables import Data, Decoding
from harness.recognition.features import Group
from harness.recognition.languages import by_language
from harness.recognition.loading import load_recognizer
from harness.records.reading import open_run
from tests.harness.checkpoints import save_whisper
from tests.harness.hub import serving

CODES = ("de", "en", "hi", "th")
SAID = {
    "fleurs": ("fleurs/hi_in/test/0000.parquet", ["मैं हिन्दी बोलता हूँ।", "यह अच्छा है।"]),
    "multilingual_librispeech": ("mls/german/test-00000-of-00001.parquet", ["die straße ist schön", "ein haus"]),
    "common_voice": ("cv/th/test/chunk-0-1/part.parquet", ["ที่นี่ดี", "สวัสดี"]),
}
EXPERIMENT = """
name = "languages"
[[model]]
path = "{model}"
[[data]]
dataset = "fleurs"
language = "hi"
name = "hindi"
[[data]]
dataset = "multilingual_librispeech"
language = "de"
name = "german"
[[data]]
dataset = "common_voice"
language = "th"
name = "thai"
[[data]]
dataset = "folder"
root = "{folder}"
name = "mixed"
[decoding]
batch_size = 4
max_new_tokens = 4
[run]
device = "cpu"
workers = 1
[[grid]]
backend = "none"
scheme = "none"
granularity = "per_tensor"
bits = 32
format = "fp32"
"""


def recordings():
    return sorted((SPEECH_DIRECTORY / "clean").glob("*/1/*.ogg"))


def row_of(corpus, number, text, audio):
    encoded = {"path": f"{number}.ogg", "bytes": audio.read_bytes()}
    return {
        "fleurs": {"id": 7, "audio": encoded, "raw_transcription": text, "transcription": text.lower(), "gender": 0},
        "multilingual_librispeech": {"id": f"1_2_{number}", "audio": encoded, "transcript": text, "speaker_id": "1"},
        "common_voice": {"path": f"c{number}.mp3", "audio": encoded, "sentence": text, "client_id": f"s{number}"},
    }[corpus]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Repositories, a checkpoint that knows four languages, and a folder of two of them."""
    root, audio = tmp_path_factory.mktemp("languages"), recordings()
    for corpus, (path, texts) in SAID.items():
        rows = [row_of(corpus, number, text, audio[number]) for number, text in enumerate(texts)]
        (root / path).parent.mkdir(parents=True)
        Dataset.from_list(rows).cast_column("audio", Audio(sampling_rate=16000)).to_parquet(root / path)
    model = save_whisper(root / "model", width=128, encoder_layers=1, decoder_layers=1)
    generation = json.loads((model / "generation_config.json").read_text())
    del generation["language"]
    generation["lang_to_id"] |= {f"<|{code}|>": 51700 + number for number, code in enumerate(("de", "hi", "th"))}
    (model / "generation_config.json").write_text(json.dumps(generation))
    (root / "folder").mkdir()
    (root / "folder" / "a.ogg").write_bytes(audio[2].read_bytes())
    (root / "folder" / "b.ogg").write_bytes(audio[3].read_bytes())
    table = "file_name,text,language\na.ogg,Colour!,en-GB\nb.ogg,Über uns,de\n"
    (root / "folder" / "metadata.csv").write_text(table, encoding="utf-8")
    (root / "languages.toml").write_text(EXPERIMENT.format(model=model, folder=root / "folder"))
    return root


def run(place, endpoint, out, *more):
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(place / "cache")}
    command = [sys.executable, "-m", "harness.grid", str(place / "languages.toml"), "--out", str(place / out), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    return pandas.read_csv(place / out / "languages" / "results.csv").set_index("split")


@pytest.mark.slow
def test_three_scripts_told_and_heard(place):
    hub = {
        ("datasets", "google/fleurs"): place / "fleurs",
        ("datasets", "facebook/multilingual_librispeech"): place / "mls",
        ("datasets", "fixie-ai/common_voice_17_0"): place / "cv",
    }
    with serving(hub) as endpoint:
        told = run(place, endpoint, "told")
    assert list(told.loc[["hindi", "german", "thai", "mixed"], "language"]) == ["hi", "de", "th", "de+en"]
    assert list(told["normalizer"]) == ["multilingual"] * 3 + ["multilingual+whisper-english"]
    assert list(told["error_unit"]) == ["word", "word", "character", "word"]
    assert list(told["reference_words"]) == [4 + 3, 4 + 2, 3 + 4, 1 + 2]
    assert told["language_errors"].isna().all()

    cells = open_run(place / "told" / "languages")
    identities = {name: cells.finished(cell)["identity"] for name, cell in told["cell_id"].items()}
    assert identities["hindi"]["data"]["revision"] == fleurs._REVISION
    assert [identities[name]["language"] for name in ("hindi", "german", "thai")] == ["hi", "de", "th"]
    assert len(identities["mixed"]["language"]) == 16
    assert set(identities["mixed"]["normaliser"]) == {"de", "en"}
    assert [identities[name].get("error_unit") for name in ("hindi", "thai")] == [None, "character"]
    mixed = {row["language"]: row["normalised_reference"] for row in cells.utterances(told.loc["mixed", "cell_id"])}
    assert mixed == {"en": "color", "de": "über uns"}

    heard = run(place, "http://127.0.0.1:9", "heard", "--set", "decoding.language=detect")
    assert not set(heard["cell_id"]) & set(told["cell_id"])
    cells = open_run(place / "heard" / "languages")
    for row in heard.itertuples():
        rows = cells.utterances(row.cell_id)
        assert {row["detected"] for row in rows} <= set(CODES)
        assert row.language_errors == sum(one["detected"] != one["language"] for one in rows)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"dataset": "fleurs"}, "fleurs: say which language is meant, as in"),
        ({"dataset": "fleurs", "language": "detect"}, "leave finding it out to"),
        ({"dataset": "multilingual_librispeech", "language": "ja"}, "no language 'ja'; it has de, es, fr, it, nl, pl"),
        ({"dataset": "common_voice"}, 'or language = "de" to be read from the hub'),
        ({"dataset": "fleurs", "language": "hi", "split": "dev"}, "split 'dev' is not one of test, validation, train"),
        ({"dataset": "fleurs", "language": "hi", "root": "."}, "it comes from the hub; leave data.root out"),
    ],
)
def test_what_is_not_said_is_asked_for(data, named):
    with pytest.raises(DataError, match=named):
        datasets.get(data["dataset"]).load(Data(**data))


def test_every_language_has_one_configuration():
    assert len(fleurs._OF_LANGUAGE) == len(fleurs._CONFIGURATIONS) == 102
    assert [fleurs._OF_LANGUAGE[code] for code in ("zh", "yue", "es", "no")] == [
        "cmn_hans_cn", "yue_hant_hk", "es_419", "nb_no",
    ]  # fmt: skip
    assert _hub.pinned(Data(dataset="fleurs", revision="other"), fleurs._REVISION).revision == "other"


@pytest.mark.parametrize("seconds", [2, 40])
def test_every_utterance_is_decoded_in_the_language_that_is_heard(place, seconds):
    """As transformers' `generate` finds languages out, also in audio that takes several windows."""
    recognizer = load_recognizer(place / "model", "float32", "cpu")
    rng = np.random.default_rng(0)
    speech = [rng.normal(0, 0.1 * number, seconds * 16_000).astype(np.float32) for number in (1, 2)]
    decoding = Decoding(language="detect", max_new_tokens=4, long_audio="sequential")
    (group,) = recognizer.prepare(speech, decoding).groups
    parts = list(by_language(recognizer, group, ["detect"] * 2, decoding))
    heard = {row: part.detected for part in parts for row in part.group.rows}
    features = group.inputs["input_features"][..., :3000]
    codes = recognizer.model.generation_config.lang_to_id
    expected = recognizer.model.detect_language(input_features=features).tolist()
    assert [codes[f"<|{heard[row]}|>"] for row in (0, 1)] == expected
    detected = recognizer.transcribe(speech, decoding)
    told = recognizer.transcribe(speech, decoding, languages=[heard[0], heard[1]])
    assert [transcript.tokens for transcript in detected] == [transcript.tokens for transcript in told]


def test_an_engine_that_only_transcribes_does_not_detect(place):
    recognizer = load_recognizer(place / "model", "float32", "cpu")
    model = recognizer.model
    recognizer.model = SimpleNamespace(config=model.config, generation_config=model.generation_config)
    group = Group((0,), False, {})
    with pytest.raises(UnsupportedError, match="does not detect languages here"):
        list(by_language(recognizer, group, ["detect"], Decoding()))
