"""What the embedded benchmark promises: sizes, speakers, disjointness, and the error rates of its model."""

import itertools
import random
import shutil

import numpy as np
import pytest
import soundfile

from harness import datasets
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY, SPEECH_DIRECTORY, _corpus, _voices
from harness.embedded._sentences import fragment, sentences
from harness.experiment.tables import Data, Decoding
from harness.metrics import ErrorRate, Normaliser, count_errors
from harness.recognition.loading import load_recognizer

SPLITS = ("clean", "other")


def speech(split):
    return datasets.get("embedded").load(Data(dataset="embedded", split=split)).utterances


@pytest.mark.parametrize("split", SPLITS)
def test_splits_are_large_enough_to_block_by_speaker(split):
    utterances = speech(split)
    assert len(utterances) >= 500
    assert len({u.speaker for u in utterances}) >= 20
    assert all(u.audio.parent.parent.name == u.speaker for u in utterances)


def test_all_of_it_is_small():
    roots = (MODEL_DIRECTORY, MOONSHINE_DIRECTORY, SPEECH_DIRECTORY)
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6


def test_shipped_sentences_are_not_in_the_training_text():
    shipped = {u.text.lower() for split in (*SPLITS, "calibration") for u in speech(split)}
    assert shipped <= set(_corpus.held_out_sentences())
    for lesson in _corpus.LESSONS:
        trained = set(itertools.islice(_corpus._lesson_texts(lesson, random.Random(0)), lesson.texts))
        assert not shipped & trained, lesson


def test_voices_of_other_are_not_in_training():
    held_out = {voice.name.partition("+")[2] for voice in _voices.other_speakers()}
    assert len(held_out) == 24
    assert not held_out & set(_voices._TIMBRES)
    table = (SPEECH_DIRECTORY / "SPEAKERS.TXT").read_text().splitlines()[1:]
    assert {line.split("|")[3].strip() for line in table if "| other |" in line} == {
        voice.name for voice in _voices.other_speakers()
    }


def test_sentences_repeat_with_their_seed_and_hold_their_bounds():
    first = list(itertools.islice(sentences(5), 300))
    assert first == list(itertools.islice(sentences(5), 300))
    assert not set(first) & set(itertools.islice(sentences(5, exclude=first), 300))
    assert all(3 <= len(s.split()) <= 12 and len(s) <= 66 for s in first)


def test_fragments_are_parts_of_their_sentence():
    rng = random.Random(0)
    for sentence in itertools.islice(sentences(6), 200):
        part = fragment(sentence, rng)
        assert f" {part} " in f" {sentence} "
        assert 1 <= len(part.split()) <= 4


def test_every_file_is_mono_at_the_models_rate_and_fits_its_window():
    for split in (*SPLITS, "calibration"):
        for utterance in speech(split)[::40]:
            assert soundfile.info(utterance.audio).channels == 1
            assert 0.5 < len(utterance.waveform()) / datasets.SAMPLE_RATE <= 6


def test_the_model_is_a_true_whisper_whose_widths_every_group_size_divides():
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, WhisperForConditionalGeneration

    model = AutoModelForSpeechSeq2Seq.from_pretrained(MODEL_DIRECTORY)
    assert type(model) is WhisperForConditionalGeneration
    widths = {m.in_features for m in model.modules() if m.__class__.__name__ == "Linear"}
    assert all(width % 128 == 0 for width in widths)
    assert model.generation_config.language == "en"
    assert AutoProcessor.from_pretrained(MODEL_DIRECTORY).tokenizer.convert_tokens_to_ids("<|en|>") == (
        model.config.decoder_start_token_id + 1
    )


def test_the_second_model_is_a_true_moonshine_with_the_same_words():
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, MoonshineForConditionalGeneration

    assert type(AutoModelForSpeechSeq2Seq.from_pretrained(MOONSHINE_DIRECTORY)) is MoonshineForConditionalGeneration
    whisper, moonshine = (AutoProcessor.from_pretrained(d).tokenizer for d in (MODEL_DIRECTORY, MOONSHINE_DIRECTORY))
    for text in ("seven ships are near the harbor", "anna"):
        words = whisper(f" {text}", add_special_tokens=False).input_ids
        assert moonshine(text, add_special_tokens=False).input_ids == words
        assert moonshine.decode(moonshine(text).input_ids, skip_special_tokens=True).strip() == text
    assert moonshine("anna").input_ids[0] == moonshine.bos_token_id
    assert moonshine("anna").input_ids[-1] == moonshine.eos_token_id


@pytest.mark.parametrize(
    ("directory", "clean", "other"), [(MODEL_DIRECTORY, 0.08, 0.25), (MOONSHINE_DIRECTORY, 0.15, 0.40)]
)
def test_error_rates_are_within_the_bar(directory, clean, other):
    recognizer = load_recognizer(directory, "float32", "cpu")
    normalise = Normaliser()
    rates = {}
    for split in SPLITS:
        total = ErrorRate()
        for batch in _batches(speech(split)[::8]):
            heard = recognizer.transcribe([u.waveform() for u in batch], Decoding(max_new_tokens=60))
            pairs = zip(batch, heard, strict=True)
            total += sum((count_errors(normalise(u.text), normalise(t.text)).words for u, t in pairs), ErrorRate())
        rates[split] = total.rate
    assert 0 < rates["clean"] < clean
    assert rates["clean"] < rates["other"] < other


def _batches(utterances):
    return [utterances[i : i + 50] for i in range(0, len(utterances), 50)]


@pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="needs espeak-ng and flite")
@pytest.mark.parametrize("name", ["clean_speakers", "other_speakers"])
def test_every_voice_speaks(name):
    synthesizer = _voices.Synthesizer()
    for voice in getattr(_voices, name)():
        spoken = synthesizer.speak("seven ships are near the harbor", voice)
        assert spoken.dtype == np.float32
        assert 0.8 < len(spoken) / datasets.SAMPLE_RATE < 5
        assert np.abs(spoken).max() > 0.05
