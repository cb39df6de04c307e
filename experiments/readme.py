"""Tables in the READMEs, written from published runs and from the program: `python -m experiments.readme [--check]`.

What stands in README.md, and in those of `experiments` and `backends`, between `<!-- NAME -->` and `<!-- /NAME -->` is
replaced, and never edited. With `--check` nothing is written, and the status is 1 where a table is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reference import backend_table, key_table
from harness.claims import claims_of
from harness.records.reading import open_run
from harness.report.claims import as_markdown
from harness.report.numbers import fixed, more_words, percent, points_interval
from harness.stats import FEWEST_BLOCKS

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "experiments" / "results"
CLAIMS = ROOT / "experiments" / "claims.toml"
STUDIES = ("study_tiny_en", "study_base")
ENGINES = ("engines_tiny_en", "engines_base")
FRONTIERS = ("frontier_tiny_en", "frontier_base", "static_tiny_en")
NOISE = ("noise_tiny_en", "noise_base")
NONSPEECH = ("nonspeech",)
LONG = ("long_tiny_en", "long_tiny_en_chunked")
SPLITS = ("test-clean", "test-other")
G64 = {"granularity": "per_group", "group_size": 64}
PTQ = {"backend": "ptq", "scheme": "weight_only", **G64}
ROWS: dict[str, dict[str, Any]] = {
    "full precision (float32)": {"backend": "none"},
    "float16": {"backend": "cast", "format": "fp16"},
    "Quanto int8": {"backend": "quanto", "scheme": "weight_only", "bits": 8, "modules": "linear"},
    "Quanto int8, head too": {"backend": "quanto", "scheme": "weight_only", "bits": 8, "modules": "head+linear"},
    "torch dynamic int8, per channel": {"backend": "torch_dynamic", "granularity": "per_channel"},
    "torch static int8, per channel": {"backend": "torch_static", "granularity": "per_channel", "outputs": True},
    "torch static int8, float outputs": {"backend": "torch_static", "granularity": "per_channel", "outputs": False},
    "SmoothQuant W8A8": {"backend": "ptq", "method": "smoothquant"},
    "bitsandbytes nf4 g64": {"backend": "bitsandbytes", "format": "nf4", "options": '"double_quant": false'},
    "HQQ int4 g64": {"backend": "hqq", "bits": 4},
    "GPTQ int4 g64": {**PTQ, "method": "gptq", "bits": 4},
    "HQQ int3 g64": {"backend": "hqq", "bits": 3},
    "RTN int3 g64": {**PTQ, "method": "rtn", "bits": 3},
    "GPTQ int3 g64": {**PTQ, "method": "gptq", "bits": 3},
}
"""Rows of the table: what they are called, and the values by column that their cells have (options: a part of them)."""
MAIN_ROWS = (
    "full precision (float32)",
    "float16",
    "Quanto int8",
    "torch dynamic int8, per channel",
    "torch static int8, per channel",
    "torch static int8, float outputs",
    "bitsandbytes nf4 g64",
    "GPTQ int4 g64",
    "RTN int3 g64",
    "GPTQ int3 g64",
)
"""What README.md shows of them."""
DEPLOYED: dict[str, dict[str, Any]] = {
    "PyTorch float32": {"backend": "none"},
    "PyTorch, Quanto int8": {"backend": "quanto"},
    "CTranslate2 float32": {"backend": "ctranslate2", "format": "fp32"},
    "CTranslate2 int8": {"backend": "ctranslate2", "bits": 8},
    "ONNX Runtime float32": {"backend": "onnxruntime", "format": "fp32"},
    "ONNX Runtime int8, dynamic": {"backend": "onnxruntime", "scheme": "dynamic", "bits": 8},
    "ONNX Runtime int8, static": {"backend": "onnxruntime", "scheme": "static"},
    "ONNX Runtime int4 g64, GPTQ": {"backend": "onnxruntime", "scheme": "weight_only", "bits": 4},
    "ONNX Runtime int4 g64, GPTQ, 8-bit inputs": {"backend": "onnxruntime", "scheme": "dynamic", "bits": 4},
    "whisper.cpp F16": {"backend": "ggml", "format": "fp16"},
    "whisper.cpp Q8_0": {"backend": "ggml", "format": "int", "bits": 8},
    "whisper.cpp Q5_0": {"backend": "ggml", "format": "int", "bits": 5},
    "whisper.cpp Q4_0": {"backend": "ggml", "format": "int", "bits": 4},
    "whisper.cpp IQ4_NL, imatrix": {"backend": "ggml", "format": "iq4_nl"},
    "whisper.cpp Q4_K": {"backend": "ggml", "format": "q4_k", "method": "ggml"},
    "whisper.cpp Q4_K, imatrix": {"backend": "ggml", "format": "q4_k", "method": "imatrix"},
    "OpenVINO int8 encoder, PyTorch decoder": {"backend": "openvino"},
}
"""Rows of the table of engines, as `ROWS`."""
MAIN_ENGINES = (
    "PyTorch float32",
    "PyTorch, Quanto int8",
    "CTranslate2 float32",
    "CTranslate2 int8",
    "ONNX Runtime float32",
    "ONNX Runtime int8, dynamic",
    "ONNX Runtime int4 g64, GPTQ",
    "whisper.cpp F16",
    "whisper.cpp Q8_0",
    "whisper.cpp Q5_0",
)
"""What README.md shows of them."""
Row = Mapping[str, Any]


def main(arguments: Sequence[str]) -> int:
    """Write or check the tables; returns the exit status."""
    claims = claims_of(CLAIMS)
    tables = {
        README: {
            "study": study_table(MAIN_ROWS),
            "engines": engine_table(ENGINES[:1], MAIN_ENGINES),
        },
        ROOT / "experiments" / "README.md": {
            "study": study_table(tuple(ROWS)),
            "frontiers": run_table(FRONTIERS),
            "noise": run_table(NOISE),
            "nonspeech": run_table(NONSPEECH),
            "long": run_table(LONG),
            "engines": engine_table(ENGINES, tuple(DEPLOYED)),
            "keys": key_table(),
            "claims": as_markdown(claims),
        },
        ROOT / "backends" / "README.md": {"backends": backend_table()},
    }
    stale = [path for path, own in tables.items() if _made(path, own) != path.read_text(encoding="utf-8")]
    if arguments == ["--check"]:
        for path in stale:
            print(f"{path}: a table is stale; run make readme", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.write_text(_made(path, tables[path]), encoding="utf-8")
    return 0


def _made(path: Path, tables: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for name, table in tables.items():
        text = replaced(text, name, table)
    return text


def replaced(text: str, name: str, table: str) -> str:
    """`text` with the table of that name between its markers."""
    pattern = rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)"
    return re.sub(pattern, lambda _: f"{table.strip()}\n", text, flags=re.DOTALL)


def study_table(names: Sequence[str]) -> str:
    """Word errors and sizes of both studies side by side, as Markdown: the rows of these names."""
    runs = [open_run(RESULTS / study).results() for study in STUDIES if (RESULTS / study).is_dir()]
    heads = [f"{rows[0]['model']}: saved, % | {' | '.join(SPLITS)}" for rows in runs]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(runs) * (1 + len(SPLITS))}"]
    for name in names:
        lines.append(f"| {name} | {' | '.join(_cells(rows, ROWS[name]) for rows in runs)} |")
    return "\n".join(lines)


def run_table(runs: Sequence[str]) -> str:
    """All configurations of these runs, sizes and word errors on every test set, the smallest first, as Markdown."""
    lines = []
    for name in runs:
        if not (RESULTS / name).is_dir():
            continue
        done = [row for row in open_run(RESULTS / name).results() if row["status"] == "done"]
        splits = list(dict.fromkeys(row["split"] for row in done))
        for model in dict.fromkeys(row["model"] for row in done):
            rows = sorted((row for row in done if row["model"] == model), key=lambda row: row["size_bytes"])
            lines += [f"| {model} | MB | {' | '.join(splits)} |", f"|---|---|{'---|' * len(splits)}"]
            for label in dict.fromkeys(row["configuration"] for row in rows):
                own = {row["split"]: row for row in rows if row["configuration"] == label}
                size = next(iter(own.values()))["size_bytes"] / 1e6
                scores = " | ".join(_score(own[split]) if split in own else "" for split in splits)
                lines.append(f"| {label.replace('|', '/')} | {size:.1f} | {scores} |")
            lines.append("")
    return "\n".join(lines)


def engine_table(runs: Sequence[str], names: Sequence[str]) -> str:
    """What engines make of the real models on a processor: size, word errors, and speed where it was timed."""
    lines = []
    for run in runs:
        if not (RESULTS / run).is_dir():
            continue
        rows = [row for row in open_run(RESULTS / run).results() if row["status"] == "done"]
        lines += [
            f"| {rows[0]['model']} | MB | {' | '.join(SPLITS)} | RTFx |",
            f"|---|---|{'---|' * len(SPLITS)}---|",
        ]
        for name in names:
            own = {row["split"]: row for row in rows if _fits(row, DEPLOYED[name])}
            if not own:
                continue
            one = next(iter(own.values()))
            scores = " | ".join(_score(own[split]) if split in own else "" for split in SPLITS)
            speed = next((f"{row['timed_rtfx']:.1f}" for row in own.values() if row.get("timed_rtfx")), "")
            lines.append(f"| {name} | {one['size_bytes'] / 1e6:.1f} | {scores} | {speed} |")
        lines.append("")
    return "\n".join(lines)


def _cells(rows: Sequence[Row], columns: Row) -> str:
    """Of one configuration: both reductions of the size, and WER with its difference on every split."""
    own = {row["split"]: row for row in rows if row["status"] == "done" and _fits(row, columns)}
    sizes = [[percent(row[f"size_reduction{of}"], 0) for of in ("", "_published")] for row in own.values()]
    saved = "{} ({})".format(*sizes[0]) if sizes else ""
    return " | ".join([saved, *(_score(own[split]) if split in own else "" for split in SPLITS)])


def _fits(row: Row, columns: Row) -> bool:
    return all(value in row[key] if key == "options" else row[key] == value for key, value in columns.items())


def _score(row: Row) -> str:
    """WER and its difference from full precision, with the interval where enough speakers, or recordings, were heard.

    Where nothing is said, words a minute and theirs.
    """
    if row["wer"] is None:
        return ", ".join(filter(None, (fixed(row["hallucinated_per_minute"]), more_words(row))))
    if row["difference"] is None:
        return percent(row["wer"])
    enough = row["blocks"] >= FEWEST_BLOCKS
    gap = row["difference"], *(row[f"difference_{bound}"] if enough else None for bound in ("low", "high"))
    return f"{percent(row['wer'])}, {'the same words' if row['identical'] else points_interval(*gap)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
