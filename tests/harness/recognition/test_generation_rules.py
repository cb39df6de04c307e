"""Every name that a generation configuration can have: honoured as transformers' own `generate` does, or refused."""

import copy
from importlib import import_module

import pytest
import torch
from transformers import GenerationConfig

from backends import CheckpointError, ModelError, UnsupportedError, quantize
from backends.core.base import missing_package
from backends.core.generation import MOOT, REFUSED, RULES, SETTINGS, TOKENS, check_generation, refusal, rules_in_force
from backends.core.registry import get
from harness import datasets
from harness.cost.operations import generated
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY
from harness.experiment.tables import Data, Decoding
from harness.recognition.loading import load_recognizer

END, WORDS = 503, range(30, 60)
DECODING = Decoding(max_new_tokens=60)
IN_FORCE = {
    "bad_words_ids": [[word] for word in WORDS],
    "begin_suppress_tokens": list(range(200)),
    "early_stopping": True,
    "exponential_decay_length_penalty": (3, 1.5),
    "forced_bos_token_id": 7,
    "forced_decoder_ids": [[1, None], [2, 507]],
    "length_penalty": 3.0,
    "min_length": 40,
    "min_new_tokens": 40,
    "no_repeat_ngram_size": 1,
    "remove_invalid_values": True,
    "repetition_penalty": 0.3,
    "return_timestamps": True,
    "sequence_bias": [[[word], -20.0] for word in WORDS],
    "suppress_tokens": [*WORDS, *range(504, 512)],
}
"""A value of every rule; most change what the embedded models write."""
CHANGES = {
    *("bad_words_ids", "begin_suppress_tokens", "exponential_decay_length_penalty", "min_length", "min_new_tokens"),
    *("no_repeat_ngram_size", "repetition_penalty", "sequence_bias", "suppress_tokens"),
}
WITHOUT_EFFECT = {
    "temperature": 0.5,
    "top_k": 5,
    "top_p": 0.5,
    "min_p": 0.5,
    "top_h": 0.5,
    "typical_p": 0.5,
    "epsilon_cutoff": 0.1,
    "eta_cutoff": 0.1,
    "renormalize_logits": True,
    "num_assistant_tokens": 3,
    "num_assistant_tokens_schedule": "heuristic",
    "assistant_confidence_threshold": 0.9,
    "assistant_lookbehind": 3,
    "target_lookbehind": 3,
    "assistant_ensemble_weight": 0.5,
    "speculation_type": "any",
    "max_matching_ngram_size": 2,
    "output_attentions": True,
    "output_hidden_states": True,
    "output_logits": True,
    "output_scores": True,
    "alignment_heads": [[0, 0]],
    "median_filter_width": 5,
    "condition_on_prev_tokens": True,
    "compression_ratio_threshold": 1.35,
    "use_cache": False,
    "max_cache_len": 10,
    "disable_compile": True,
    "continuous_batching_config": {"any": 1},
    "low_memory": True,
    "transformers_version": "4.0.0",
}
OVERRULED = {
    "do_sample": True,
    "language": "en",
    "max_length": 20,
    "max_new_tokens": 5,
    "num_beams": 3,
    "task": "transcribe",
}
REFUSED_VALUES = dict.fromkeys(REFUSED, 3) | {"max_time": 0.001, "num_beam_groups": 2, "penalty_alpha": 0.6}
OF_WHISPER = {"alignment_heads", "is_multilingual", "lang_to_id", "no_timestamps_token_id", "prev_sot_token_id"}
OF_WHISPER |= {"task_to_id", "max_initial_timestamp_index", "median_filter_width", "language", "task"}
OF_WHISPER |= {"return_timestamps", "forced_decoder_ids", "no_speech_threshold", "logprob_threshold"}
OF_WHISPER |= {"compression_ratio_threshold", "condition_on_prev_tokens"}


@pytest.fixture(scope="module", params=[MODEL_DIRECTORY, MOONSHINE_DIRECTORY], ids=lambda path: path.name)
def recognizer(request):
    return load_recognizer(request.param, "float32", "cpu")


@pytest.fixture(scope="module")
def batch(recognizer):
    speech = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances
    return recognizer.prepare([utterance.waveform() for utterance in speech[:3]], DECODING)


@pytest.fixture(scope="module")
def usual(recognizer, batch):
    return tokens(recognizer, batch)


@pytest.fixture(scope="module")
def openvino():
    if missing := missing_package(get("openvino")):
        pytest.skip(missing.reason)
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    recognizer.model = quantize(
        recognizer.model, "weight_only", "per_channel", 8, backend="openvino", parts=["encoder"]
    ).model
    speech = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances
    return recognizer, recognizer.prepare([utterance.waveform() for utterance in speech[:3]], DECODING)


@pytest.fixture
def ruled(recognizer):
    """Set rules of the model for the length of a test."""
    before = recognizer.model.generation_config

    def set_rules(**rules):
        changed = copy.deepcopy(before)
        for name, value in rules.items():
            setattr(changed, name, value)
        recognizer.model.generation_config = changed
        return changed

    yield set_rules
    recognizer.model.generation_config = before


def tokens(recognizer, batch, drafts=None):
    heard = recognizer.transcribe(batch, DECODING, drafts)
    return [list(generated(transcript.tokens, recognizer.prompt)) for transcript in heard]


def by_transformers(recognizer, batch):
    """What transformers' own `generate` writes, up to the end of every text; Moonshine hears one at a time."""
    rows = []
    for group in batch.groups:
        own = {"language": "en", "task": "transcribe"}
        if "input_values" in group.inputs:
            own = {"max_new_tokens": int(6.5 * batch.samples[group.rows[0]] / 16000) + 2}
        rows += written(recognizer, group.inputs, own)
    return rows


def written(recognizer, inputs, own):
    with torch.no_grad():
        found = recognizer.model.generate(**inputs, **{"max_new_tokens": 60, "num_beams": 1, "do_sample": False, **own})
    rows = [list(generated(row, recognizer.prompt)) for row in found.tolist()]
    return [row[: row.index(END)] if END in row else row for row in rows]


def test_every_name_is_decided_once():
    names = {name for name in vars(GenerationConfig()) if not name.startswith("_")} | OF_WHISPER
    decided = [*RULES, *TOKENS, *SETTINGS, *MOOT, *REFUSED]
    assert sorted(decided) == sorted(set(decided))
    assert names <= set(decided), f"to be decided: {names - set(decided)}"
    assert (set(IN_FORCE), set(WITHOUT_EFFECT), set(OVERRULED)) == (RULES, MOOT, SETTINGS)


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_rule_is_honoured_in_every_way_of_decoding(name, recognizer, batch, usual, ruled):
    of_moonshine = name.startswith("min_") and "input_values" in batch.groups[0].inputs
    value = 9 if of_moonshine else IN_FORCE[name]  # below its caps
    config = ruled(**{name: value})
    assert refusal(config) is None
    assert rules_in_force(config)[name] == value
    expected = by_transformers(recognizer, batch)
    assert tokens(recognizer, batch) == expected
    assert tokens(recognizer, batch, usual) == expected
    assert (expected != usual) or name not in CHANGES or of_moonshine


@pytest.mark.parametrize("settings", [WITHOUT_EFFECT, OVERRULED], ids=["moot", "overruled"])
def test_what_is_moot_or_set_by_the_experiment_changes_nothing(settings, recognizer, batch, usual, ruled):
    """All at once: one that had an effect would change the words, as the rules in `CHANGES` do."""
    config = ruled(**settings)
    assert refusal(config) is None
    assert not set(settings) & set(rules_in_force(config))
    assert tokens(recognizer, batch) == usual
    assert tokens(recognizer, batch, usual) == usual


@pytest.mark.parametrize("name", [*sorted(REFUSED), "of_a_later_release"])
def test_what_cannot_be_honoured_is_refused_by_name(name, recognizer, ruled, tmp_path):
    ruled(**{name: REFUSED_VALUES.get(name, 1)})
    with pytest.raises(CheckpointError, match=rf"{tmp_path}/generation_config.json: {name} = .*; take it out"):
        check_generation(recognizer.model, tmp_path)


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize(("engine", "bits", "form"), [("ctranslate2", 32, "fp32"), ("ggml", 16, "fp16")])
def test_an_engine_honours_a_rule_or_refuses_it_by_name(engine, bits, form, name):
    if missing := missing_package(get(engine)):
        pytest.skip(missing.reason)
    honoured = import_module(f"backends.{engine}._modules").HONOURED
    fresh = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    setattr(fresh.model.generation_config, name, IN_FORCE[name])
    asked = ("none", "per_tensor", bits)
    if name in honoured:
        speech = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances
        batch = fresh.prepare([utterance.waveform() for utterance in speech[:3]], DECODING)
        expected = tokens(fresh, batch)
        fresh.model = quantize(fresh.model, *asked, backend=engine, format=form).model
        assert tokens(fresh, batch) == expected
    else:
        with pytest.raises(ModelError, match=f"does not follow the generation configuration's {name} = "):
            quantize(fresh.model, *asked, backend=engine, format=form)


@pytest.fixture(scope="module")
def onnxruntime():
    if missing := missing_package(get("onnxruntime")):
        pytest.skip(missing.reason)
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    recognizer.model = quantize(recognizer.model, "none", "per_tensor", 32, format="fp32", backend="onnxruntime").model
    return recognizer


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(RULES))
def test_onnxruntime_honours_a_rule_or_refuses_it_by_name(name, onnxruntime):
    from backends.onnxruntime._generator import HONOURED

    fresh = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    setattr(fresh.model.generation_config, name, IN_FORCE[name])
    if name in HONOURED:
        speech = datasets.get("embedded").load(Data(dataset="embedded", split="clean")).utterances
        batch = fresh.prepare([utterance.waveform() for utterance in speech[:3]], DECODING)
        before = onnxruntime.model.generation_config
        onnxruntime.model.generation_config = fresh.model.generation_config
        assert tokens(onnxruntime, batch) == tokens(fresh, batch)
        onnxruntime.model.generation_config = before
    else:
        with pytest.raises(ModelError, match=f"does not follow the generation configuration's {name} = "):
            quantize(fresh.model, "none", "per_tensor", 32, format="fp32", backend="onnxruntime")


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_openvino_leaves_rules_to_transformers(name, openvino):
    recognizer, batch = openvino
    before = recognizer.model.generation_config
    recognizer.model.generation_config = copy.deepcopy(before)
    setattr(recognizer.model.generation_config, name, IN_FORCE[name])
    assert tokens(recognizer, batch) == by_transformers(recognizer, batch)
    recognizer.model.generation_config = before


@pytest.mark.parametrize(("name", "value"), [("language", "de"), ("language", "german"), ("task", "translate")])
def test_a_language_or_task_of_the_checkpoint_is_not_overruled(name, value, recognizer, batch, ruled):
    if "input_features" not in batch.groups[0].inputs:
        pytest.skip("Moonshine has neither")
    ruled(**{name: value})
    with pytest.raises(UnsupportedError, match=f"generation_config.json has {name} = '{value}', and"):
        recognizer.transcribe(batch, DECODING)


@pytest.mark.parametrize("name", ["English", "<|en|>"])
def test_english_may_be_called_so(name, recognizer, batch, usual, ruled):
    ruled(language=name)
    assert tokens(recognizer, batch) == usual


@pytest.mark.parametrize("forced", [[[1, 506]], [[1, 505], [2, 506]], [[1, None], [2, 507], [3, 510]]])
def test_a_language_or_task_that_the_checkpoint_forces_is_not_passed_over(forced, recognizer, batch, ruled):
    if "input_features" not in batch.groups[0].inputs:
        pytest.skip("Moonshine has neither")
    ruled(forced_decoder_ids=forced)
    with pytest.raises(UnsupportedError, match="forced_decoder_ids wants the token"):
        recognizer.transcribe(batch, DECODING)
