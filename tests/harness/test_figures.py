"""Figures of small runs made by hand: what is drawn, what is named, and that everything is legible."""

import io
import itertools
import shutil
from pathlib import Path
from unittest import mock

import pytest
from matplotlib.text import Text

from harness import figures
from harness.records.layout import CellRecord
from harness.report import charts
from harness.report.charts._layers import short_name
from harness.report.charts._style import SMALL, WIDTH
from tests.harness.handmade import (
    ALL,
    LAYERS,
    HandMade,
    configuration,
    layer,
    small_run,
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """All figures of the small run."""
    return small_run(tmp_path_factory.mktemp("run")).draw()


def texts(figure):
    """All texts that are drawn, with their extents in pixels."""
    found = {}
    original = Text.draw

    def draw(text, renderer):
        original(text, renderer)
        if text.get_text().strip() and text.get_visible():
            found[id(text)] = text, Text.get_window_extent(text, renderer)

    with mock.patch.object(Text, "draw", draw):
        figure.savefig(io.BytesIO(), format="png")
    return list(found.values())


def assert_legible(figure):
    """One column wide, no text too small, cut off, or over another."""
    found = texts(figure)
    assert figure.get_size_inches()[0] == WIDTH
    assert min(text.get_fontsize() for text, _ in found) >= SMALL
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, (one, other)


def words(figure):
    return "\n".join(text.get_text() for text, _ in texts(figure))


def test_every_figure_is_legible_in_one_column(drawn):
    assert list(drawn) == ALL
    for figure in drawn.values():
        assert_legible(figure)


def test_catastrophes_are_drawn_at_the_edge_with_their_value(drawn):
    assert "81 % ↑" in words(drawn["size_vs_wer"])
    assert "logarithmic above" in words(drawn["degradation_by_bits"])
    assert "+74.0 →" in words(drawn["effects"])
    assert "(+76.0, +70.0)" in words(drawn["clean_vs_other"])


def test_frontier_points_and_splits_that_differ_are_named(drawn):
    assert "int4 channel" in words(drawn["size_vs_wer"])
    assert "hqq int4 channel" in words(drawn["clean_vs_other"])
    assert "hqq int8 group 64" not in words(drawn["clean_vs_other"])


def test_effects_say_how_many_pairs(tmp_path):
    made = small_run(tmp_path)
    for split, base in (("clean", 2), ("other", 5)):
        made.add(configuration("quanto", 4), split, base + 1, 4.1e6, against=base)
    shown = words(charts.forest(made.study))
    assert "backend" in shown
    assert "hqq → quanto" in shown
    assert "8 → 4" in shown
    assert "\n2\n" in shown


def test_layers_are_grouped_and_float_ones_blank(drawn):
    figure = drawn["layer_error"]
    shown = words(figure).split("\n")
    assert {"encoder", "decoder", "0 self k", "0 cross q", "0 fc1"} <= set(shown)
    assert "proj_out" not in shown
    table = figure.axes[0].images[0].get_array()
    assert table.shape == (3, 6)


def test_names_of_layers_are_short():
    assert short_name("model.encoder.layers.3.self_attn.out_proj") == "3 self out"
    assert short_name("wav2vec2.encoder.layers.1.feed_forward.output_dense") == "1 feed_forward output_dense"
    assert short_name("proj_out") == "proj_out"


def test_the_layer_whose_output_is_too_wide_is_named(tmp_path):
    made = small_run(tmp_path)
    static = configuration("torch_static", 8, None, scheme="static", outputs=True)
    made.add(static, errors=20, against=2)
    layers = [
        {"name": name, "divergence": 10.0 ** -(5 - i), "output_range_ratio": 10.0 * 2**i}
        for i, name in enumerate(LAYERS[1:])
    ]
    document = {"configuration_id": static["configuration_id"], "model": "embedded", "layers": layers, "blocks": []}
    made.run.write_analysis(static["configuration_id"], {**document, "output_bits": 8})
    figure = made.draw()["output_range"]
    assert_legible(figure)
    assert "torch_static int8 channel" in words(figure)
    assert "proj_out" in words(figure)
    made.run.write_analysis(static["configuration_id"], {**document, "output_bits": None})
    assert "output_range" not in made.draw()


def test_one_split_has_no_comparison_of_splits(tmp_path):
    made = small_run(tmp_path)
    made.rows = [row for row in made.rows if row["split"] == "clean"]
    drawn = made.draw()
    assert list(drawn) == ALL[:-1]
    for figure in drawn.values():
        assert_legible(figure)


def test_three_splits_compare_the_first_with_each(tmp_path):
    made = small_run(tmp_path)
    made.add(configuration("none"), "third", 3, 20e6).add(configuration("hqq", 4), "third", 5, 4e6, against=3)
    drawn = made.draw()
    assert len([axes for axes in drawn["clean_vs_other"].axes if axes.get_xlabel()]) == 2
    for figure in drawn.values():
        assert_legible(figure)


def test_several_models_are_told_apart_by_filling(tmp_path):
    made = small_run(tmp_path)
    for split, base in (("clean", 1), ("other", 3)):
        base_model = {"model": "openai/whisper-base"}
        made.add(configuration("none", **base_model), split, base, 60e6)
        made.add(configuration("hqq", 4, **base_model), split, base + 1, 15e6, against=base)
        made.add(configuration("hqq", 8, **base_model), split, base, 20e6, against=base)
    drawn = made.draw()
    for name in ("size_vs_wer", "degradation_by_bits", "clean_vs_other"):
        assert "whisper-base" in words(drawn[name])
    for figure in drawn.values():
        assert_legible(figure)


def test_a_library_that_we_do_not_know_has_a_mark_of_its_own(tmp_path):
    made = small_run(tmp_path).add(configuration("plugged_in", 4), "clean", 3, 4.2e6, against=2)
    for figure in made.draw().values():
        assert_legible(figure)
    assert "plugged_in" in words(charts.size_vs_wer(made.study))


def test_published_points_stand_beside_what_was_measured(tmp_path):
    made = small_run(tmp_path)
    point = {"label": "Q8", "size_mb": 12.0, "wer": {"clean": 1.0}, "source": "a publication"}
    figure = charts.size_vs_wer(made.study, [point])
    assert all(text in words(figure) for text in ("Q8", "published elsewhere"))
    assert_legible(figure)
    assert "published elsewhere" not in words(charts.size_vs_wer(made.study))


def test_speed_stands_against_errors_where_it_was_measured(tmp_path):
    made = HandMade(tmp_path)
    assert charts.speed_vs_wer(small_run(tmp_path / "untimed").study) is None
    made.add(configuration("none"), size=20e6, timed_rtfx=10.0)
    made.add(configuration("hqq", 8), errors=3, size=5e6, against=2, timed_rtfx=25.0)
    made.add(configuration("hqq", 4), errors=4, size=4e6, against=2, timed_rtfx=20.0)
    made.add(configuration("hqq", 2), errors=4, size=3e6, against=2)
    figure = charts.speed_vs_wer(made.study)
    assert_legible(figure)
    assert "seconds of audio per second" in words(figure)
    frontier = max(
        (line for line in figure.axes[0].lines if line.get_linestyle() == "-"), key=lambda line: len(line.get_xdata())
    )
    assert [round(x) for x in (max(frontier.get_xdata()), min(frontier.get_xdata()))] == [25, 10]


def test_full_precision_and_one_more_without_intervals(tmp_path):
    made = HandMade(tmp_path)
    missing = {"wer_low": None, "wer_high": None, "difference_low": None, "difference_high": None}
    made.add(configuration("none"), errors=2, size=20e6, **missing)
    made.add(configuration("hqq"), errors=2, size=5e6, against=2, **missing | {"identical": True})
    drawn = made.draw()
    assert list(drawn) == ["size_vs_wer", "degradation_by_bits", "layer_error"]
    for figure in drawn.values():
        assert_legible(figure)


def test_full_precision_alone(tmp_path):
    drawn = HandMade(tmp_path).add(configuration("none")).draw()
    assert list(drawn) == ["size_vs_wer"]
    assert_legible(drawn["size_vs_wer"])


def test_a_run_whose_full_precision_failed(tmp_path):
    made = HandMade(tmp_path).add(configuration("none"), status="failed").add(configuration("hqq"))
    drawn = made.draw()
    assert list(drawn) == ["size_vs_wer", "layer_error"]
    for figure in drawn.values():
        assert_legible(figure)


def test_a_large_grid_stays_legible(tmp_path):
    made = HandMade(tmp_path)
    for split, base in (("clean", 2), ("other", 5)):
        made.add(configuration("none"), split, base, 20e6)
        grid = itertools.product(("hqq", "quanto", "bitsandbytes"), (8, 6, 4, 3, 2), (128, 64, 32, None))
        for i, (backend, bits, group) in enumerate(grid):
            errors = base + {8: 0, 6: 0, 4: 1, 3: 2, 2: 30}[bits]
            size = 3e6 + bits * 4e5 + i * 1e4
            made.add(configuration(backend, bits, group), split, errors, size, against=base)
    for figure in made.draw().values():
        assert_legible(figure)


def test_many_formats_and_long_names_stay_legible(tmp_path):
    made = HandMade(tmp_path).add(configuration("none"), size=20e6)
    for i, bits in enumerate((8, 6, 5, 4, 3, 2)):
        made.add(configuration("hqq", bits), errors=2 + i, size=6e6 - i * 4e5, against=2)
    for i, name in enumerate(("nf4", "fp4", "fp8_e4m3", "fp8_e5m2")):
        made.add(configuration("bitsandbytes", 4 + 4 * (i > 1), format=name), errors=3, size=5e6 + i * 1e5, against=2)
    for code in ("int8:per_tensor:symmetric", "int8:per_token:asymmetric"):
        made.add(configuration("quanto", 8, None, scheme="static", activations=code), errors=3, against=2)
    for device in ("cpu", "cuda"):
        model = {"model": "somebody/a-fine-tuned-whisper-large-v3-turbo", "device": device}
        made.add(configuration("none", **model), errors=1, size=30e6)
        made.add(configuration("hqq", 4, **model), errors=2, size=9e6, against=1)
    drawn = made.draw()
    for figure in drawn.values():
        assert_legible(figure)
    assert "asymmetric" in words(drawn["effects"])


def test_many_layers_are_named_by_block(tmp_path):
    made = HandMade(tmp_path).add(configuration("none")).add(configuration("hqq"), against=2, layers=False)
    blocks = [f"model.encoder.layers.{b}.fc{i}" for b in range(24) for i in range(4)]
    shutil.rmtree(made.run.cells / "cell1")
    about = {"cell_id": "cell1", "status": "done"}
    record = CellRecord("cell1", about, layers=[layer(name, made.rows[1], 1) for name in blocks])
    made.run.write(record)
    figure = charts.layer_error(made.study, made.run)
    assert_legible(figure)
    assert "fc1" not in words(figure)


def test_the_command_writes_the_same_bytes_twice(tmp_path, capsys):
    made = small_run(tmp_path / "run")
    made.run.write_results(made.rows)
    assert figures.main([str(tmp_path / "run")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == [f"{name}.{suffix}" for name in ALL for suffix in ("svg", "png")]
    first = [path.read_bytes() for path in written]
    assert figures.main([str(tmp_path / "run")]) == 0
    assert [path.read_bytes() for path in written] == first
    assert b"<dc:date>" not in first[0]


@pytest.mark.parametrize(
    ("directory", "sentence"), [("nothing", "there is no such directory"), (".", "run the experiment first")]
)
def test_figures_without_results_are_one_sentence(directory, sentence, capsys):
    assert figures.main([directory]) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_without_a_finished_cell_is_one_sentence(tmp_path, capsys):
    made = HandMade(tmp_path).add(configuration("none"), status="failed")
    made.run.write_results(made.rows)
    assert figures.main([str(tmp_path)]) == 2
    assert "no configuration is finished" in capsys.readouterr().err
