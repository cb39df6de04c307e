"""Speech under conditions: what is done is what was asked, the same every time, and part of the cell's identity."""

import itertools
import math

import numpy as np
import pytest
import soundfile

from harness import datasets
from harness.datasets import SAMPLE_RATE, Data
from harness.datasets._channels import active_power, faster, mean_power, mu_law, reverberated, telephoned
from harness.datasets._noises import generator, made
from harness.errors import DataError

SHORTEST = 1600


def embedded(**keys):
    return datasets.load(Data(dataset="embedded", split="clean", limit=2, **keys))


@pytest.fixture(scope="module")
def clean():
    return [utterance.waveform() for utterance in embedded().utterances]


@pytest.fixture
def recordings(tmp_path):
    for number in range(2):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, 8000)
        soundfile.write(tmp_path / f"{number}.wav", noise, 8000)
    return tmp_path


@pytest.mark.parametrize("kind", ["white", "pink", "hum", "babble", "directory"])
@pytest.mark.parametrize("ratio", [20.0, -5.0])
def test_the_ratio_of_active_speech_to_noise_is_what_was_asked(clean, recordings, kind, ratio):
    noise = str(recordings) if kind == "directory" else kind
    for before, utterance in zip(clean, embedded(noise=noise, noise_db=ratio).utterances, strict=True):
        noise_power = mean_power(utterance.waveform().astype(float) - before)
        assert 10 * math.log10(active_power(before) / noise_power) == pytest.approx(ratio, abs=0.1)


def test_pauses_do_not_count_as_speech():
    """Half a second of pause behind a burst keeps the hangover of 0.2 s, and the fall of the envelope."""
    burst = np.random.default_rng(0).standard_normal(5 * SAMPLE_RATE) * 0.1
    alone = active_power(burst)
    paused = active_power(np.concatenate([np.zeros(5 * SAMPLE_RATE), burst, np.zeros(5 * SAMPLE_RATE)]))
    assert 10 * math.log10(alone) == pytest.approx(-20, abs=0.1)
    assert 10 * math.log10(paused) == pytest.approx(-20 + 10 * math.log10(5 / 5.2), abs=0.1)
    assert active_power(0.01 * burst) == pytest.approx(1e-4 * alone)


def test_pink_noise_falls_by_3_dB_an_octave():
    power = np.abs(np.fft.rfft(made("pink", 60 * SAMPLE_RATE, generator(0)))) ** 2
    hertz = np.fft.rfftfreq(60 * SAMPLE_RATE, 1 / SAMPLE_RATE)
    octaves = [power[(hertz >= low) & (hertz < 2 * low)].mean() for low in (62.5, 125, 250, 500, 1000, 2000, 4000)]
    assert np.diff(10 * np.log10(octaves)) == pytest.approx(-10 * math.log10(2), abs=0.3)


def test_hum_is_harmonics_of_the_mains():
    power = np.abs(np.fft.rfft(made("hum", SAMPLE_RATE, generator(0)))) ** 2
    loud = np.flatnonzero(power > power.max() / 1e4)
    assert {math.gcd(*map(int, loud))} <= {50, 60}


def test_mu_law_follows_the_continuous_law():
    """Where the law F(x) = ln(1 + 255 x) / ln 256 is cut into 128 steps, no sample moves by more than one of them."""
    samples = np.linspace(-0.98, 0.98, 20001)

    def law(x):
        return np.sign(x) * np.log1p(255 * np.abs(x)) / math.log(256)

    coded = mu_law(samples)
    assert np.abs(law(coded) - law(samples)).max() < 1 / 128
    assert len(np.unique(coded)) == pytest.approx(255, abs=2)
    assert mu_law(np.array([0.0, 2.0, -2.0])).tolist() == [0.0, 8031 / 8192, -8031 / 8192]
    step = np.diff(np.unique(mu_law(np.linspace(0.5, 0.95, 4001))))
    assert step == pytest.approx(256 / 8192)  # the last segment, as G.711 has it


def test_a_telephone_passes_nothing_above_4_kHz():
    white = np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE) * 0.1
    power = np.abs(np.fft.rfft(telephoned(white))) ** 2
    hertz = np.fft.rfftfreq(len(white), 1 / SAMPLE_RATE)
    assert power[hertz > 4100].mean() < 1e-4 * power[hertz < 3500].mean()


@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_reverberation_falls_by_60_dB_in_its_time(seconds):
    """Schroeder's backward integration, from -5 to -35 dB."""
    impulse = np.zeros(2 * SAMPLE_RATE)
    impulse[0] = 1
    tail = reverberated(impulse, seconds, generator(0))[1:]
    left = 10 * np.log10(np.cumsum(np.square(tail)[::-1])[::-1][: round(0.7 * seconds * SAMPLE_RATE)] / 0.5)
    part = (left < -5) & (left > -35)
    slope = np.polyfit(np.flatnonzero(part) / SAMPLE_RATE, left[part], 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.05)
    assert np.square(reverberated(impulse, seconds, generator(0))).sum() == pytest.approx(1)


def test_speed_changes_length_and_pitch():
    tone = np.sin(2 * np.pi * 440 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    fast = faster(tone, 1.25)
    assert len(fast) == pytest.approx(SAMPLE_RATE / 1.25, abs=1)
    assert np.abs(np.fft.rfft(fast, SAMPLE_RATE)).argmax() == pytest.approx(550, abs=1)


def test_padding_and_gain(clean):
    for before, utterance in zip(clean, embedded(pad_seconds=0.5, gain_db=30.0).utterances, strict=True):
        found = utterance.waveform()
        assert not found[:8000].any()
        assert not found[-8000:].any()
        assert found[8000:-8000] == pytest.approx(np.clip(before * 10**1.5, -1, 1), abs=1e-6)
        assert utterance.seconds() == pytest.approx(len(found) / SAMPLE_RATE)


def test_what_is_done_depends_on_seed_and_id_alone():
    asked = {"noise": "babble", "noise_db": 5.0, "reverb": 0.4}
    two = {u.id: u.waveform() for u in embedded(**asked).utterances}
    more = datasets.load(Data(dataset="embedded", split="clean", limit=4, **asked))
    for utterance in reversed(more.utterances):
        if utterance.id in two:
            assert np.array_equal(utterance.waveform(), two.pop(utterance.id))
    assert not two
    seeds = [datasets.load(Data(dataset="embedded", split="clean", seed=s, **asked)).utterances[0] for s in (0, 1)]
    assert not np.array_equal(*(utterance.waveform() for utterance in seeds))


def test_noise_is_the_same_at_every_ratio(clean):
    loud, quiet = (embedded(noise="pink", noise_db=ratio).utterances[0].waveform() for ratio in (0.0, 20.0))
    assert (loud - clean[0]) == pytest.approx(10 * (quiet - clean[0]), abs=1e-5)


def test_the_condition_identifies_and_its_absence_does_not(recordings):
    assert embedded().condition == {}
    asked = [
        {"noise_db": 5.0},
        {"noise_db": 10.0},
        {"noise_db": 5.0, "noise": "babble"},
        {"noise_db": 5.0, "noise": str(recordings)},
        {"reverb": 0.5},
        {"telephone": True},
        {"gain_db": 1.0},
        {"speed": 1.1},
        {"pad_seconds": 1.0},
        {"noise_db": 5.0, "seed": 1},
    ]
    found = [embedded(**keys).condition for keys in asked]
    assert all(one != other for one, other in itertools.combinations(found, 2))
    assert str(recordings) not in str(found)
    recordings.joinpath("0.wav").rename(recordings / "other.wav")
    assert embedded(**asked[3]).condition == found[3]
    soundfile.write(recordings / "other.wav", np.ones(9) / 9, 8000)
    assert embedded(**asked[3]).condition != found[3]


def test_a_noise_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'pnik' is none of white, pink.*did you mean 'pink'"):
        embedded(noise_db=5.0, noise="pnik")
    with pytest.raises(DataError, match="has no recordings"):
        embedded(noise_db=5.0, noise=str(tmp_path))


def test_babble_of_too_few_is_a_sentence(tmp_path):
    rows = ["file_name,text,speaker"]
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.ones(SHORTEST) / 9, SAMPLE_RATE)
        rows.append(f"{number}.wav,a word,{number}")
    tmp_path.joinpath("metadata.csv").write_text("\n".join(rows))
    corpus = datasets.load(Data(dataset="folder", root=str(tmp_path), noise_db=5.0, noise="babble"))
    with pytest.raises(DataError, match="babble needs 6 utterances of other speakers, and the split has 2"):
        corpus.utterances[0].waveform()


EXTREMES = {
    "silent": np.zeros(SAMPLE_RATE),
    "clipped": np.sign(np.sin(np.arange(SAMPLE_RATE) / 9.0)),
    "short": np.sin(np.arange(SHORTEST)) / 2,
}
CONDITIONS = [
    *({"noise_db": 0.0, "noise": kind} for kind in ("white", "pink", "hum", "babble")),
    {"reverb": 0.5},
    {"telephone": True},
    {"gain_db": 60.0},
    {"speed": 4.0},
    {"pad_seconds": 0.5},
    {"speed": 0.5, "pad_seconds": 0.1, "reverb": 0.3, "noise_db": 10.0, "gain_db": 20.0, "telephone": True},
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_silent_clipped_and_short_inputs_come_through_every_condition(tmp_path, condition):
    rows = ["file_name,text,speaker"]
    samples = EXTREMES | {f"talker{i}": np.sin(np.arange(4000) * (i + 1) / 20) / 4 for i in range(7)}
    for name, waveform in samples.items():
        soundfile.write(tmp_path / f"{name}.wav", waveform, SAMPLE_RATE)
        rows.append(f"{name}.wav,a word,{name}")
    tmp_path.joinpath("metadata.csv").write_text("\n".join(rows))
    corpus = datasets.load(Data(dataset="folder", root=str(tmp_path), **condition))
    for utterance in corpus.utterances:
        found = utterance.waveform()
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert utterance.seconds() == pytest.approx(len(found) / SAMPLE_RATE, abs=1e-3)


def test_only_short_utterances_none_cut():
    whole = datasets.load(Data(dataset="embedded", split="clean"))
    short = datasets.load(Data(dataset="embedded", split="clean", max_seconds=2.0))
    expected = [u.id for u in whole.utterances if u.seconds() <= 2]
    assert [u.id for u in short.utterances] == expected
    assert 0 < len(expected) < len(whole.utterances)
    with pytest.raises(DataError, match=r"no utterance of at most 0\.1 s"):
        datasets.load(Data(dataset="embedded", split="clean", max_seconds=0.1))


def test_recordings_without_speech():
    corpus = datasets.load(Data(dataset="nonspeech"))
    lengths = {u.seconds() for u in corpus.utterances}
    assert {u.text for u in corpus.utterances} == {""}
    assert (min(lengths), max(lengths)) == (0.3, 60)
    short = [u for u in corpus.utterances if u.seconds() == 1]
    for utterance in short:
        power = mean_power(utterance.waveform())
        loudness = utterance.id.removesuffix("-1s").lstrip("abcdefghijklmnopqrstuvwxyz")
        if not loudness:
            assert power == 0
        else:
            assert 10 * math.log10(power) == pytest.approx(float(loudness.removesuffix("dB")), abs=0.5)
    other = datasets.load(Data(dataset="nonspeech", seed=1))
    assert other.revision != corpus.revision
    alike = [a.digest() == b.digest() for a, b in zip(corpus.utterances, other.utterances, strict=True) if a in short]
    assert sum(alike) == 1  # silence
    assert datasets.get("nonspeech").extent(Data(dataset="nonspeech")).utterances == len(corpus.utterances)
