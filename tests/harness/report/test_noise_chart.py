"""The figure of the loss by noise, from a run by hand."""

from base64 import b64decode
from types import SimpleNamespace
from xml.etree import ElementTree

from harness.report.charts import loss_by_noise
from harness.report.page._noise import noise_picture
from harness.stats import Study
from tests.harness.runs import PLANNED, write_run


def in_babble(row, ratio):
    split = f"{row['split']} + babble {ratio} dB"
    return {**row, "split": split, "condition": f"babble {ratio} dB", "noise_db": float(ratio)}


def test_a_line_goes_from_quiet_to_loud_in_each_configuration(tmp_path):
    quantized = [c for c in PLANNED if c.backend == "quanto"][:1]
    study = write_run(tmp_path, lambda c, split, s, u: 1 + 2 * (c in quantized), [PLANNED[0], *quantized])
    assert loss_by_noise(study) is None
    clean = [row for row in study.rows if row["split"] == "clean"]
    rows = [in_babble(row, ratio) for ratio in (5, 20) for row in clean] + study.rows
    figure = loss_by_noise(Study(rows, study.sample))
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "clean + babble"
    assert [text.get_text() for text in axes.get_xticklabels()] == ["no noise", "20", "5"]
    line = next(line for line in axes.lines if len(line.get_xdata()) == 3)
    assert list(line.get_xdata()) == [0, 1, 2]
    assert [round(cost, 6) for cost in line.get_ydata()] == [10, 10, 10]


def test_the_page_has_it_as_a_picture_where_there_is_noise(tmp_path):
    study = write_run(tmp_path, lambda c, split, s, u: 1, PLANNED[:2])
    noisy = Study([in_babble(row, 5) for row in study.rows] + study.rows, study.sample)
    assert noise_picture(SimpleNamespace(study=study)) == ""
    kind, data = noise_picture(SimpleNamespace(study=noisy)).split(",")
    assert kind == "data:image/svg+xml;base64"
    assert ElementTree.fromstring(b64decode(data)).tag.endswith("svg")
