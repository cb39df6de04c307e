"""Inputs at the limits, under every condition, through the embedded model: a transcript, never an error."""

import numpy as np
import soundfile

from harness import datasets
from harness.datasets import SAMPLE_RATE, Data
from harness.embedded import MODEL_DIRECTORY
from harness.experiment.tables import Decoding
from harness.recognition.loading import load_recognizer
from tests.harness.datasets.test_conditions import CONDITIONS, EXTREMES


def test_silent_clipped_and_short_inputs_are_transcribed_under_every_condition(tmp_path):
    rows = ["file_name,text,speaker"]
    others = {f"other{i}": np.sin(np.arange(4000) * (i + 1) / 20) / 4 for i in range(7)}
    for name, samples in {**EXTREMES, **others}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, SAMPLE_RATE)
        rows.append(f"{name}.wav,a word,{name}")
    tmp_path.joinpath("metadata.csv").write_text("\n".join(rows))
    waveforms = []
    for condition in CONDITIONS:
        corpus = datasets.load(Data(dataset="folder", root=str(tmp_path), **condition))
        waveforms += [u.waveform() for u in corpus.utterances if u.id.partition(".")[0] in EXTREMES]
    assert len(waveforms) == len(EXTREMES) * len(CONDITIONS)
    recognizer = load_recognizer(MODEL_DIRECTORY, "float32", "cpu")
    transcripts = recognizer.transcribe(waveforms, Decoding(max_new_tokens=6))
    assert [type(transcript.text) for transcript in transcripts] == [str] * len(waveforms)
