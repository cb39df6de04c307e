"""Small runs made by hand, cell by cell, for figures."""

from harness.records.layout import CellRecord
from harness.records.reading import study_of
from harness.records.recording import RunDirectory
from harness.records.store import StoredRun
from harness.report import charts

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

    def add(
        self,
        columns,
        split="clean",
        errors=2,
        size=5e6,
        *,
        status="done",
        against=None,
        layers=True,
        said=None,
        **changes,
    ):
        """A cell with `errors` in the words of every speaker, one more for every other; `against`: its baseline's.

        `said` are its utterances, where they are others.
        """
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
                utterances=(said or [utterance(i, errors + i % 2) for i in range(SPEAKERS)]) if done else (),
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
