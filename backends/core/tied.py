"""Head and token embedding as one quantized tensor: the head multiplies by it, the embedding reads rows of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Rows = Callable[[nn.Module, Tensor], Tensor]
"""Rows of the float weight that a quantized module stands for: (tokens,) of indices to (tokens, columns)."""


class TiedEmbedding(nn.Module):
    """A token embedding that holds no tensor: it reads the rows of a quantized head.

    Args:
        head: the quantized head, which stands elsewhere in the model; it is no child of this module.
        rows: how its rows are read.
        embedding: the float embedding whose place is taken; not kept.
    """

    def __init__(self, head: nn.Module, rows: Rows, embedding: nn.Module) -> None:
        super().__init__()
        like: Any = embedding
        self._head, self._rows, self._dtype = (head,), rows, like.weight.dtype
        self.num_embeddings, self.embedding_dim = like.weight.shape
        self.padding_idx = like.padding_idx

    def forward(self, tokens: Tensor) -> Tensor:
        """Indices of any shape (...) to (..., columns), in the dtype of the float embedding."""
        rows = self._rows(self._head[0], tokens.reshape(-1)).to(self._dtype)
        return rows.reshape(*tokens.shape, self.embedding_dim)


def tie(model: nn.Module, head: str, embedding: str, rows: Rows) -> None:
    """Let the embedding of `model` read its rows from the quantized head, in place; both by their full names."""
    model.set_submodule(embedding, TiedEmbedding(model.get_submodule(head), rows, model.get_submodule(embedding)))
