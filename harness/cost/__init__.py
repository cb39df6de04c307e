"""What recognition costs: memory of the process, operations and bytes counted, times measured.

`process` and this face are light; `operations` and `timing` import torch and are for the worker alone.
"""

from harness.cost.process import environment, gpu, peak_device_memory, peak_memory, processor_mhz, reset_peak_memory

__all__ = ["environment", "gpu", "peak_device_memory", "peak_memory", "processor_mhz", "reset_peak_memory"]
