"""A plug-in backend that goes wrong in a way that the number of bits chooses."""

from __future__ import annotations

from pathlib import Path

CRASHES, RAISES, HANGS, NO_MEMORY, WORKS, REFUSES = 8, 7, 6, 5, 4, 3

_BACKEND = """
import os, signal, time
from pathlib import Path

from backends import UnsupportedError
from backends.reference import Reference

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def fail():
    raise RuntimeError("a library's own mistake")

def hang():
    Path({pid!r}).write_text(str(os.getpid()))
    time.sleep(600)

def demand():
    raise MemoryError("no room")

def refuse():
    raise UnsupportedError("not this one")

class Faulty(Reference):
    name = "faulty"
    def convert(self, candidate, spec, options):
        wrong = {{8: crash, 7: fail, 6: hang, 5: demand, 3: refuse}}
        wrong.get(spec.bits, lambda: None)()
        return super().convert(candidate, spec, options)

BACKEND = Faulty()
"""


def install(directory: Path) -> Path:
    """Make an importable distribution with the plug-in; the file in which whoever hangs leaves its process id."""
    about = directory / "faulty-1.0.dist-info"
    about.mkdir(parents=True)
    pid = directory / "pid"
    (directory / "faulty_backend.py").write_text(_BACKEND.format(pid=str(pid)))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[asrquant.backends]\nfaulty = faulty_backend:BACKEND\n")
    return pid
