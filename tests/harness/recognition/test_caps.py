"""Caps of tokens belong to utterances, and what a cap or a window cut off is said."""

import pandas
import pytest

from harness import datasets, grid
from harness.cost.operations import generated
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY
from harness.experiment.tables import Data, Decoding
from harness.recognition.loading import load_recognizer
from harness.report import __main__ as report
from tests.harness.broken_checkpoints import edit, linked

SPEECH = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances[:4]


@pytest.fixture(scope="module")
def moonshine(tmp_path_factory):
    """It never ends by itself, so that every utterance meets its cap."""
    directory = linked(MOONSHINE_DIRECTORY, tmp_path_factory.mktemp("endless") / "model")
    edit(directory, "generation_config.json", suppress_tokens=[503])
    return load_recognizer(directory, "float32", "cpu")


def heard(recognizer, size, decoding, drafts=None):
    waveforms = [utterance.waveform() for utterance in SPEECH]
    found = []
    for start in range(0, len(waveforms), size):
        own = None if drafts is None else drafts[start : start + size]
        found += recognizer.transcribe(waveforms[start : start + size], decoding, own)
    return found


@pytest.mark.parametrize("settings", [{}, {"tokens_per_second": 3.0}, {"num_beams": 2}], ids=str)
def test_moonshine_does_not_depend_on_the_batch(moonshine, settings):
    decoding = Decoding(max_new_tokens=200, **settings)
    alone, together = heard(moonshine, 1, decoding), heard(moonshine, 4, decoding)
    counts = [len(generated(transcript.tokens, moonshine.prompt)) for transcript in together]
    rate = settings.get("tokens_per_second", 6.5)
    assert counts == [int(rate * utterance.seconds()) + 2 for utterance in SPEECH]
    assert len(set(counts)) > 1
    assert all(transcript.limited for transcript in together)
    assert [t.tokens for t in alone] == [t.tokens for t in together]
    assert [t.text for t in alone] == [t.text for t in together]


def test_drafts_have_the_caps_too(moonshine):
    decoding = Decoding(max_new_tokens=200)
    plain = heard(moonshine, 4, decoding)
    drafts = [generated(transcript.tokens, moonshine.prompt) for transcript in plain]
    for given in (drafts, [[7] * 300] * 4, [[]] * 4):
        assert heard(moonshine, 4, decoding, given) == plain


@pytest.mark.parametrize("directory", [MODEL_DIRECTORY, MOONSHINE_DIRECTORY], ids=lambda path: path.name)
def test_only_what_ended_at_its_cap_is_said_to(directory):
    recognizer = load_recognizer(directory, "float32", "cpu")
    rate = {"tokens_per_second": 30.0} if directory is MOONSHINE_DIRECTORY else {}
    whole = heard(recognizer, 4, Decoding(max_new_tokens=60, **rate))
    assert not any(transcript.limited for transcript in whole)
    most = len(generated(whole[0].tokens, recognizer.prompt))
    exact = heard(recognizer, 4, Decoding(max_new_tokens=most + 1, **rate))
    assert not exact[0].limited
    assert heard(recognizer, 4, Decoding(max_new_tokens=most, **rate))[0].limited


EXPERIMENT = """
name = "caps"
model = "{model}"
data = [{{ dataset = "folder", root = "{root}" }}]
[decoding]
max_new_tokens = 5
[run]
device = "cpu"
output = "{out}"
[[grid]]
backend = "quanto"
bits = 8
"""


def test_rows_say_what_was_cut_and_what_ended_at_its_cap(tmp_path, capsys):
    import numpy as np
    import soundfile

    waveform = np.tile(SPEECH[0].waveform(), 12)
    assert len(waveform) > 6 * 16_000
    soundfile.write(tmp_path / "long.wav", waveform, 16_000)
    soundfile.write(tmp_path / "short.wav", SPEECH[1].waveform(), 16_000)
    (tmp_path / "metadata.csv").write_text("file_name,text\nlong.wav,many words\nshort.wav,some more words\n")
    (tmp_path / "caps.toml").write_text(EXPERIMENT.format(model=MODEL_DIRECTORY, root=tmp_path, out=tmp_path / "runs"))
    assert grid.main([str(tmp_path / "caps.toml")]) == 0
    rows = pandas.read_parquet(tmp_path / "runs" / "caps" / "results.parquet")
    assert set(rows["cut"]) == {1}
    assert set(rows["at_limit"]) == {2}
    assert rows["reason"].str.contains("1 of 2 utterances were cut at the end of the model's window").all()
    assert rows["reason"].str.contains("2 of 2 transcripts ended at their cap of tokens").all()
    said = capsys.readouterr().out
    assert "test: 1 of 2 utterances were cut at the end of the model's window (" in said
    assert "test: 2 of 2 transcripts ended at their cap of tokens, not by themselves (" in said
    assert report.main([str(tmp_path / "runs" / "caps")]) == 0
    page = (tmp_path / "runs" / "caps" / "report.html").read_text()
    assert page.count("1 of 2 utterances were cut at the end of the model&#39;s window") == 2
