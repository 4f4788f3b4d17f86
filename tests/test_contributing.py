"""CONTRIBUTING's recipes, followed in a copy of the package, whose commands then have what was added."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import exposurediffusion

TEXT = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text()
PACKAGE = Path(exposurediffusion.__file__).parent
RECIPES = dict(re.findall(r"^\*\*(An? [^*]+?)\.\*\* (.+?)\n(?=\n|\Z)", TEXT, flags=re.S | re.M))

BACKBONE = '''
from torch import nn


class Plain(nn.Module):
    """One convolution."""

    predicts_residual = False

    def __init__(self, in_channels: int, out_channels: int, side: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, side, padding=side // 2)
        self.multiple, self.halo = 1, side // 2

    def forward(self, x):
        return self.convolution(x)
'''
NOISE_MODEL = '''
@dataclass(frozen=True)
class ShotNoise(NoiseModel):
    """Shot noise alone."""

    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        return NoiseParameters(gain, torch.zeros_like(gain), torch.zeros_like(gain), quantisation=0.0, source="shot")


'''
BASELINE = '''

@dataclass(frozen=True)
class Half:
    """Half of the capture."""

    name: str = "half"
    iterates: bool = field(default=False, init=False)
    random: bool = field(default=False, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Nothing is set."""
        return {"method": "half"}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        """The capture at half its brightness."""
        return Prediction(adjust(0.5 * _capture(sample)[None])[0])
'''
COMMAND = '''
def hello(name: str) -> int:
    """Greet somebody.

    Args:
        name: whom.
    """
    print(f"hello {name}")
    return 0
'''
COMMANDS = """
import io, json, sys
from contextlib import redirect_stdout
from exposurediffusion.cli.main import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        with redirect_stdout(io.StringIO()) as said:
            code = main(words)
        print(json.dumps([code, said.getvalue()]))
"""


def insert(path: Path, text: str, before: str | None = None) -> None:
    """Text into a file of the copy, before a line that it has, or at its end."""
    content = path.read_text()
    if before is None:
        path.write_text(content + text)
    else:
        assert content.count(before) == 1, (path, before)
        path.write_text(content.replace(before, text + before))


def follow(package: Path) -> None:
    """The five recipes."""
    cameras = package / "physics" / "cameras" / "calibrated"
    camera = json.loads((cameras / "SonyA7S2.json").read_text())
    camera |= {"name": "LuxOne", "exif_model": "Lux One", "gain_iso_100": 0.2, "source": "a test"}
    (cameras / "LuxOne.json").write_text(json.dumps(camera))
    (package / "models" / "plain.py").write_text(BACKBONE)
    denoiser = package / "models" / "denoiser.py"
    insert(denoiser, "from exposurediffusion.models.plain import Plain\n", "from exposurediffusion.models.resunet")
    insert(denoiser, '"plain": Plain, ', '"resunet": ResUNet')
    insert(package / "physics" / "noise.py", NOISE_MODEL, "NOISE_MODELS: dict")
    insert(package / "physics" / "noise.py", '    "shot": ShotNoise,\n', '    "wide": WideNoise,')
    insert(package / "evaluation" / "methods.py", BASELINE)
    insert(
        package / "cli" / "evaluate.py",
        "from exposurediffusion.evaluation.methods import Half\n",
        "from exposurediffusion.evaluation.results",
    )
    insert(package / "cli" / "evaluate.py", '    "half": Half(),\n', '    "capture": Capture(),')
    (package / "cli" / "hello.py").write_text(COMMAND)
    insert(package / "cli" / "main.py", '    "hello": "greet somebody",\n', '    "enhance":')


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_recipes_name_is_there(recipe: str) -> None:
    named = re.findall(r"`([\w/.]+(?:\.py|/))`", RECIPES[recipe])
    assert named
    for name in named:
        assert (PACKAGE / name.removeprefix("src/exposurediffusion/")).exists(), f"{recipe}: {name}"


def test_recipes_suffice(photographs: Path, simsid: Path, tmp_path: Path) -> None:
    kinds = {"A camera", "A backbone", "A noise model", "A baseline, or any other method", "A command"}
    assert set(RECIPES) == kinds
    package = tmp_path / "src" / "exposurediffusion"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    follow(package)
    run, out = tmp_path / "run", tmp_path / "out"
    network = "--preset p+g-unet-exposure --denoiser.backbone plain --denoiser.options.side 5"
    noise = "--capture.noise shot --capture.camera LuxOne"
    short = "--iterations 2 --batch 2 --patch 16 --validation-patch 16 --device cpu"
    measured = f"--root {simsid} --ratios 100 --crop whole --weights {run / 'weights.safetensors'} --baselines half"
    commands = ["cameras --json", "hello --name world", "--help"]
    commands += [
        f"train {network} {noise} {short} --data {photographs} -o {run}",
        f"evaluate {measured} --json -o {out}",
    ]
    (tmp_path / "driver.py").write_text(COMMANDS)
    done = subprocess.run(
        [sys.executable, "driver.py", json.dumps([command.split() for command in commands])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(package.parent), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes, said = zip(*map(json.loads, done.stdout.splitlines()), strict=True)
    assert codes == (0,) * len(commands), done.stderr
    cameras, greeting, overview, _, evaluated = said
    assert "LuxOne" in {camera["name"] for camera in json.loads(cameras)["results"]}
    assert {entry["method"] for entry in json.loads(evaluated)["results"]} >= {"half", "run, T = 2"}
    assert greeting == "hello world\n"
    assert "greet somebody" in overview
