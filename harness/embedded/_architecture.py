"""The embedded model: Whisper's architecture at a size that trains on two cores.

Everything is the genuine transformers class, so that an adapter that works here meets the same
modules, tie and generation code in the published checkpoints. Smaller are the window (6 s instead
of 30 s), the frame rate (hop 320 instead of 160), the vocabulary (512) and the depth; all widths
are multiples of 128, so that every group size of every library divides them.
"""

from __future__ import annotations

import itertools
import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from harness.embedded._sentences import sentences

WINDOW_SECONDS = 6
VOCABULARY = 512
# The order is Whisper's: <|en|> follows start-of-transcript, <|nospeech|> stands before <|notimestamps|>.
_SPECIALS = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)


def make_processor(seed: int) -> WhisperProcessor:
    """Train a byte-level BPE of `VOCABULARY` entries on 40 000 sentences and pair it with the feature extractor."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(_SPECIALS),
        special_tokens=[],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyzĠ'"),
        show_progress=False,
    )
    bpe.train_from_iterator((" " + s for s in itertools.islice(sentences(seed), 40_000)), trainer)
    vocabulary = bpe.get_vocab()
    merges = json.loads(bpe.to_str())["model"]["merges"]
    tokenizer = WhisperTokenizer(
        vocab=vocabulary | {token: len(vocabulary) + i for i, token in enumerate(_SPECIALS)},
        merges=[tuple(merge) for merge in merges],
        pad_token=_SPECIALS[0],
        model_max_length=448,
        additional_special_tokens=list(_SPECIALS[1:]),
    )
    tokenizer.set_prefix_tokens(language="en", task="transcribe", predict_timestamps=False)
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=WINDOW_SECONDS, hop_length=320), tokenizer)


def make_model(tokenizer: WhisperTokenizer, seed: int) -> WhisperForConditionalGeneration:
    """A freshly initialised model, fp32, 5.8 M parameters, with a complete generation configuration."""
    end = tokenizer.eos_token_id
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=256,
        encoder_layers=4,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        max_source_positions=150,
        max_target_positions=448,
        dropout=0.0,
        pad_token_id=end,
        bos_token_id=end,
        eos_token_id=end,
        decoder_start_token_id=start,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = _generation_config(tokenizer)
    return model


def _generation_config(tokenizer: WhisperTokenizer) -> GenerationConfig:
    token = tokenizer.convert_tokens_to_ids
    end = tokenizer.eos_token_id
    return GenerationConfig(
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=token("<|startoftranscript|>"),
        max_length=64,
        is_multilingual=True,
        language="en",
        task="transcribe",
        lang_to_id={"<|en|>": token("<|en|>")},
        task_to_id={"transcribe": token("<|transcribe|>"), "translate": token("<|translate|>")},
        no_timestamps_token_id=token("<|notimestamps|>"),
        prev_sot_token_id=token("<|startofprev|>"),
        return_timestamps=False,
        suppress_tokens=[token(t) for t in _SPECIALS[1:]],
        begin_suppress_tokens=[end],
        alignment_heads=[[1, 0], [1, 1]],
        max_initial_timestamp_index=50,
    )
