"""A gate's checks and their verdicts, for people, for Markdown and for JUnit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from rich.table import Table
from rich.text import Text

from harness._printing import printable
from harness.report.gate._judged import Check, Verdict

_STYLES = {Verdict.PASS: "green", Verdict.FAIL: "red", Verdict.CANNOT_TELL: "yellow"}
_HEADINGS = ("verdict", "measure", "configuration", "found", "limit")


def summary(checks: Sequence[Check]) -> str:
    """How many checks have which verdict.

    >>> summary([Check("size", "a", "", Verdict.PASS, "", ""), Check("wer", "a", "clean", Verdict.FAIL, "", "")])
    '2 checks: 1 pass, 1 fail, 0 cannot tell'
    """
    count = Counter(check.verdict for check in checks)
    return f"{len(checks)} checks: " + ", ".join(f"{count[verdict]} {verdict}" for verdict in Verdict)


def as_table(checks: Sequence[Check]) -> Table:
    """What does not pass, for the terminal."""
    table = Table()
    for heading in _HEADINGS:
        table.add_column(heading, overflow="fold")
    for check in _telling(checks):
        cells = [Text(printable(text)) for text in _cells(check)]
        cells[0].stylize(_STYLES[check.verdict])
        table.add_row(*cells)
    return table


def as_markdown(checks: Sequence[Check]) -> str:
    """A paragraph and a table of what does not pass, for a pull request."""
    lines = [f"**{summary(checks)}.**"]
    telling = _telling(checks)
    if telling:
        lines += ["", _line(_HEADINGS), _line(["---"] * len(_HEADINGS)), *(_line(_cells(check)) for check in telling)]
    return "\n".join(lines) + "\n"


def as_junit(checks: Sequence[Check]) -> str:
    """A suite for every measure; what cannot be told is skipped, with the reason."""
    root = ElementTree.Element("testsuites", name="asrquant gate")
    for measure in dict.fromkeys(check.measure for check in checks):
        own = [check for check in checks if check.measure == measure]
        count = Counter(check.verdict for check in own)
        counts = {"tests": len(own), "failures": count[Verdict.FAIL], "skipped": count[Verdict.CANNOT_TELL]}
        suite = ElementTree.SubElement(root, "testsuite", {"name": measure, **{k: str(v) for k, v in counts.items()}})
        for check in own:
            case = ElementTree.SubElement(suite, "testcase", classname=measure, name=printable(_where(check)))
            message = printable(f"{check.found}; {check.limit}")
            if check.verdict is Verdict.FAIL:
                ElementTree.SubElement(case, "failure", message=message)
            elif check.verdict is Verdict.CANNOT_TELL:
                ElementTree.SubElement(case, "skipped", message=f"cannot tell: {message}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _telling(checks: Sequence[Check]) -> list[Check]:
    """Those that do not pass, failures first."""
    order = [Verdict.FAIL, Verdict.CANNOT_TELL]
    return sorted((c for c in checks if c.verdict in order), key=lambda check: order.index(check.verdict))


def _cells(check: Check) -> list[str]:
    return [str(check.verdict), check.measure, _where(check), check.found, check.limit]


def _where(check: Check) -> str:
    return f"{check.configuration} @ {check.split}" if check.split else check.configuration


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in cells)} |"
