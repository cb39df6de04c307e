"""Figures of a finished run, drawn from stored results alone and made for one column of a journal (89 mm).

One file a figure; what they share (page, palette, names) is in `_style` and `_labels`. Colour and shape
say the library, filling says the model; the colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.errors import OutputError
from harness.records.reading import RecordedRun, published_points, study_of
from harness.report.charts._bits import degradation_by_bits
from harness.report.charts._blocks import block_similarity
from harness.report.charts._effects import forest
from harness.report.charts._layers import layer_error, layer_sensitivity
from harness.report.charts._noise import loss_by_noise
from harness.report.charts._outputs import output_range
from harness.report.charts._splits import clean_vs_other
from harness.report.charts._style import save
from harness.report.charts._tradeoffs import size_vs_wer, speed_vs_wer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "block_similarity",
    "clean_vs_other",
    "degradation_by_bits",
    "figures",
    "forest",
    "layer_error",
    "layer_sensitivity",
    "loss_by_noise",
    "output_range",
    "save",
    "size_vs_wer",
    "speed_vs_wer",
]


def figures(run: RecordedRun) -> Iterator[tuple[str, Figure]]:
    """Name and figure of all that the run has something for.

    Raises:
        OutputError: there are no results, or none of them has a word error rate.
    """
    study = study_of(run)
    if not study.scored:
        raise OutputError(
            f"{run.path}: no configuration is finished, so there is nothing to draw; python -m harness.report says why"
        )
    drawn = {
        "size_vs_wer": size_vs_wer(study, published_points(run)),
        "speed_vs_wer": speed_vs_wer(study),
        "degradation_by_bits": degradation_by_bits(study),
        "effects": forest(study),
        "layer_error": layer_error(study, run),
        "layer_sensitivity": layer_sensitivity(study, run),
        "output_range": output_range(study, run),
        "block_similarity": block_similarity(study, run),
        "clean_vs_other": clean_vs_other(study),
        "loss_by_noise": loss_by_noise(study),
    }
    for name, figure in drawn.items():
        if figure is not None:
            yield name, figure
