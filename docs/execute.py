"""Execute the notebooks in docs/notebooks and store them with their outputs: all of them, or those that are named.

make notebooks
python docs/execute.py docs/notebooks/night_shot.ipynb
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FIGURES = ["--InlineBackend.figure_formats=jpeg", "--InlineBackend.print_figure_kwargs={'pil_kwargs': {'quality': 82}}"]


def execute(path: Path) -> None:
    """Run one in a fresh kernel; where a cell fails nothing is written."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=3600, extra_arguments=FIGURES).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # its times
        for output in cell.get("outputs", []):
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("text/plain", None)  # the size of the figure
    nbformat.write(notebook, path)


if __name__ == "__main__":
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # no bars are wanted here
    named = [Path(word) for word in sys.argv[1:]]
    for each in named or sorted((Path(__file__).parent / "notebooks").glob("*.ipynb")):
        print(each)
        execute(each)
