import numpy as np
import pytest

from exposurediffusion.files.render import render
from exposurediffusion.files.tone import HEADROOM, camera_curve, camera_table
from tests.frames import capture


def test_the_curve_rises_from_black_to_white_and_leaves_middle_grey_in_its_place():
    light = np.linspace(0, 2.0**HEADROOM, 4097)
    curve = camera_curve(light)
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)
    assert (np.diff(curve) > 0).all()
    assert 0.18 < camera_curve(np.array([0.18])) < 0.25
    assert 0.6 < camera_curve(np.array([1.0])) < 0.8  # white of the sensor leaves room for what is brighter
    assert (np.diff(camera_table().astype(int)) >= 0).all()
    assert camera_table()[[0, -1]].tolist() == [0, 65535]


def test_a_picture_shows_what_is_brighter_than_white():
    frame = capture()
    planes = frame.planes * 0 + 0.4
    planes[:, :, :40] = 0.25
    bright = frame.with_planes(planes, baseline_exposure=2.0)  # 1.6 and 1.0 times white
    linear, camera = render(bright).rgb8, render(bright, tone="camera").rgb8
    left, right = np.s_[40:90, 20:60], np.s_[40:90, 100:140]
    assert linear[left].min() == linear[right].min() == 255
    assert 180 < camera[left].mean() + 5 < camera[right].mean() < 250


def test_a_smaller_picture_has_the_same_light():
    picture = render(capture(), exposure=5)
    small = picture.resized(40)
    assert small.rgb.shape == (32, 40, 3)
    assert small.rgb.dtype == picture.rgb.dtype
    assert small.rgb.mean() == pytest.approx(picture.rgb.mean(), rel=0.02)
    assert picture.resized(4000) is picture
