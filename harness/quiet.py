"""Imported by the fork server before all else: what libraries say at import and users cannot mend is not shown."""

from backends._torchao_quiet import hush_torchao

hush_torchao()
