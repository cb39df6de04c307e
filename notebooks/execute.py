"""Execute the notebooks of this directory in place: `python notebooks/execute.py [NAME.ipynb ...]`.

Outputs are kept, without what would differ from machine to machine: times, and what libraries say on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent


def main(names: Sequence[str]) -> None:
    """Execute the notebooks called `names`, or all, each in a fresh kernel.

    Raises:
        CellExecutionError: a cell failed; that notebook is left as it was.
    """
    for path in [HERE / name for name in names] or sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        client = NotebookClient(notebook, kernel_name="python3", timeout=300, record_timing=False)
        client.execute(cwd=str(HERE))
        _strip(notebook)
        nbformat.write(notebook, path)
        print(path.name)


def _strip(notebook: nbformat.NotebookNode) -> None:
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


if __name__ == "__main__":
    main(sys.argv[1:])
