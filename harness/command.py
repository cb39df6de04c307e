"""What all command lines have in common: a user's mistake is one sentence and status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable

from backends import AsrQuantError


def run_command(action: Callable[[], int], interrupted: str = "interrupted") -> int:
    """Return the exit status of `action`: 2 for what the user can mend, 130 after Ctrl-C, each with a sentence."""
    try:
        return action()
    except AsrQuantError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}")
        return 130
