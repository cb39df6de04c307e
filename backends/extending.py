"""What a backend of your own is made of: derive from `LayerwiseBackend`, and name an instance by an entry point.

    [project.entry-points."asrquant.backends"]
    mine = "my_package.my_adapter:BACKEND"

`backends.testing` runs the contract on it.
"""

from backends.core.layerwise import LayerwiseBackend
from backends.core.selection import Candidate, candidates

__all__ = ["Candidate", "LayerwiseBackend", "candidates"]
