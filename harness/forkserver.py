"""Imported by the fork server before all else: it ends with its runner, and what libraries say at import is not shown.

Loading torch takes seconds, in which the fork server would not look for its runner; the kernel does.
"""

from backends._torchao_quiet import hush_torchao
from harness.processes import kill_with_parent

kill_with_parent()
hush_torchao()
