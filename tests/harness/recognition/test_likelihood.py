"""Likelihood of the references: of the right tokens, independent of the batch, and worse for a worse model."""

import pytest
import torch

from backends import quantize
from harness import datasets
from harness.cost.operations import decoder_prompt
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Data, Decoding
from harness.recognition.attended import attended
from harness.recognition.likelihood import divergences, load_answers, reference_likelihoods, save_answers
from harness.recognition.loading import load_recognizer
from tests.harness.checkpoints import save_moonshine

SPEECH = datasets.get("embedded").load(Data(dataset="embedded", split="clean", limit=6)).utterances


def likelihoods(recognizer, utterances, texts=None, expected=None):
    waveforms = [utterance.waveform() for utterance in utterances]
    with decoder_prompt(recognizer.model) as prompt, attended(recognizer.model) as seen:
        recognizer.transcribe(waveforms, Decoding(max_new_tokens=20))
    texts = texts or [u.text for u in utterances]
    return reference_likelihoods(recognizer, seen, prompt, texts, expected or [None] * len(texts)), prompt


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


def test_the_bound_of_the_divergence_is_one_and_is_reached_where_all_is_kept():
    torch.manual_seed(0)
    expected, found = (torch.log_softmax(3 * torch.randn(200, 500, dtype=torch.float64), -1) for _ in range(2))
    whole = (expected.exp() * (expected - found)).sum(1)
    before = torch.zeros(200)
    for kept in (1, 8, 64, 500):
        top = expected.topk(kept, -1)
        bound = divergences(top.values, found.gather(1, top.indices))
        assert bool((bound <= whole + 1e-5).all())
        assert bool((bound >= before - 1e-5).all())
        before = bound
    assert torch.allclose(before, whole, atol=1e-5)


def test_answers_beside_the_baselines(recognizer, tmp_path):
    own, _ = likelihoods(recognizer, SPEECH)
    save_answers(tmp_path / "answers", {u.id: found.answers for u, found in zip(SPEECH, own, strict=True)})
    ids = [u.id for u in SPEECH]
    assert load_answers(tmp_path / "answers", ["of nobody"]) == {}
    expected = [load_answers(tmp_path / "answers", ids)[name] for name in ids]
    again, _ = likelihoods(recognizer, SPEECH, expected=expected)
    assert all(found.same_top == found.tokens == len(found.divergence) for found in again)
    assert max(nats for found in again for nats in found.divergence) < 1e-6
    means = []
    for bits in (8, 4, 2):
        coarse = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
        coarse.model = quantize(coarse.model, "weight_only", "per_channel", bits, backend="ptq", method="rtn").model
        found, _ = likelihoods(coarse, SPEECH, expected=expected)
        means.append(sum(sum(f.divergence) for f in found) / sum(f.tokens for f in found))
    assert 0 < means[0] < means[1] < means[2]
    assert any(f.same_top < f.tokens for f in found)
    assert all(f.same_top is None and not f.divergence for f in own)


@pytest.mark.parametrize(
    ("backend", "scheme", "settings"),
    [
        ("quanto", "weight_only", {}),
        ("hqq", "weight_only", {}),
        ("bitsandbytes", "weight_only", {}),
        ("ptq", "weight_only", {"method": "rtn"}),
        ("torch_dynamic", "dynamic", {}),
        ("torchao", "dynamic", {}),
        ("torch_static", "static", {"options": {"reduce_range": True}, "outputs": True}),
        ("torch_static", "static", {"options": {"reduce_range": True}, "outputs": False}),
        ("reference", "weight_only", {}),
    ],
)
def test_every_librarys_head_answers(recognizer, backend, scheme, settings):
    own, _ = likelihoods(recognizer, SPEECH)
    coarse = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    waveforms, texts = [u.waveform() for u in SPEECH], [u.text for u in SPEECH]
    speech = coarse.calibration_inputs(waveforms, texts, batch_size=4)
    found = quantize(
        coarse.model, scheme, "per_channel", 8, backend=backend, modules=["head"], calibration=speech, **settings
    )
    coarse.model = found.model
    answers, _ = likelihoods(coarse, SPEECH, expected=[o.answers for o in own])
    assert sum(a.nll for a in answers) == pytest.approx(sum(o.nll for o in own), rel=0.2)
    assert sum(a.same_top for a in answers) > 0.9 * sum(o.tokens for o in own)


def test_a_reference_without_words_still_ends(recognizer):
    (found,), _ = likelihoods(recognizer, SPEECH[:1], [""])
    assert found.tokens in (1, 2)
    assert found.nll > 0


def test_moonshine(tmp_path):
    other = load_recognizer(save_moonshine(tmp_path / "moonshine"), "float32", "cpu")
    (found,), prompt = likelihoods(other, SPEECH[:1])
    assert prompt == [504]
    assert found.nll / found.tokens > 1
