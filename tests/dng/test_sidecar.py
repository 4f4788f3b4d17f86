import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.dng.sidecar import sidecars, write_sidecars
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor


def frame(ev: float) -> RawFrame:
    """A grey wedge that is right at an exposure of `ev`."""
    light = np.broadcast_to(np.linspace(0.02, 0.4, 512, dtype=np.float32) / 2**ev, (384, 512))
    metadata = Metadata(as_shot_neutral=(0.5, 1.0, 0.6), baseline_exposure=ev)
    return RawFrame(light.copy(), Sensor.uniform(CFA("RGGB"), 0, 1), metadata)


def test_both_files_say_the_exposure(tmp_path: Path) -> None:
    write_sidecars(tmp_path / "a.dng", 3.0)
    darktable, rawtherapee = (path.read_text() for path in sidecars(tmp_path / "a.dng"))
    parameters = re.search(r'darktable:params="([0-9a-f]+)"', darktable)
    assert parameters is not None
    assert struct.unpack("<iffffi", bytes.fromhex(parameters[1]))[2] == pytest.approx(3.7)
    assert "Compensation=3.000" in rawtherapee
    write_sidecars(tmp_path / "a.dng", 6.0)  # in floating point, where RawTherapee obeys the DNG
    assert "Compensation=0.000" in sidecars(tmp_path / "a.dng")[1].read_text()


@pytest.mark.parametrize("program", ["darktable-cli", "rawtherapee-cli"])
@pytest.mark.parametrize("ev", [3.0, 6.0])
def test_the_editor_shows_it_as_bright_as_the_reference(tmp_path: Path, program: str, ev: float) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")

    def shown(exposure: float) -> float:
        raw = write_dng(tmp_path / f"{exposure:g}.dng", frame(exposure))
        picture = raw.with_suffix(".png")
        write_sidecars(raw, exposure)
        command = {
            "darktable-cli": [raw, f"{raw}.xmp", picture, "--core", "--configdir", tmp_path / "dt"],
            "rawtherapee-cli": ["-o", picture, "-s", "-Y", "-n", "-c", raw],
        }[program]
        subprocess.run([program, *map(str, command)], capture_output=True, timeout=120, check=True)
        return float(np.asarray(Image.open(picture).convert("RGB")).mean())

    assert shown(ev) == pytest.approx(shown(0.0), abs=1.5)
