"""What quantization costs in noise, as a picture."""

from __future__ import annotations

import base64
from io import BytesIO

from harness.report.page._run import PageRun


def noise_picture(run: PageRun) -> str:
    """The figure `loss_by_noise` as the address of an image that holds its data; empty where there is no noise."""
    if all(row.get("noise_db") is None for row in run.study.scored):
        return ""
    from harness.report.charts import loss_by_noise

    figure = loss_by_noise(run.study)
    if figure is None:
        return ""
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"
