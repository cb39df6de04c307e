"""CTranslate2 itself, imported so that its sums of 8-bit products are exact.

On processors that are not Intel's it multiplies with oneDNN, whose sums of two products saturate in 16 bits where
there are no VNNI instructions, and nothing is said. MKL, which its wheels hold too, is exact there; `CT2_USE_MKL`
chooses, and is read once, when the library is loaded.
"""

import os
import platform
import sys
from pathlib import Path

_CHOICE = "CT2_USE_MKL"


def _may_saturate() -> bool:
    """Whether this is an x86 processor not known to have VNNI instructions."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return False
    try:
        return "vnni" not in Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


if "ctranslate2" not in sys.modules and _may_saturate():
    os.environ.setdefault(_CHOICE, "1")

import ctranslate2  # noqa: E402


def saturates() -> bool:
    """Whether 8-bit products may be wrong: `CT2_USE_MKL` was not 1 when somebody else loaded the library, or is 0."""
    return _may_saturate() and os.environ.get(_CHOICE) != "1"


__all__ = ["ctranslate2", "saturates"]
