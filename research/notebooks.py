"""The notebooks of ``examples/``: executes them and keeps their outputs, charts as pictures.

    pip install -e '.[notebook]' && python research/notebooks.py [NAME.ipynb ...]

A chart is kept as PNG, which every viewer shows without scripts. In a notebook that you open, the
same chart is interactive.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parents[1] / "examples"
PICTURES = "import altair; altair.renderers.enable('png', scale_factor=1)"


def execute(path: Path) -> None:
    """Run every cell in order, and write the notebook with what the cells showed."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(HERE)}})
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PICTURES))
    with client.setup_kernel():
        for position, cell in enumerate(notebook.cells):
            client.execute_cell(cell, position, store_history=position > 0)
    notebook.cells.pop(0)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of this run
        for output in cell.get("outputs", []):
            output.pop("transient", None)
    nbformat.write(notebook, path)


for name in sys.argv[1:] or sorted(file.name for file in HERE.glob("*.ipynb")):
    execute(HERE / name)
    print(f"executed {name}")
