"""Drafted decoding is greedy decoding, whatever the draft."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig, MoonshineConfig, MoonshineForConditionalGeneration

from harness.recognition.drafts import DraftedGeneration
from tests.conftest import build_whisper

VOCABULARY = 24
END = 3
FEATURES = torch.randn(5, 80, 300, generator=torch.Generator().manual_seed(0))


def whisper(seed, suppressed=None):
    """A random Whisper over few tokens that says different things of different length to different speech."""
    model = build_whisper(vocabulary=VOCABULARY, width=32, encoder_attention_heads=2, decoder_attention_heads=2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "layers" in name:
                parameter.normal_(0, 0.6, generator=generator)
        model.get_decoder().embed_positions.weight.normal_(0, 1, generator=generator)
        model.get_decoder().layer_norm.weight.normal_(0, 10, generator=generator)
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=END, pad_token_id=END, decoder_start_token_id=1, max_length=24,
        suppress_tokens=suppressed, begin_suppress_tokens=[END, 5], no_timestamps_token_id=VOCABULARY - 1,
        is_multilingual=False,
    )  # fmt: skip
    model.config.eos_token_id = model.config.pad_token_id = END
    return model


def greedy(model, features, **more):
    return model.generate(input_features=features, max_new_tokens=20, do_sample=False, num_beams=1, **more)


def texts(sequences):
    """Up to the first end-of-text after the first place."""
    found = []
    for row in sequences.tolist():
        ends = [i for i, token in enumerate(row) if token == END and i > 0]
        found.append(row[: ends[0]] if ends else row)
    return found


tokens = st.lists(st.integers(0, VOCABULARY - 1), max_size=30)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 5), rows=st.integers(1, 5), rounds=st.integers(1, 4))
def test_any_draft_gives_what_greedy_decoding_gives(data, seed, rows, rounds):
    suppressed = data.draw(st.lists(st.integers(4, VOCABULARY - 2), max_size=4, unique=True))
    model = whisper(seed, suppressed or None)
    features = FEATURES[:rows]
    expected = texts(greedy(model, features))
    drafts = []
    for row in expected:
        kind = data.draw(st.sampled_from(["right", "empty", "long", "changed", "missing", "extra", "random", "ended"]))
        own = list(row)
        place = data.draw(st.integers(0, max(len(own) - 1, 0)))
        drafts.append(
            {
                "right": own,
                "empty": [],
                "long": own + own,
                "changed": [*own[:place], 7, *own[place + 1 :]],
                "missing": own[:place] + own[place + 1 :],
                "extra": [*own[:place], 8, *own[place:]],
                "random": data.draw(tokens),
                "ended": [*own[:place], END, *own[place:]],
            }[kind]
        )
    found = texts(greedy(model, features, custom_generate=DraftedGeneration(drafts, rounds)))
    assert found == expected


def test_the_models_of_these_tests_have_something_to_say():
    spoken = [row for seed in range(6) for row in texts(greedy(whisper(seed), FEATURES))]
    assert len({tuple(row) for row in spoken}) > 15
    assert len({len(row) for row in spoken}) > 3
    assert sum(len(set(row)) > 3 for row in spoken) > 20


def test_a_right_draft_takes_one_pass_of_the_decoder():
    model = whisper(0)
    expected = texts(greedy(model, FEATURES))
    calls = []
    hook = model.get_decoder().register_forward_hook(lambda *_: calls.append(1))
    encoded = []
    other = model.get_encoder().register_forward_hook(lambda *_: encoded.append(1))
    greedy(model, FEATURES, custom_generate=DraftedGeneration(expected))
    hook.remove()
    other.remove()
    assert len(calls) <= 2
    assert len(encoded) == 1


@pytest.mark.parametrize("rounds", [1, 3])
def test_moonshine(rounds):
    torch.manual_seed(0)
    config = MoonshineConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, encoder_num_hidden_layers=1,
        decoder_num_hidden_layers=2, encoder_num_attention_heads=2, decoder_num_attention_heads=2, pad_token_id=END,
        bos_token_id=1, eos_token_id=END, decoder_start_token_id=1,
    )  # fmt: skip
    model = MoonshineForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "layers" in name:
                parameter.normal_(0, 0.6)
        model.get_decoder().norm.weight.normal_(0, 10)
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=END, pad_token_id=END, decoder_start_token_id=1, max_length=40
    )
    speech = torch.randn(3, 16000, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(3, 16000, dtype=torch.long)
    mask[1, 9000:] = 0
    inputs = {"input_values": speech * mask, "attention_mask": mask}
    expected = texts(model.generate(**inputs, max_new_tokens=20, do_sample=False))
    for drafts in (expected, [row[1:] for row in expected], [[], [4, 4, 4], expected[2][1:9]]):
        drafted = DraftedGeneration(drafts, rounds)
        assert texts(model.generate(**inputs, max_new_tokens=20, do_sample=False, custom_generate=drafted)) == expected


def test_rows_that_are_gone_back_to_have_no_drafts_any_more():
    """Whisper decodes on, without the others, where a row wrote timestamps, as badly quantized models do."""
    model = whisper(0)
    expected = [texts(greedy(model, features)) for features in (FEATURES, FEATURES[1:3])]
    loop = DraftedGeneration(expected[0])
    found = [texts(greedy(model, features, custom_generate=loop)) for features in (FEATURES, FEATURES[1:3])]
    assert found == expected
