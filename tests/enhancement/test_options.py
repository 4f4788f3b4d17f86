import inspect
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from exposurediffusion.analysis.sources import noise_of
from exposurediffusion.enhancement.frame import enhance, enhance_with_maps
from exposurediffusion.enhancement.options import EnhanceOptions, black_levels
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import Metadata, RawFrame
from tests.frames import capture

KNOWN = NoiseParameters.gaussian(2.0, 6.0, 15871.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ratio": 0.9}, "ratio lies between 1 and 1000, got 0.9"),
        ({"ratio": float("nan")}, "ratio lies between"),
        ({"steps": 101}, "steps lies between 0 and 100"),
        ({"samples": 0}, "samples lies between"),
        ({"tile": 8}, "tile is at least 16"),
        ({"strength": 2.0}, "strength lies between 0 and 1"),
        ({"chroma": -0.1}, "chroma lies between 0 and 1"),
        ({"gain": 2.0}, "gain and read belong together"),
        ({"gain": 2.0, "read": 3.0, "camera": "SonyA7S2"}, "given twice"),
        ({"gain": 2.0, "read": 3.0, "noise": KNOWN}, "given twice"),
        ({"samples": 3, "steps": 0}, "all alike"),
        ({"samples": 3, "increment": "mean"}, "has to be sampled"),
        ({"maps": True, "faithful": False}, "never is with faithful off"),
        ({"black": "dark"}, "black 'dark'"),
        ({"black": (5, -1)}, "from 0 on"),
        ({"white_balance": "cloudy"}, "white balance 'cloudy'"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(options, says):
    with pytest.raises(ValueError, match=says):
        EnhanceOptions(**options)


def test_black_levels_are_numbers_or_their_text():
    assert black_levels("512") == black_levels([512]) == (512.0,)
    assert black_levels("1,2,3.5,4") == (1.0, 2.0, 3.5, 4.0)


@pytest.mark.parametrize("function", [enhance, enhance_with_maps])
def test_the_options_are_keywords_of_the_function(function, tiny_model):
    names = list(inspect.signature(function).parameters)
    assert names == ["frame", "model", *inspect.signature(EnhanceOptions).parameters]
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got an unexpected keyword argument 'ration'"):
        function(capture(), tiny_model, ration=100)


def test_a_frame_of_no_numbers_is_refused(tiny_model):
    frame = capture()
    with pytest.raises(ValueError, match="no number at all"):
        enhance(RawFrame(np.full_like(frame.mosaic, np.nan, dtype=np.float32), frame.sensor), tiny_model)


WRONG = """
import exposurediffusion as ed, numpy as np
frame = ed.RawFrame(np.full((64, 64), 600, np.uint16), ed.Sensor.uniform(ed.CFA("RGGB"), 512, 16383))
same = lambda state, exposure: state
for wrong in (
    lambda: ed.enhance([frame], same), lambda: ed.enhance(frame, "default"), lambda: ed.enhance(frame, same, ratio="9"),
    lambda: ed.enhance(frame, same, exposure="bright"),
):
    try:
        wrong()
    except (TypeError, ValueError) as error:
        print(type(error).__name__, error)
"""


def test_values_of_wrong_types_are_refused_in_words():
    """In a process of its own: while the tests run, every type is checked before."""
    done = subprocess.run([sys.executable, "-c", WRONG], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "TypeError the frame is a RawFrame (of read_raw), one at a time, not list",
        "TypeError the model is of load, or a function of state and exposure, not str",
        "TypeError ratio is a number, got '9'",
        "ValueError exposure is auto, reference or capture, got 'bright'",
    ]


def test_a_profile_that_was_asked_for_is_used_or_refused(tiny_model):
    frame = capture()
    nameless = RawFrame(frame.mosaic, frame.sensor)
    with pytest.raises(ValueError, match="NikonD850 needs the ISO"):
        enhance(nameless, tiny_model, ratio=50.0, camera="NikonD850")
    options = {"ratio": 50.0, "steps": 0, "precision": "fp32"}
    by_name = enhance(nameless, tiny_model, camera="NikonD850", iso=1600, **options)
    by_profile = enhance(nameless, tiny_model, camera=load_profile("NikonD850"), iso=1600, **options)
    assert torch.equal(by_name.planes, by_profile.planes)
    with pytest.raises(ValueError, match="Brownie"):
        enhance(frame, tiny_model, camera="Brownie")


def test_a_profile_without_black_errors_leaves_them_to_the_other_cameras():
    frame = capture()
    bare = replace(load_profile("SonyA7S2"), colour_bias=())
    found, unknown = noise_of(frame, bare).black, noise_of(replace(frame, metadata=Metadata())).black
    assert found.item() == unknown.item() > 0


def test_gain_and_read_noise_are_the_noise(tiny_model):
    options = {"ratio": 50.0, "steps": 0, "precision": "fp32"}
    by_numbers = enhance(capture(), tiny_model, gain=2.0, read=6.0, **options)
    assert torch.equal(by_numbers.planes, enhance(capture(), tiny_model, noise=KNOWN, **options).planes)
