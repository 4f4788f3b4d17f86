"""`expose demo`: what it leaves, and that the README shows this and nothing else."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.cli.main import main

README_PICTURE = Path(__file__).parents[2] / "docs" / "side-by-side.png"
CODES = 2.0  # of 255, on average; two machines differed by 0.07


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder that the demo leaves, and the figures that it prints."""
    folder, out = tmp_path_factory.mktemp("demo"), io.StringIO()
    with redirect_stdout(out):
        assert main(["demo", "-o", str(folder), "--json"]) == 0
    return folder, json.loads(out.getvalue())["results"]


def parts(file):
    """The capture, the result and the long exposure of a picture of the demo."""
    with Image.open(file) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    width = (pixels.shape[1] - 16) // 3  # 8 white columns between them
    return [pixels[:, left : left + width] for left in (0, width + 8, 2 * width + 16)]


def test_leaves_its_files_and_gains(demo):
    folder, (before, after) = demo
    expected = {"capture.dng", "capture.png", "enhanced.dng", "enhanced.png", "side-by-side.png"}
    assert {path.name for path in folder.iterdir()} == expected
    assert after["psnr"] > before["psnr"] + 5
    assert after["ssim"] > before["ssim"] + 0.2


def test_the_readmes_picture_is_what_the_demo_leaves(demo):
    """Otherwise: expose demo, and its side-by-side.png to docs/."""
    shown, thirds = parts(README_PICTURE), parts(demo[0] / "side-by-side.png")
    assert [part.shape for part in shown] == [part.shape for part in thirds]
    assert [np.abs(a - b).mean() < CODES for a, b in zip(shown, thirds, strict=True)] == [True] * 3
    assert all(
        np.abs(thirds[1] - other).mean() > CODES for other in (thirds[0], thirds[2])
    )  # twin: it tells them apart
