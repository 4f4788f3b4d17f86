import importlib.util
from pathlib import Path

from exposurediffusion.dng.writer import write_dng
from tests.frames import capture

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_each_step(tmp_path):
    spec = importlib.util.spec_from_file_location("each_step", EXAMPLES / "each_step.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(str(write_dng(tmp_path / "dark.dng", capture())), str(tmp_path / "steps"), 50.0)
    names = sorted(path.name for path in (tmp_path / "steps").iterdir())
    assert names == ["step-0-exposure-1.png", "step-1-exposure-26.png", "step-2-exposure-50.png"]
