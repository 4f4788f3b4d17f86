"""Results as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.enhancement.frame import Enhanced
from exposurediffusion.photographs.outputs import ResultOptions, write_result
from exposurediffusion.photographs.photograph import Format, Job
from tests.frames import capture


@pytest.mark.parametrize("format", ["dng", "png"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_result_that_is_no_number_is_never_written(format: Format, wrong: float, tmp_path: Path) -> None:
    frame = capture()
    sound = replace(frame, mosaic=frame.mosaic.astype(np.float32))
    broken = replace(sound, mosaic=sound.mosaic.copy())
    broken.mosaic[7, 9] = wrong
    job = Job(tmp_path / "night.dng", tmp_path / f"result.{format}", format)
    with pytest.raises(ValueError, match=r"night\.dng: the result is no number in places, and is not written"):
        write_result(job, frame, 1.0, Enhanced(broken), ResultOptions())
    assert not list(tmp_path.iterdir())
    write_result(job, frame, 1.0, Enhanced(sound), ResultOptions())
    assert job.target.exists()
