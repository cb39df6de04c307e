"""Warnings of torchao at import, kept from users, who cannot mend them.

It announces GPU kernels that cannot be loaded, and torch announces the end of a habit of torchao's. transformers
imports torchao wherever it is installed, so that this has to come before either.
"""

from __future__ import annotations

import logging

_KERNELS = ("Failed to load ", "Skipping import of cpp extensions")


def hush_torchao() -> None:
    """Keep back exactly those messages; all others pass. Calling it again is harmless."""
    logging.getLogger("torchao").addFilter(_is_no_kernel)
    logging.getLogger("torch.utils._pytree").addFilter(_is_no_enum)


def _is_no_kernel(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_KERNELS)


def _is_no_enum(record: logging.LogRecord) -> bool:
    return "is an Enum subclass" not in str(record.msg)
