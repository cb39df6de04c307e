"""Speculative decoding: a draft is checked in one pass; the result is the model's own greedy output.

A quantized model almost always gives the transcript of full precision. One pass of the decoder over a
draft gives the model's own next token after every prefix; the longest prefix on which both agree, and the own
token after it, are what step-by-step decoding would have given (Leviathan et al. 2022, arXiv 2211.17192, and Stern
et al. 2018, arXiv 1811.03115, for greedy acceptance). What is left of the draft is tried again behind the own token;
after a few rounds the rest is decoded step by step, with a cache, from what is accepted.

It holds where a token's logits do not depend on what else is in the call; ties within the rounding of floats aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.recognition.attended import Attended

ROUNDS = 3
"""Passes over drafts before the rest is decoded step by step."""
_PLACES = 256
"""Whose logits are in memory at once: 50 MB with Whisper's vocabulary."""
_LOOK_AHEAD = 4
"""An own token that comes so soon in the draft means that the draft has words too many."""


@dataclass
class Row:
    """An utterance in the making: prompt and accepted tokens, what is left of its draft, whether it is complete."""

    accepted: list[int]
    draft: list[int]
    done: bool = False


class DraftedGeneration:
    """A decoding loop for the `custom_generate` of transformers' `generate`, which prepares rule and prompt.

    Args:
        drafts: tokens after the prompt for every row of the batch; empty, too long or wrong ones only cost time.
        rounds: passes over drafts.
    """

    def __init__(self, drafts: Sequence[Sequence[int]], rounds: int = ROUNDS) -> None:
        self._drafts = drafts
        self._rounds = rounds
        self.prompt: list[int] = []
        """Tokens that the decoder was started with, once it was."""

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        *,
        logits_processor: Any,
        generation_config: Any,
        encoder_outputs: Any,
        **_: Any,
    ) -> Tensor:
        """The same as greedy `generate` returns: (rows, tokens), prompt first, padded behind the end-of-text."""
        again = bool(self.prompt)  # Whisper goes back to rows that wrote timestamps: what follows these has no draft
        drafts = [[]] * len(input_ids) if again else self._drafts
        self.prompt = input_ids[0].tolist()
        rule = _Rule(model, logits_processor, generation_config, encoder_outputs)
        rows = [Row(prompt, list(draft)) for prompt, draft in zip(input_ids.tolist(), drafts, strict=True)]
        drafted = list(range(len(rows)))
        for _round in range(self._rounds):
            rule.verify(rows, drafted)
            drafted = [i for i, row in enumerate(rows) if row.draft and not row.done]
            if not drafted:
                break
        open_rows = [i for i, row in enumerate(rows) if not row.done]
        if open_rows:
            rule.finish(rows, open_rows)
        return _padded([row.accepted for row in rows], rule.padding, input_ids.device)


class _Rule:
    """How the model chooses its next token, and when it stops."""

    def __init__(self, model: Any, processors: Any, config: Any, states: Any) -> None:
        self._model, self._processors, self._speech = model, processors, Attended(states)
        self._limit = int(config.max_length)
        ends = config.eos_token_id
        self._ends = set(ends) if isinstance(ends, list) else {ends}
        self.padding = int(config.pad_token_id if config.pad_token_id is not None else min(self._ends))

    def verify(self, rows: list[Row], chosen: Sequence[int]) -> None:
        """One pass over the drafts of some rows, which take in what they agree on and one own token more.

        The first pass is over all rows: the keys and values of the speech that it makes serve the later ones.
        """
        starts = [len(rows[i].accepted) for i in chosen]
        texts = [[*rows[i].accepted, *rows[i].draft][: self._limit - 1] for i in chosen]
        tokens = _padded(texts, self.padding, self._device)
        output = self._model.model(**self._speech.arguments(chosen), decoder_input_ids=tokens)
        self._speech.cross = self._speech.cross or output.past_key_values.cross_attention_cache
        own = self._own(tokens, output.last_hidden_state, starts, [len(text) for text in texts])
        for i, start, text, predicted in zip(chosen, starts, texts, own.tolist(), strict=True):
            self._take(rows[i], text[start:], predicted[start - 1 :])

    def _own(self, tokens: Tensor, hidden: Tensor, starts: Sequence[int], ends: Sequence[int]) -> Tensor:
        """The token that the rule chooses after each place that is open: from the last accepted one to a text's end.

        Args:
            tokens: accepted ones with drafts, (rows, places).
            hidden: what the decoder made of them, (rows, places, width); the head is computed where a place is open.
            starts, ends: of every row, how many tokens are accepted, and how many there are.
        """
        head, own = self._model.get_output_embeddings(), torch.zeros_like(tokens)
        first, last = (torch.tensor(places, device=self._device) for places in (starts, ends))
        together = max(1, _PLACES // len(tokens))
        for block in torch.arange(min(starts) - 1, tokens.shape[1], device=self._device).split(together):
            is_open = (block >= first[:, None] - 1) & (block < last[:, None])
            row, offset = is_open.nonzero(as_tuple=True)
            if not len(row):
                continue
            logits = head(hidden[row, block[offset]])
            for i, j in enumerate(block.tolist()):
                here = offset == i
                own[row[here], j] = self._next(tokens[row[here], : j + 1], logits[here])
        return own

    def _take(self, row: Row, draft: Sequence[int], predicted: Sequence[int]) -> None:
        """Accept own tokens up to the first that differs from the draft, with it."""
        for place in range(len(draft) + 1):
            token = predicted[place]
            self._append(row, token)
            if row.done:
                return
            if place == len(draft) or token != draft[place]:
                row.draft = _rest(row.draft, place, token)
                return

    def _append(self, row: Row, token: int) -> None:
        row.accepted.append(token)
        row.done = token in self._ends or len(row.accepted) >= self._limit

    def finish(self, rows: list[Row], chosen: Sequence[int]) -> None:
        """Decode some rows to their ends, step by step; each is led along what it has accepted already."""
        arguments = self._speech.arguments(chosen)
        common = min(len(rows[i].accepted) for i in chosen)
        tokens = torch.tensor([rows[i].accepted[:common] for i in chosen], device=self._device)
        fed = tokens
        while True:
            logits = self._model(**arguments, decoder_input_ids=fed).logits
            own = self._next(tokens, logits[:, -1]).tolist()
            place = tokens.shape[1]
            for i, token in zip(chosen, own, strict=True):
                if not rows[i].done and len(rows[i].accepted) == place:
                    self._append(rows[i], token)
            if all(rows[i].done for i in chosen):
                return
            column = [rows[i].accepted[place] if place < len(rows[i].accepted) else self.padding for i in chosen]
            fed = torch.tensor(column, device=self._device)[:, None]
            tokens = torch.cat([tokens, fed], dim=1)

    def _next(self, tokens: Tensor, logits: Tensor) -> Tensor:
        """The token that the rule chooses after each prefix, (rows,)."""
        chosen: Tensor = self._processors(tokens, logits.float()).argmax(-1)
        return chosen

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._speech.states.last_hidden_state.device
        return device


def _rest(draft: Sequence[int], place: int, token: int) -> list[int]:
    """What is left of a draft after an own token in the place of another.

    >>> _rest([1, 2, 3, 4], 1, 9), _rest([1, 2, 3, 4], 1, 3)
    ([3, 4], [4])
    """
    ahead = list(draft[place + 1 : place + 1 + _LOOK_AHEAD])
    skipped = ahead.index(token) + 1 if token in ahead else 0
    return list(draft[place + 1 + skipped :])


def _padded(rows: Sequence[Sequence[int]], padding: int, device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows], device=device)
