"""Likelihood of the references: of the right tokens, independent of the batch, and worse for a worse model."""

import pytest
import torch

from backends import quantize
from harness import datasets
from harness.attended import attended
from harness.config import Data, Decoding
from harness.cost.operations import decoder_prompt
from harness.embedded import MODEL_DIRECTORY
from harness.likelihood import reference_likelihoods
from harness.models import load_recognizer
from tests.harness.checkpoints import save_moonshine

SPEECH = datasets.get("embedded").load(Data(dataset="embedded", split="clean", limit=6)).utterances


def likelihoods(recognizer, utterances, texts=None):
    waveforms = [utterance.waveform() for utterance in utterances]
    with decoder_prompt(recognizer.model) as prompt, attended(recognizer.model) as seen:
        recognizer.transcribe(waveforms, Decoding(max_new_tokens=20))
    return reference_likelihoods(recognizer, seen, prompt, texts or [u.text for u in utterances]), prompt


@pytest.fixture(scope="module")
def recognizer():
    return load_recognizer(MODEL_DIRECTORY, "float32", "cpu")


def test_it_is_the_sum_over_tokens_after_the_prompt(recognizer):
    (found,), prompt = likelihoods(recognizer, SPEECH[:1])
    tokens = recognizer.reference_tokens(SPEECH[0].text, prompt)
    assert recognizer.processor.decode(tokens, skip_special_tokens=True).strip() == SPEECH[0].text.lower()
    assert tokens[-1] == recognizer.model.generation_config.eos_token_id
    inputs = recognizer.inputs([SPEECH[0].waveform()])
    with torch.no_grad():
        logits = recognizer.model(**inputs, decoder_input_ids=tokens[None]).logits[0]
    log_probabilities = torch.log_softmax(logits, -1)
    own = sum(float(log_probabilities[i - 1, tokens[i]]) for i in range(len(prompt), len(tokens)))
    assert found.tokens == len(tokens) - len(prompt)
    assert found.nll == pytest.approx(-own, rel=1e-4)


def test_neighbours_in_the_batch_do_not_matter(recognizer):
    together, _ = likelihoods(recognizer, SPEECH)
    for utterance, found in zip(SPEECH, together, strict=True):
        (alone,), _ = likelihoods(recognizer, [utterance])
        assert found.tokens == alone.tokens
        assert found.nll == pytest.approx(alone.nll, rel=1e-3, abs=1e-3)


def test_wrong_words_and_fewer_bits_are_less_likely(recognizer):
    right, _ = likelihoods(recognizer, SPEECH)
    wrong, _ = likelihoods(recognizer, SPEECH, ["NOTHING OF THE KIND WAS SAID"] * len(SPEECH))
    assert all(r.nll < w.nll for r, w in zip(right, wrong, strict=True))
    coarse = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    coarse.model = quantize(coarse.model, "weight_only", "per_channel", 2, backend="ptq", method="rtn").model
    assert sum(c.nll for c in likelihoods(coarse, SPEECH)[0]) > 2 * sum(r.nll for r in right)


def test_a_reference_without_words_still_ends(recognizer):
    (found,), _ = likelihoods(recognizer, SPEECH[:1], [""])
    assert found.tokens in (1, 2)
    assert found.nll > 0


def test_moonshine(tmp_path):
    other = load_recognizer(save_moonshine(tmp_path / "moonshine"), "float32", "cpu")
    found, prompt = likelihoods(other, SPEECH[:3])
    assert prompt == [1]
    assert all(f.nll / f.tokens > 1 for f in found)
