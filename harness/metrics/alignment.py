"""Word alignment as NIST's sclite makes it, for segment statistics and for showing errors; WER itself is jiwer's.

Which of several equally cheap alignments is taken decides where segments end, and no library takes
sclite's; so this one is written here and tested against sclite's own output.
"""

from __future__ import annotations

from collections.abc import Sequence

SUBSTITUTION = 4
GAP = 3


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> str:
    """Return one letter per step: `C`orrect, `S`ubstituted, `D`eleted, `I`nserted.

    The sum of costs is least, a substitution costing 4, an insertion or deletion 3. Among equals, walking
    back from the end, a pair of words is preferred to an insertion and that to a deletion.

    >>> align("the cat sat".split(), "the sat down".split())
    'CDCI'

    Source: NIST SCTK, sclite, the default weights of its dynamic programming alignment.
    """
    if reference == hypothesis:
        return "C" * len(reference)
    costs = _costs(reference, hypothesis)
    steps: list[str] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        if i and j and costs[i][j] == costs[i - 1][j - 1] + _pair(reference[i - 1], hypothesis[j - 1]):
            i, j = i - 1, j - 1
            steps.append("C" if reference[i] == hypothesis[j] else "S")
        elif j and costs[i][j] == costs[i][j - 1] + GAP:
            j -= 1
            steps.append("I")
        else:
            i -= 1
            steps.append("D")
    return "".join(reversed(steps))


def _costs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    """Least cost of aligning the first i words with the first j."""
    rows = [[GAP * j for j in range(len(hypothesis) + 1)]]
    for expected in reference:
        above = rows[-1]
        row = [above[0] + GAP]
        for j, found in enumerate(hypothesis):
            row.append(min(above[j] + _pair(expected, found), above[j + 1] + GAP, row[j] + GAP))
        rows.append(row)
    return rows


def _pair(expected: str, found: str) -> int:
    return 0 if expected == found else SUBSTITUTION
