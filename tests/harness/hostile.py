"""A small run on a model and on data of our choosing, to see what it makes of them."""

import json

from harness import grid

EXPERIMENT = """
name = "hostile"
model = {model}
data = [{data}]
decoding = {{ batch_size = 4, max_new_tokens = 12 }}
run = {{ device = "cpu", workers = 1 }}
[[grid]]
backend = "quanto"
bits = 8
"""
EMBEDDED = '{ dataset = "embedded", split = "clean", limit = 2 }'


def run(tmp_path, model, data=EMBEDDED):
    path = tmp_path / "hostile.toml"
    path.write_text(EXPERIMENT.format(model=json.dumps(str(model)), data=data))
    return grid.main([str(path), "--out", str(tmp_path)])
