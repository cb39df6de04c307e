"""Training of the embedded model, on two cores in about an hour and a half.

Two single-thread processes that average gradients beat one process with two threads. The
curriculum is essential: on whole sentences alone the decoder becomes a language model long before
it learns to listen; a few thousand steps on one-to-four-word fragments teach it to attend. A CTC
loss on the encoder (dropped after training) speeds up both.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from transformers import WhisperForConditionalGeneration, WhisperProcessor, WhisperTokenizer

from harness.embedded._architecture import make_model

PROCESSES = 2
_WINDOW_FRAMES = 300
_IGNORED = -100


@dataclass(frozen=True)
class Schedule:
    """Steps of each lesson and of the final linear decay, batch size per process, peak learning rate."""

    fragments: int = 1500
    sentences: int = 3400
    decay: int = 1900
    warmup: int = 150
    batch: int = 32
    peak: float = 1.5e-3

    @property
    def steps(self) -> int:
        return self.fragments + self.sentences

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, constant, linear decay to zero over the last `decay` steps."""
        return self.peak * min(1.0, (step + 1) / self.warmup, (self.steps - step) / self.decay)


def of_like_length(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """Places of all items in random groups of `size` of similar length; the last few of a block are left out."""
    order = rng.sample(range(len(lengths)), len(lengths))
    groups = []
    for start in range(0, len(order), size * 40):
        block = sorted(order[start : start + size * 40], key=lambda i: lengths[i])
        groups += [block[i : i + size] for i in range(0, len(block) - size + 1, size)]
    rng.shuffle(groups)
    return groups


class Lessons:
    """The stored features of one lesson, served as padded batches of similar length."""

    def __init__(self, directory: Path, name: str, tokenizer: WhisperTokenizer) -> None:
        self._features = []
        self._items: list[tuple[int, int, int, str]] = []
        for shard, index in enumerate(sorted(directory.glob(f"{name}.*.json"))):
            flat = np.memmap(index.with_suffix(".bin"), np.float16, "r")
            self._features.append(flat.reshape(-1, 80))
            self._items += [(shard, start, frames, text) for start, frames, text in json.loads(index.read_text())]
        texts = sorted({item[3] for item in self._items})
        encoded = tokenizer([" " + text for text in texts]).input_ids
        self._tokens = dict(zip(texts, encoded, strict=True))

    def batches(self, seed: int, batch: int, rank: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (features (batch, 80, frames), tokens (batch, length)) for ever; all ranks shuffle alike."""
        shared, own = random.Random(seed), random.Random(f"{seed}-{rank}")
        while True:
            for group in of_like_length([item[2] for item in self._items], batch * PROCESSES, shared):
                yield self._batch(group[rank::PROCESSES], own)

    def _batch(self, chosen: list[int], rng: random.Random) -> tuple[Tensor, Tensor]:
        items = [self._items[i] for i in chosen]
        longest = max(frames for _, _, frames, _ in items)
        width = _WINDOW_FRAMES if rng.random() < 0.15 else min(_WINDOW_FRAMES, longest + rng.randint(2, 30))
        width += width % 2
        length = max(len(self._tokens[text]) for *_, text in items)
        features = np.empty((len(items), 80, width), np.float32)
        tokens = np.full((len(items), length), _IGNORED, np.int64)
        for row, (shard, start, frames, text) in enumerate(items):
            heard = self._features[shard][start : start + frames].T.astype(np.float32)[:, :width]
            features[row] = heard.max() - 2.0
            features[row, :, : heard.shape[1]] = _mask(heard, rng)
            tokens[row, : len(self._tokens[text])] = self._tokens[text]
        return torch.from_numpy(features), torch.from_numpy(tokens)


def _mask(features: np.ndarray, rng: random.Random) -> np.ndarray:
    """SpecAugment (Park et al. 2019, arXiv 1904.08779): two bands of channels and two of frames, in place."""
    floor = features.max() - 1.7
    for axis, longest in ((0, 14), (1, 10)):
        for _ in range(2):
            width = rng.randint(0, longest)
            start = rng.randint(0, max(0, features.shape[axis] - width))
            features[(slice(start, start + width), slice(None))[:: 1 if axis == 0 else -1]] = floor
    return features


class Trainee(nn.Module):
    """The model with its training losses."""

    def __init__(self, model: WhisperForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.ctc = nn.Linear(model.config.d_model, model.config.vocab_size + 1)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Mean of cross entropy (weight .7) and CTC over the same tokens (weight .3); scalar."""
        with torch.autocast("cpu", torch.bfloat16):
            states = self._encode(features)
            inputs = tokens[:, :-1].masked_fill(tokens[:, :-1] == _IGNORED, self.model.config.pad_token_id)
            hidden = self.model.model.decoder(input_ids=inputs, encoder_hidden_states=states, use_cache=False)[0]
            logits, frames = self.model.proj_out(hidden).float(), self.ctc(states).float()
        target = tokens[:, 1:].masked_fill(tokens[:, 1:] < 0, _IGNORED)
        spoken = functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=_IGNORED, label_smoothing=0.05
        )
        return 0.7 * spoken + 0.3 * self._ctc(frames, tokens)

    def _encode(self, features: Tensor) -> Tensor:
        """`WhisperEncoder.forward` for any even number of frames; the class itself insists on a full window."""
        encoder = self.model.model.encoder
        states = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(features)))).transpose(1, 2)
        states = states + encoder.embed_positions.weight[: states.shape[1]]
        for layer in encoder.layers:
            states = layer(states, None)
        return encoder.layer_norm(states)

    def _ctc(self, frames: Tensor, tokens: Tensor) -> Tensor:
        words = [row[(row >= 0) & (row < self.model.config.pad_token_id)] for row in tokens]
        blank = self.model.config.vocab_size
        return functional.ctc_loss(
            frames.log_softmax(-1).transpose(0, 1),
            torch.cat(words),
            torch.full((len(words),), frames.shape[1]),
            torch.tensor([len(w) for w in words]),
            blank=blank,
            zero_infinity=True,
        )


def _optimizers(trainee: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the layers' matrices, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in trainee.named_parameters():
        if parameter.requires_grad:
            (matrices if parameter.ndim == 2 and "layers." in name else rest).append(parameter)
    return [
        torch.optim.Muon(matrices, weight_decay=0.03, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def train(rank: int, corpus: Path, processor: WhisperProcessor, out: Path, schedule: Schedule, seed: int) -> None:
    """Train as process `rank` of `PROCESSES`; rank 0 writes the model to `out` and a resumable state beside it."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(out / "rendezvous"), PROCESSES)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    trainee = Trainee(make_model(processor.tokenizer, seed))
    optimizers = _optimizers(trainee)
    state = out / "training.pt"
    step = _restore(state, trainee, optimizers) if state.exists() else 0
    replica = DistributedDataParallel(trainee)
    began, running = time.monotonic(), math.nan
    for name, end in (("fragments", schedule.fragments), ("sentences", schedule.steps)):
        if step >= end:
            continue
        for features, tokens in Lessons(corpus, name, processor.tokenizer).batches(seed + step, schedule.batch, rank):
            loss = _step(replica, optimizers, features, tokens, schedule.learning_rate(step))
            running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
            step += 1
            if rank == 0 and step % 50 == 0:
                print(f"{time.monotonic() - began:.0f} s  {name} step {step}  loss {running:.3f}", flush=True)
            if rank == 0 and (step % 500 == 0 or step == schedule.steps):
                _save(state, step, trainee, optimizers)
                trainee.model.save_pretrained(out)
            if step >= end:
                break
    dist.barrier()
    dist.destroy_process_group()


def _step(
    replica: nn.Module, optimizers: list[torch.optim.Optimizer], features: Tensor, tokens: Tensor, rate: float
) -> float:
    loss = replica(features, tokens)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(replica.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return float(loss.detach())


def _save(path: Path, step: int, trainee: Trainee, optimizers: list[torch.optim.Optimizer]) -> None:
    temporary = path.with_suffix(".tmp")
    content = {"step": step, "trainee": trainee.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    torch.save(content, temporary)
    temporary.replace(path)


def _restore(path: Path, trainee: Trainee, optimizers: list[torch.optim.Optimizer]) -> int:
    content = torch.load(path, weights_only=True)
    trainee.load_state_dict(content["trainee"])
    for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return int(content["step"])
