"""A second embedded model, of the Moonshine architecture: raw samples in, rotary positions, any length.

Its words are those of the embedded Whisper: the same byte-level BPE, without the tokens of language and task.
"""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import pre_tokenizers, processors
from torch import Tensor
from transformers import (
    GenerationConfig,
    MoonshineConfig,
    MoonshineForConditionalGeneration,
    PreTrainedTokenizerFast,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)

from harness.embedded._architecture import make_processor
from harness.embedded._voices import SAMPLE_RATE

START, END = "<|startoftranscript|>", "<|endoftext|>"


def make_moonshine_processor(seed: int) -> Wav2Vec2Processor:
    """Samples as they are, and a tokenizer that puts a space in front and start and end around a text."""
    fast = make_processor(seed).tokenizer._tokenizer
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = [(token, fast.token_to_id(token)) for token in (START, END)]
    fast.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=special)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token=START, eos_token=END, pad_token=END, model_max_length=448
    )
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False)
    return Wav2Vec2Processor(extractor, tokenizer)


def make_moonshine(tokenizer: PreTrainedTokenizerFast, seed: int) -> MoonshineForConditionalGeneration:
    """A fresh model, fp32, 7.3 M parameters, whose first convolution is a bank of filters."""
    start, end = (tokenizer.convert_tokens_to_ids(token) for token in (START, END))
    ids = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end, "decoder_start_token_id": start}
    config = MoonshineConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=1024,
        encoder_num_hidden_layers=4,
        decoder_num_hidden_layers=2,
        encoder_num_attention_heads=4,
        decoder_num_attention_heads=4,
        max_position_embeddings=512,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MoonshineForConditionalGeneration(config)
    with torch.no_grad():
        model.get_encoder().conv1.weight.copy_(_filters(model.get_encoder().conv1.weight))
    model.generation_config = GenerationConfig(max_length=64, **ids)
    return model


def _filters(like: Tensor) -> Tensor:
    """Cosines and sines under a Hann window at mel-spaced frequencies, (channels, 1, taps): a start that hears."""
    channels, _, taps = like.shape
    mel_low, mel_high = (2595 * np.log10(1 + f / 700) for f in (80, 7600))
    frequencies = 700 * (10 ** (np.linspace(mel_low, mel_high, channels // 2) / 2595) - 1)
    phase = 2 * np.pi * frequencies[:, None] * (np.arange(taps) - taps // 2) / SAMPLE_RATE
    bank = np.concatenate([np.cos(phase), np.sin(phase)]) * np.hanning(taps) / 8
    return torch.tensor(bank[:, None], dtype=like.dtype)
