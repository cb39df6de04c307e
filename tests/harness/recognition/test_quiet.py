"""What a user's own script prints that loads a recogniser and transcribes: nothing that the user cannot mend."""

import logging
import subprocess
import sys

import pytest
from transformers import GenerationConfig
from transformers.utils import logging as transformers_logging

from backends import quantize
from backends.core.pretrained import quiet_generation
from harness.embedded import MODEL_DIRECTORY, MOONSHINE_DIRECTORY
from harness.recognition.loading import load_recognizer
from tests.harness.checkpoints import save_whisper

SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from harness.experiment.tables import Decoding
from harness.recognition.loading import load_quantized, load_recognizer

for directory in map(Path, sys.argv[1:]):
    print(directory, flush=True)
    saved = (directory / "quantization.json").is_file()
    recognizer = load_quantized(directory, "cpu") if saved else load_recognizer(directory, "float32", "cpu")
    waveforms = [np.sin(np.arange(n) / 10).astype(np.float32) for n in (8000, 16000)]
    decoding = Decoding(max_new_tokens=4)
    first = recognizer.transcribe(waveforms, decoding)
    again = recognizer.transcribe(waveforms, decoding, [list(t.tokens) for t in first])
    assert len(first) == len(again) == 2
"""
MULTILINGUAL = {
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 505},
    "task_to_id": {"transcribe": 507, "translate": 506},
    "no_timestamps_token_id": 511,
    "suppress_tokens": [504, 505, 506, 507],
    "begin_suppress_tokens": [220],
    "max_length": 448,
}
"""As a published multilingual checkpoint has it, besides that its padding is its end-of-text."""


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory):
    directory = tmp_path_factory.mktemp("multilingual")
    shape = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    save_whisper(directory, width=64, **shape)
    own = GenerationConfig.from_pretrained(directory)
    own.update(**MULTILINGUAL, pad_token_id=own.eos_token_id)
    own.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    path.write_text(path.read_text().replace("{", '{"clean_up_tokenization_spaces": true,', 1))
    return directory


def test_nothing_is_said_of_whispers_moonshine_and_a_saved_quantized_model(multilingual, tmp_path):
    """One after another in one process; what is said stands under the model's name."""
    recognizer = load_recognizer(multilingual, "float32", "cpu")
    quantized = quantize(recognizer.model, "weight_only", "per_channel", 8, backend="quanto")
    quantized.save(tmp_path / "saved", recognizer.processor)
    models = [str(path) for path in (MODEL_DIRECTORY, MOONSHINE_DIRECTORY, multilingual, tmp_path / "saved")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *models], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, models)


def test_other_messages_pass_and_nothing_stays_set():
    logger, passed = logging.getLogger("transformers.generation.utils"), []
    handler = logging.Handler()
    handler.emit = lambda record: passed.append(record.getMessage())
    logger.addHandler(handler)
    verbosity = transformers_logging.get_verbosity()  # whatever an earlier test in this process asked for
    transformers_logging.set_verbosity_warning()
    before = logger.level, list(logger.filters)
    with quiet_generation():
        logger.warning("Both `max_new_tokens` (=4) and `max_length`(=448) seem to have been set.")
        logger.warning("`eos_token_id` should consist of positive integers")
    logger.removeHandler(handler)
    transformers_logging.set_verbosity(verbosity)
    assert passed == ["`eos_token_id` should consist of positive integers"]
    assert (logger.level, list(logger.filters)) == before
