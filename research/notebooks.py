"""The notebooks of ``examples/``: executes them and keeps their outputs, charts as pictures.

    pip install -e '.[notebook]' && python research/notebooks.py [NAME.ipynb ...]

A chart is kept as PNG, which every viewer shows without scripts. In a notebook that you open, the
same chart is interactive.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).resolve().parents[1] / "examples"
PICTURES = "import altair; altair.renderers.enable('png', ppi=110)"


def smaller(picture: str) -> str:
    """A PNG in base64 with a palette of 128 colours, which is enough for a chart."""
    found, packed = Image.open(io.BytesIO(base64.b64decode(picture))), io.BytesIO()
    found.convert("RGB").quantize(128).save(packed, format="PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode("ascii")


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
        if "outputs" in cell:  # what libraries warn of names the folders of this machine
            cell.outputs = [item for item in cell.outputs if item.get("name") != "stderr"]
            for item in cell.outputs:
                if "image/png" in item.get("data", {}):
                    item["data"]["image/png"] = smaller(item["data"]["image/png"])
    nbformat.write(notebook, path)


for name in sys.argv[1:] or sorted(file.name for file in HERE.glob("*.ipynb")):
    execute(HERE / name)
    print(f"executed {name}")
