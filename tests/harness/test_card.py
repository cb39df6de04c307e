"""The card of a model with what a run measured of it."""

import pytest
from huggingface_hub import ModelCard
from transformers import WhisperForConditionalGeneration

from backends import quantize
from harness import publish
from harness.records.reading import open_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(published_root, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "four-bits"
    float_model = WhisperForConditionalGeneration.from_pretrained(published_root / "some one's model", dtype="float32")
    quantize(float_model, "weight_only", "per_group:64", 4, backend="hqq").save(directory)
    return directory


def test_it_says_what_was_measured_and_how(whole_run, model, tmp_path, capsys):
    assert publish.main([str(whole_run[0]), str(tmp_path / "published"), "--card", str(model)]) == 0
    assert str(model / "README.md") in capsys.readouterr().out
    card = ModelCard.load(model / "README.md")
    rows = [row for row in open_run(whole_run[1]).results() if row["bits"] == 4]
    found = {result.dataset_name: result.metric_value for result in card.data.eval_results}
    assert found == {row["dataset"]: round(100 * row["wer"], 2) for row in rows}
    assert {result.metric_type for result in card.data.eval_results} == {"wer"}
    for row in rows:
        assert f"| {row['dataset']} | {int(row['utterances'])} | {100 * row['wer']:.2f} [" in card.text
        assert f"| {int(row['utterances_worse'])}, {int(row['utterances_better'])} |" in card.text
    assert "Not measured: speed (`python -m harness.latency` measures it), other speech than this." in card.text


def test_a_model_that_the_run_did_not_measure_is_refused(whole_run, published_root, tmp_path, capsys):
    float_model = WhisperForConditionalGeneration.from_pretrained(published_root / "some one's model", dtype="float32")
    quantize(float_model, "weight_only", "per_group:64", 8, backend="hqq").save(tmp_path / "eight")
    assert publish.main([str(whole_run[0]), str(tmp_path / "published"), "--card", str(tmp_path / "eight")]) == 2
    assert "there is no finished cell of its spec" in capsys.readouterr().err
    assert not (tmp_path / "eight" / "README.md").exists()
