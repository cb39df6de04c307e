"""Small handmade runs for the tests of the page."""

from html.parser import HTMLParser
from pathlib import Path

from harness.experiment.cell import Cell, hash_of
from harness.experiment.config import load_experiment
from harness.experiment.plan import configurations
from harness.experiment.tables import Data
from harness.metrics import align
from harness.records.layout import CellRecord
from harness.records.recording import RunDirectory
from harness.records.results import result_rows

PLANNED = configurations(load_experiment(Path("experiments/embedded.toml")))
HOSTILE = '<script>document.title="broken"</script></script>&"{{ 7 * 7 }}<!--\u2028'
HOSTILE_WORD = "".join(HOSTILE.split())
SENTENCES = (f"a {HOSTILE_WORD} b", "the cat sat down", "it is late now", "one two three four")
HEARD = ({}, {0: "x"}, {1: None}, {2: "three more"})
"""What a cell hears otherwise: words by their place; `None` is nothing."""

QUARTILES = ("lower_quartile", "median", "upper_quartile")


def utterance(number, speaker, changes):
    expected = SENTENCES[number % len(SENTENCES)].split()
    said = [changes.get(place, word) for place, word in enumerate(expected)]
    heard = " ".join(word for word in said if word is not None).split()
    steps = align(expected, heard)
    counts = {"substitutions": steps.count("S"), "deletions": steps.count("D"), "insertions": steps.count("I")}
    return {
        "id": f"u{number:03}",
        "speaker": speaker,
        "normalised_reference": " ".join(expected),
        "normalised_hypothesis": " ".join(heard),
        "alignment": steps,
        **counts,
        "reference_words": len(expected),
        "reference_nll": 0.1 * len(expected),
        "reference_tokens": len(expected) + 1,
        "character_errors": sum(counts.values()),
        "reference_characters": 20,
        "empty": False,
        "loop": False,
    }


def changes(number, index):
    """What the cell with this index makes of an utterance; every fourth cell is like the first."""
    return HEARD[(number + number // 4) * index % 4] or ({2: "wrong"} if number % 12 == 1 else {})


def record(cell, index, *, done, speakers, utterances):
    size = 20_000_000 // (1 + index % 4) + 1000 * index
    measured = {"size_bytes": size, "size_reduction": 0.5, "effective_bits": 8.1, "rtfx": float("nan")}
    status = {"status": "done" if done else "failed", "reason": "" if done else HOSTILE}
    identity = {"model": {"revision": "abc"}, "decoding": {"num_beams": 1}, "spec": {}}
    said = [utterance(i, f"s{i % speakers}", changes(i, index)) for i in range(utterances)]
    layer = {"name": f"layer{index}.{HOSTILE}", "kind": "linear", "requested": "int8", "effective": None}
    layer |= {"reason": HOSTILE, "effective_bits": 8.0, "weight_error": 0.01}
    return CellRecord(
        cell.cell_id,
        {"cell_id": cell.cell_id, **status, "identity": identity, "measured": measured if done else {}},
        said if done else (),
        [layer] if done else (),
        {"python": "3", "packages": {"torch": HOSTILE}},
    )


def timed(chosen):
    """What `harness.latency` would have stored of configurations beside the first: the n-th is n times as fast."""
    return [
        {
            "configuration_id": configuration.id,
            "baseline_id": chosen[0].id,
            "status": "done",
            "threads": threads,
            "measure": "rtfx",
            **{f"ratio_{what}": float(index) for what in QUARTILES},
            **{f"baseline_{what}": 10.0 * threads for what in QUARTILES},
            **{f"quantized_{what}": 10.0 * threads * index for what in QUARTILES},
        }
        for threads in (2, 1)
        for index, configuration in enumerate(chosen)
        if index
    ]


def stored_run(path, chosen=PLANNED[:6], splits=("clean", "other"), failing=(5,), speakers=8, utterances=48):
    directory = RunDirectory(path)
    cells = []
    for index, configuration in enumerate(chosen):
        for split in splits:
            cell_id = hash_of([index, split])
            cells.append(Cell(configuration, Data(dataset="embedded", split=split), {}, cell_id, ()))
            done = index not in failing
            directory.write(record(cells[-1], index, done=done, speakers=speakers, utterances=utterances))
    directory.write_latency({"environment": {}, "rows": timed(chosen[:3])})
    rows = result_rows(directory, cells)
    rows[len(rows) // 4]["configuration"] = f"cast {HOSTILE}"
    directory.write_results(rows)
    return path


class Reader(HTMLParser):
    """The elements of a page, and its text outside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.within = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.within = tag

    def handle_data(self, data):
        if self.within not in ("script", "style"):
            self.text.append(data)
