"""Imported by the fork server: the modules that every child needs, so that one starts work at once.

The fork server ends with its runner: loading torch takes seconds, in which it would not look for it; the kernel does.
Imports fill no cycles worth collecting, and what is here stays: the collector looks at it never, which saves a quarter
of the time here, and in the children the copies of all pages that it would touch.

Beside a GPU children import for themselves: libraries ask torch for GPUs when they are imported, and a process that
was forked after that cannot use one.
"""

import gc
import threading
from importlib import import_module

from tqdm import tqdm

from backends.core.quiet import hush_torchao
from harness.execution.processes import kill_with_parent
from harness.experiment.plan import nvidia_driver

# The modules behind transformers' and datasets' facades as well.
_MODULES = [
    "harness.execution.worker",
    "harness.datasets.embedded",
    "harness.datasets.librispeech",
    "transformers.models.whisper.modeling_whisper",
    "transformers.models.whisper.english_normalizer",
    "transformers.models.moonshine.modeling_moonshine",
    "jiwer",
    "pyarrow.parquet",
    "soundfile",
    "soxr",
]

kill_with_parent()
hush_torchao()
tqdm.set_lock(threading.RLock())  # its own is a semaphore, and Python reports one that a killed child leaves
if not nvidia_driver():
    gc.disable()
    for _module in _MODULES:
        import_module(_module)
    gc.freeze()
    gc.enable()
