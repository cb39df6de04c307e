"""What a running process costs: peak memory of processor and GPU, and the machine it runs on."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    "asrquant",
    "torch",
    "transformers",
    "optimum-quanto",
    "hqq",
    "bitsandbytes",
    "torchao",
    "ctranslate2",
    "openvino",
    "nncf",
    "pywhispercpp",
    "onnxruntime",
    "datasets",
    "jiwer",
    "numpy",
)
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def reset_peak_memory() -> None:
    """Let both peaks count from now; `ru_maxrss` never falls, so the kernel's own mark is reset (Linux).

    Memory that is free but held for later is given back first (glibc), so that it does not count.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
    if _CLEAR_REFS.exists():
        _CLEAR_REFS.write_text("5")
    if _uses_gpu():
        sys.modules["torch"].cuda.reset_peak_memory_stats()


def peak_memory() -> int | None:
    """Largest resident set since `reset_peak_memory`, in bytes; `None` where the kernel does not tell."""
    if not _STATUS.exists():
        return None
    line = next((line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None)
    return None if line is None else int(line.split()[1]) * 1024


def peak_device_memory() -> int | None:
    """Most that torch held on the GPU since `reset_peak_memory`, in bytes; `None` for a process that uses none."""
    return int(sys.modules["torch"].cuda.max_memory_allocated()) if _uses_gpu() else None


def _uses_gpu() -> bool:
    """Whether this process has put something on a GPU; asking neither imports torch nor wakes a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def environment(threads: int, command: str, seed: int | None = None) -> dict[str, Any]:
    """Versions, machine, source and time, to be kept with every cell."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "instructions": _instructions(),
        "gpu": sys.modules["torch"].cuda.get_device_name() if _uses_gpu() else None,
        "cores": os.cpu_count(),
        "threads": threads,
        "seed": seed,
        "command": command,
        "packages": {name: _version(name) for name in _PACKAGES},
        **_source(),
    }


@cache
def _source() -> dict[str, Any]:
    """The commit that this code is of, and whether it was changed since; `None` where it is not in a checkout."""
    here = Path(__file__).resolve()
    root = here.parents[2]
    asked = [["ls-files", "--error-unmatch", str(here)], ["rev-parse", "HEAD"], ["status", "--porcelain"]]
    try:
        told = [
            subprocess.run(["git", "-C", root, *a], check=True, capture_output=True, text=True).stdout for a in asked
        ]
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": told[1].strip(), "changed": bool(told[2])}


def gpu() -> str | None:
    """Name of the first GPU as its driver says it, without touching it; `None` where there is none."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.partition("\n")[0] or None
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _instructions() -> list[str] | None:
    """Which of the instructions on which products of 8-bit codes depend this processor has, as Linux names them."""
    path = Path("/proc/cpuinfo")
    line = (
        next((line for line in path.read_text().splitlines() if line.startswith("flags")), None)
        if path.exists()
        else None
    )
    return None if line is None else sorted({"avx2", "avx512_vnni", "avx_vnni", "amx_int8"} & set(line.split()))


def processor_mhz() -> float | None:
    """Mean frequency of the cores now; `None` where the system does not say."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return sum(found) / len(found) if found else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
