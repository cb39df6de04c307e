"""A small run that is published: what it is of, and how its rows are found."""

import csv
import shutil
from itertools import islice

from harness.embedded import SPEECH_DIRECTORY

EXPERIMENT = """
name = "small"
model = "{root}/some one's model"
data = [
  {{ dataset = "folder", split = "clean", root = "{root}/speech" }},
  {{ dataset = "embedded", split = "other", limit = 5 }},
]
calibration = {{ utterances = 2, data = {{ dataset = "folder", split = "calibration", root = "{root}/speech" }} }}
decoding = {{ batch_size = 4, max_new_tokens = 40 }}
run = {{ device = "auto", workers = 1 }}
[[grid]]
backend = "hqq"
granularity = "per_group:64"
bits = [4, 2]
"""
TWO_BITS = "hqq weight_only int2 per_group:64"


def speech(directory, split, count, broken=False):
    """Utterances of the embedded speech as the corpus `folder` takes them; one that cannot be decoded, if asked for."""
    directory.mkdir(parents=True)
    rows = []
    for path in sorted((SPEECH_DIRECTORY / split).glob("*/*/*.trans.txt")):
        for line in islice(path.read_text().splitlines(), 1):
            name, text = line.split(" ", 1)
            shutil.copy(path.parent / f"{name}.ogg", directory)
            rows.append([f"{name}.ogg", text, name.partition("-")[0]])
    if broken:
        (directory / "broken.ogg").write_bytes(b"no sound")
        rows.insert(0, ["broken.ogg", "NOTHING AT ALL", "nobody"])
    with (directory / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file_name", "text", "speaker"], *rows[:count]])


def about(row):
    return {key: row[key] for key in ("configuration_id", "configuration", "model", "split")}


def at(row):
    return row["configuration_id"], row["split"]
