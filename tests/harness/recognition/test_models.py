import numpy as np
import pytest
import torch

from backends import CheckpointError
from harness import datasets
from harness.embedded import MODEL_DIRECTORY
from harness.errors import CheckpointNotFoundError
from harness.experiment.tables import Data, Decoding
from harness.recognition.loading import load_recognizer
from harness.recognition.models import _joined, _up_to
from tests.conftest import build_whisper
from tests.harness.checkpoints import save_moonshine


@pytest.fixture(scope="module")
def recognizer():
    return load_recognizer(MODEL_DIRECTORY, "float32", "cpu")


def tone(seconds, pitch=220):
    return np.sin(np.arange(int(seconds * 16000)) / 16000 * 2 * np.pi * pitch).astype(np.float32)


def test_any_length_is_one_transcript_each(recognizer):
    heard = recognizer.transcribe([tone(0.01), tone(2), tone(20)], Decoding(max_new_tokens=5))
    assert len(heard) == 3
    assert all(isinstance(t.text, str) and len(t.tokens) <= 9 for t in heard)
    assert recognizer.feature_seconds > 0
    assert 0 < recognizer.encode_seconds < recognizer.decode_seconds


def test_moonshine_is_capped_at_six_and_a_half_tokens_a_second(tmp_path):
    moonshine = load_recognizer(save_moonshine(tmp_path), "float32", "cpu")
    heard = moonshine.transcribe([tone(1.0), tone(0.5)], Decoding(max_new_tokens=100))
    assert max(len(t.tokens) for t in heard) <= int(6.5 * 1.0) + 2 + 1


def test_bf16_takes_bf16_features():
    bf16 = load_recognizer(MODEL_DIRECTORY, "bfloat16", "cpu")
    assert bf16.model.dtype == torch.bfloat16
    assert len(bf16.transcribe([tone(1)], Decoding(max_new_tokens=5))) == 1


def test_tokens_end_before_the_end_of_text():
    assert _up_to({9}, [5, 6, 9, 9]) == (5, 6)
    assert _up_to({9}, [5, 6]) == (5, 6)


def test_calibration_windows_are_full_and_lose_nothing():
    waveforms = [tone(s) for s in (2, 3, 2, 5, 7)]
    windows = _joined(waveforms, list("abcde"), 6 * 16000)
    assert [text for _, text in windows] == ["a b", "c", "d", "e"]
    assert sum(len(waveform) for waveform, _ in windows) == sum(map(len, waveforms))


def test_calibration_inputs_are_teacher_forced(recognizer):
    items = recognizer.calibration_inputs([tone(2), tone(3), tone(4)], ["ONE", "TWO", "THREE"], batch_size=1)
    assert len(items) == 2
    with torch.no_grad():
        output = recognizer.model(**items[0].inputs)
    assert output.logits.shape[:2] == items[0].inputs["decoder_input_ids"].shape
    assert output.encoder_last_hidden_state.shape[1] == 150
    assert items[0].lengths["encoder"].tolist() == [125]
    assert items[0].mask("encoder", 150).sum() == 125


def test_padding_in_a_batch_is_told(recognizer):
    (item,) = recognizer.calibration_inputs([tone(5), tone(6)], ["ONE TWO THREE FOUR", "ONE"], batch_size=2)
    tokens = item.inputs["decoder_input_ids"]
    counts = item.lengths["decoder"].tolist()
    assert counts[0] == tokens.shape[1] > counts[1]
    assert (tokens[1, counts[1] :] == recognizer.model.config.pad_token_id).all()


def test_teacher_forced_text_is_likely_to_the_model(recognizer):
    """The tokenizer expects the space that transcripts begin with; without it the words come as a surprise."""
    calibration = Data(dataset="embedded", split="calibration", limit=1)
    (utterance,) = datasets.get("embedded").load(calibration).utterances
    (item,) = recognizer.calibration_inputs([utterance.waveform()], [utterance.text], 1)
    text = recognizer.processor.tokenizer.decode(item.inputs["decoder_input_ids"][0])
    assert "<|notimestamps|> " in text
    assert text == text.lower()
    tokens = item.inputs["decoder_input_ids"]
    with torch.no_grad():
        scores = recognizer.model(**item.inputs).logits.log_softmax(-1)
    likelihoods = scores[0, 3:-2].gather(1, tokens[0, 4:-1, None])
    assert -likelihoods.mean() < 0.3


def test_moonshine_counts_its_own_positions(tmp_path):
    moonshine = load_recognizer(save_moonshine(tmp_path), "float32", "cpu")
    (item,) = moonshine.calibration_inputs([tone(12), tone(11)], ["ONE", "TWO"], batch_size=2)
    states = moonshine.model.get_encoder()(item.inputs["input_values"]).last_hidden_state
    assert 0 <= item.lengths["encoder"][0] - states.shape[1] <= 2
    assert item.lengths["encoder"][1] < states.shape[1]


def test_other_architectures_are_refused(tmp_path):
    from transformers import GPT2Config

    GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="only whisper, moonshine models"):
        load_recognizer(tmp_path, "float32", "cpu")


def test_a_checkpoint_without_a_tokenizer_is_one_sentence(tmp_path):
    build_whisper().save_pretrained(tmp_path)
    with pytest.raises(CheckpointNotFoundError, match="there is no processor"):
        load_recognizer(tmp_path, "float32", "cpu")


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(MODEL_DIRECTORY, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.encoder.layers.0.fc1.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack model\.encoder\.layers\.0\.fc1\.weight"):
        load_recognizer(tmp_path, "float32", "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: cannot be read as safetensors: it is cut off"):
        load_recognizer(tmp_path, "float32", "cpu")
