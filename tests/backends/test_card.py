"""Model cards: what they say, read back by the hub's own parser, and what is sent."""

import pytest
from huggingface_hub import ModelCard

from backends import quantize
from backends.__main__ import main
from backends.core import card as cards
from backends.testing import small_whisper


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "small-int4"
    quantized = quantize(small_whisper(), "weight_only", "per_channel", 4, backend="reference")
    quantized.save(directory)
    return directory, quantized.report


def written(directory, *flags):
    assert main(["card", str(directory), *flags]) == 0
    return ModelCard.load(directory / "README.md")


def test_the_card_is_read_by_the_hub_s_own_parser(saved):
    directory, report = saved
    card = written(directory, "--base-model", "openai/whisper-tiny", "--license", "Apache-2.0")
    assert (card.data.base_model, card.data.license) == ("openai/whisper-tiny", "apache-2.0")
    assert card.data.to_dict()["base_model_relation"] == "quantized"
    assert {"asrquant", "quantized", "reference"} == set(card.data.tags)
    assert card.data.pipeline_tag == "automatic-speech-recognition"
    assert f"{report.size_bytes / 1e6:.2f} MB, {report.size_reduction:.1%} less" in card.text
    layers = [layer for layer in report.layers if layer.effective is not None]
    weights = sum(layer.parameters for layer in layers) / 1e6
    assert f"| {layers[0].effective} | {len(layers)} | {weights:.2f} |" in card.text
    assert "Nothing: this card is of the model alone." in card.text


def test_it_takes_the_place_of_its_own_alone(saved, capsys):
    directory, _ = saved
    written(directory, "--license", "mit")
    assert written(directory).data.license == "mit"
    (directory / "README.md").write_text("mine")
    assert main(["card", str(directory)]) == 2
    assert "it was not written by asrquant" in capsys.readouterr().err
    assert (directory / "README.md").read_text() == "mine"
    (directory / "README.md").unlink()


def test_nothing_is_sent_unless_it_is_said_twice(saved, capsys, monkeypatch):
    directory, _ = saved
    sent = []

    class Api:
        def __init__(self, token):
            sent.append(token)

        def create_repo(self, name, exist_ok):
            sent.append(name)

        def upload_folder(self, folder_path, repo_id):
            sent.append(sorted(path.name for path in folder_path.iterdir()))

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert main(["card", str(directory), "--push", "me/small"]) == 0
    assert "would send" in capsys.readouterr().out
    assert main(["card", str(directory), "--push", "me/small", "--upload"]) == 2
    assert "HF_TOKEN is not set" in capsys.readouterr().err
    assert main(["card", str(directory), "--upload"]) == 2
    assert sent == []
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert main(["card", str(directory), "--push", "me/small", "--upload"]) == 0
    assert sent == ["secret", "me/small", sorted(path.name for path in directory.iterdir())]
    assert "secret" not in capsys.readouterr().out


def test_sending_keeps_a_card_that_says_what_was_measured(saved, capsys):
    directory, _ = saved
    card = cards.card_of(directory, "openai/whisper-tiny", "", cards.Evaluated((), "## What was measured\n\nWER 5.2 %"))
    cards.write_card(directory, card)
    assert main(["card", str(directory), "--push", "me/small"]) == 0
    assert "WER 5.2 %" in (directory / "README.md").read_text()
    assert main(["card", str(directory), "--push", "me/small", "--license", "mit"]) == 0
    card = ModelCard.load(directory / "README.md")
    assert (card.data.base_model, card.data.license) == ("openai/whisper-tiny", "mit")
    assert "WER 5.2 %" in card.text
    assert main(["card", str(directory), "--push", "small"]) == 2
    assert "small: name a repository as OWNER/NAME" in capsys.readouterr().err


def test_what_the_hub_refuses_is_a_sentence(saved, capsys, monkeypatch):
    def refuse(*args, **named):
        raise OSError("no route to the hub\nTraceback of something")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert main(["card", str(saved[0]), "--push", "me/small", "--upload"]) == 2
    told = capsys.readouterr().err
    assert "me/small: the hub did not take it: no route to the hub" in told
    assert "Traceback" not in told


def test_a_directory_without_a_model_is_refused(tmp_path, capsys):
    assert main(["card", str(tmp_path)]) == 2
    assert "quantization.json" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_card_is_needed_before_it_is_sent(saved, tmp_path):
    with pytest.raises(cards.CheckpointError, match="write the card first"):
        cards.push(tmp_path, "me/small", upload=False)
