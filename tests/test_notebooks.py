"""The notebooks run at tiny size, as plain Python: no kernel is needed; and are stored whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs/notebooks").glob("*.ipynb"))
LARGEST = 800_000  # bytes of a notebook
LARGEST_FIGURE = 150_000 * 4 // 3  # base64
GOOD = {"output_type": "display_data", "data": {"image/jpeg": "/9j/tmp/"}}  # letters of base64, no path
PRIVATE = re.compile(r"/(home|root|tmp|work|Users|mnt|var)/|[A-Z]:\\\\")


def code(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def texts(output: dict[str, Any]) -> list[Any]:
    """All that an output says: a stream's text, or data that are no picture."""
    return [output.get("text"), *(v for kind, v in output.get("data", {}).items() if not kind.startswith("image/"))]


def wrong(notebook: dict[str, Any]) -> list[str]:
    """What is not as a stored notebook should be."""
    cells = code(notebook)
    outputs = [output for cell in cells for output in cell["outputs"]]
    shown = [item for output in outputs for item in output.get("data", {}).items()]
    pictures = [data for kind, data in shown if kind.startswith("image/")]
    problems = {
        "a cell was not executed": [cell["execution_count"] for cell in cells] != list(range(1, len(cells) + 1)),
        "an error is stored": any(output["output_type"] == "error" for output in outputs),
        "a warning is stored": any(output.get("name") == "stderr" for output in outputs),
        "no figure is stored": not pictures,
        "a figure is too large": any(len(data) > LARGEST_FIGURE for data in pictures),
        "a path of a machine": PRIVATE.search(json.dumps([texts(output) for output in outputs])),
    }
    return [problem for problem, found in problems.items() if found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_stored_whole(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    assert wrong(notebook) == []
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"execution_count": None}, "a cell was not executed"),
        ({"outputs": [{"output_type": "error"}]}, "an error is stored"),
        ({"outputs": [{"output_type": "stream", "name": "stderr", "text": ["!"]}]}, "a warning is stored"),
        ({"outputs": [{"output_type": "stream", "text": ["/home/ann/x.dng"]}]}, "a path of a machine"),
        ({"outputs": [{"output_type": "display_data", "data": {"image/png": "A" * 300_000}}]}, "a figure is too large"),
    ],
)
def test_what_is_wrong_is_seen(change: dict[str, Any], problem: str) -> None:
    cells = [{"cell_type": "code", "execution_count": number, "outputs": [GOOD]} for number in (1, 2)]
    assert wrong({"cells": cells}) == []
    cells[0].update(change)
    assert wrong({"cells": cells}) == [problem]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPOSE_TINY", "1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for number, cell in enumerate(code(json.loads(path.read_text("utf-8"))), 1):
        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
    names["plt"].close("all")
