"""The page of a run: one HTML file that says in words, pictures and tables what was found, and how.

Every number on it comes from the stored results. What is text in a run (labels, reasons, transcripts)
is text on the page: the templates escape it, and so does the data block that the scripts read.
"""

from __future__ import annotations

from typing import Any

from harness.records.reading import RecordedRun
from harness.report.page._analysis import analyses
from harness.report.page._assets import environment
from harness.report.page._averages import averages_section
from harness.report.page._chart import chart
from harness.report.page._effects import effects_section
from harness.report.page._layers import layers
from harness.report.page._made import asked_for
from harness.report.page._noise import noise_picture
from harness.report.page._overview import overview
from harness.report.page._provenance import provenance
from harness.report.page._run import PageRun
from harness.report.page._table import results_table
from harness.report.page._utterances import utterances


def render(stored: RecordedRun) -> str:
    """The page as text.

    Raises:
        OutputError: the run has no results, or they cannot be read.
    """
    run = PageRun.of(stored)
    return environment().get_template("page.html").render(**_sections(run))


def _sections(run: PageRun) -> dict[str, Any]:
    """What the templates and the scripts are given, section by section."""
    from harness.report.findings import findings
    from harness.report.short import in_short, unmeasured

    table = results_table(run)
    return {
        "unit": run.unit,
        "overview": overview(run),
        "short": in_short(run.study),
        "unmeasured": unmeasured(run.study, asked_for(run)),
        "findings": findings(run.study),
        "table": table,
        "noise": noise_picture(run),
        "averages": averages_section(run),
        "effects": effects_section(run),
        "analyses": analyses(run),
        "provenance": provenance(run),
        "data": {"chart": chart(run, table), "layers": layers(run), "utterances": utterances(run)},
    }
