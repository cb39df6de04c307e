"""Training of the embedded Moonshine: one process, and as many steps as fit into a given time.

The curriculum is that of the Whisper (`_training`): fragments first, cross entropy beside CTC on the encoder.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from harness.embedded._corpus import Lesson
from harness.embedded._moonshine import make_moonshine
from harness.embedded._training import of_like_length

LESSONS = (Lesson("fragments", 14_000, 1), Lesson("sentences", 26_000, 1))
MINUTES = 50.0
_FRAGMENTS, _WARMUP, _DECAY = 0.22, 0.02, 0.4
"""Shares of the time: the first lesson, the rise of the learning rate, and its fall to zero."""
_PEAK = 1.5e-3
_BATCH = 32
_STRIDE = 384
"""Samples for each of the encoder's positions."""
_IGNORED = -100


def samples_of(waveform: np.ndarray) -> np.ndarray:
    """What is stored of an utterance: 16-bit samples, (samples, 1)."""
    scaled = waveform * 32000 / max(1.0, float(np.abs(waveform).max()))
    return np.clip(scaled, -32767, 32767).astype(np.int16)[:, None]


class Lessons:
    """The stored samples of one lesson, served as padded batches of similar length."""

    def __init__(self, directory: Path, name: str, tokenizer: PreTrainedTokenizerFast) -> None:
        self._items = json.loads((directory / f"{name}.0.json").read_text())
        self._samples = np.memmap(directory / f"{name}.0.bin", np.int16, "r")
        texts = sorted({text for _, _, text in self._items})
        self._tokens = dict(zip(texts, tokenizer(texts).input_ids, strict=True))

    def batches(self, rng: random.Random) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (samples, mask, tokens), (batch, length) each, for ever; unused tokens are -100."""
        while True:
            for group in of_like_length([count for _, count, _ in self._items], _BATCH, rng):
                yield self._batch([self._items[i] for i in group], rng)

    def _batch(self, items: list[Any], rng: random.Random) -> tuple[Tensor, Tensor, Tensor]:
        longest = max(count for _, count, _ in items)
        tokens = [torch.tensor(self._tokens[text]) for _, _, text in items]
        samples, mask = torch.zeros(len(items), longest), torch.zeros(len(items), longest, dtype=torch.long)
        for row, (start, count, _) in enumerate(items):
            heard = torch.from_numpy(self._samples[start : start + count].astype(np.float32))
            samples[row, :count] = heard / heard.abs().max().clamp(min=1) * 0.6 * rng.uniform(0.5, 1.3)
            mask[row, :count] = 1
        return samples, mask, nn.utils.rnn.pad_sequence(tokens, batch_first=True, padding_value=_IGNORED)


class Trainee(nn.Module):
    """The model with its training losses."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.ctc = nn.Linear(model.config.hidden_size, model.config.vocab_size + 1)

    def forward(self, samples: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Cross entropy (weight .6) and CTC over the same words (weight .4); scalar."""
        with torch.autocast("cpu", torch.bfloat16):
            encoded = self.model.get_encoder()(samples, attention_mask=mask)
            states = encoded.last_hidden_state
            hidden = self.model.get_decoder()(
                input_ids=tokens[:, :-1].clamp(min=0),
                encoder_hidden_states=states,
                encoder_attention_mask=encoded.attention_mask,
                use_cache=False,
            ).last_hidden_state
            logits, frames = self.model.proj_out(hidden).float(), self.ctc(states).float()
        spoken = functional.cross_entropy(
            logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=_IGNORED, label_smoothing=0.05
        )
        special = {self.model.config.bos_token_id, self.model.config.eos_token_id, _IGNORED}
        words = [torch.tensor([token for token in row if token not in special]) for row in tokens.tolist()]
        heard = functional.ctc_loss(
            frames.log_softmax(-1).transpose(0, 1),
            torch.cat(words),
            (mask.sum(1) // _STRIDE).clamp(max=frames.shape[1]),
            torch.tensor([len(row) for row in words]),
            blank=self.model.config.vocab_size,
            zero_infinity=True,
        )
        return 0.6 * spoken + 0.4 * heard


def learning_rate(share: float) -> float:
    """At a share of the time: linear rise, constant, linear fall to zero."""
    return _PEAK * min(1.0, share / _WARMUP + 0.02, max(0.0, (1 - share) / _DECAY))


def train(corpus: Path, tokenizer: PreTrainedTokenizerFast, seed: int, minutes: float = MINUTES) -> Any:
    """Train for so many minutes on one thread; returns the model."""
    torch.set_num_threads(1)
    trainee = Trainee(make_moonshine(tokenizer, seed))
    matrices = [p for name, p in trainee.named_parameters() if p.ndim == 2 and "layers." in name]
    own = {id(parameter) for parameter in matrices}
    rest = [parameter for parameter in trainee.parameters() if id(parameter) not in own]
    optimizers = [
        torch.optim.Muon(matrices, weight_decay=0.03, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01),
    ]
    rng = random.Random(1)
    fragments, sentences = (Lessons(corpus, lesson.name, tokenizer).batches(rng) for lesson in LESSONS)
    began, step = time.monotonic(), 0
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        loss = trainee(*next(fragments if share < _FRAGMENTS else sentences))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(share)
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if step % 50 == 0:
            print(f"{share:.0%}  step {step}  loss {float(loss.detach()):.3f}", flush=True)
    return trainee.model.eval()
