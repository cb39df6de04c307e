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
from harness.records.reading import study_of
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun
from harness.report import charts
from harness.report.charts._layers import short_name
from harness.report.charts._style import SMALL, WIDTH

SPEAKERS = 8
WORDS = 50
LAYERS = [
    "model.encoder.conv1",
    "model.encoder.layers.0.self_attn.k_proj",
    "model.decoder.layers.0.encoder_attn.q_proj",
    "model.decoder.layers.0.fc1",
    "proj_out",
]
ALL = ["size_vs_wer", "degradation_by_bits", "effects", "layer_error", "clean_vs_other"]


def configuration(backend="hqq", bits=4, group=64, **changes):
    """The columns of one configuration; full precision and casts by their backend."""
    is_float = backend in ("none", "cast")
    columns = {
        "model": "embedded",
        "revision": None,
        "backend": backend,
        "method": "none" if is_float else "rtn",
        "scheme": "none" if is_float else "weight_only",
        "granularity": "per_tensor" if is_float else "per_group" if group else "per_channel",
        "group_size": None if is_float else group,
        "bits": {"none": 32, "cast": 16}.get(backend, bits),
        "format": {"none": "fp32", "cast": "bf16"}.get(backend, "int"),
        "symmetric": None if is_float else True,
        "activations": None,
        "modules": "linear",
        "parts": "decoder+encoder",
        "outputs": False,
        "options": "{}",
        "dtype": "float32",
        "device": "cpu",
    } | changes
    named = f"{columns['model']} {backend} {columns['format']}{columns['bits']} {group} {sorted(changes.items())}"
    return {"configuration": named, "configuration_id": named, **columns}


class HandMade:
    """A run directory that is filled cell by cell."""

    def __init__(self, path):
        self.run = RunDirectory(path)
        self.rows = []

    def add(self, columns, split="clean", errors=2, size=5e6, *, status="done", against=None, layers=True, **changes):
        """A cell with `errors` in the words of every speaker, one more for every other; `against`: its baseline's."""
        done = status == "done"
        wer = (errors + 0.5) / WORDS
        cost = None if against is None else (errors - against) / WORDS
        row = {
            "cell_id": f"cell{len(self.rows)}",
            "status": status,
            "reason": "" if done else "it broke",
            **columns,
            "dataset": f"embedded/{split}",
            "split": split,
            "reference_words": SPEAKERS * WORDS if done else None,
            "size_bytes": int(size) if done else None,
            **spread("wer", wer if done else None, 0.005),
            **spread("difference", cost if done else None, 0.003),
            "identical": False,
        } | changes
        self.rows.append(row)
        self.run.write(
            CellRecord(
                row["cell_id"],
                {"cell_id": row["cell_id"], "status": status},
                utterances=[utterance(i, errors + i % 2) for i in range(SPEAKERS)] if done else (),
                layers=[layer(name, row, i) for i, name in enumerate(LAYERS)] if done and layers else (),
            )
        )
        return self

    @property
    def study(self):
        self.run.write_results(self.rows)
        return study_of(self.run)

    def draw(self):
        """All figures by name."""
        self.run.write_results(self.rows)
        return dict(charts.figures(StoredRun(self.run.path)))


def spread(name, value, half):
    bounds = (None, None) if value is None else (value - half, value + half)
    return {name: value, f"{name}_low": bounds[0], f"{name}_high": bounds[1]}


def utterance(speaker, errors):
    return {
        "id": f"u{speaker}",
        "speaker": f"s{speaker}",
        "normalised_reference": "a",
        "normalised_hypothesis": "a" * errors,
        "alignment": "",
        "substitutions": errors,
        "deletions": 0,
        "insertions": 0,
        "reference_words": WORDS,
    }


def layer(name, row, index):
    is_float = row["backend"] == "none" or name in ("model.encoder.conv1", "proj_out")
    error = 0.0 if is_float else 2.0 ** -row["bits"] * (1 + index / 10)
    return {"name": name, "effective": None if is_float else "code", "weight_error": error}


def small_run(path):
    """Two splits, three libraries, one catastrophe and one cell that failed."""
    made = HandMade(path)
    for split, base in (("clean", 2), ("other", 5)):
        made.add(configuration("none"), split, base, 20e6)
        made.add(configuration("cast"), split, base, 10e6, against=base, identical=True)
        made.add(configuration("quanto", 8), split, base, 6e6, against=base)
        made.add(configuration("hqq", 8), split, base, 6.1e6, against=base)
        made.add(configuration("hqq", 4), split, base + 1, 4e6, against=base)
        made.add(configuration("hqq", 4, None), split, base + 2 * (split == "other"), 3.8e6, against=base)
        made.add(configuration("hqq", 2), split, 40, 3e6, against=base)
        made.add(configuration("bitsandbytes", 8), split, status="failed")
    return made


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
