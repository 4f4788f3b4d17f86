import numpy as np
import pytest

from exposurediffusion.rendering.render import render
from exposurediffusion.rendering.tone import HEADROOM, camera_curve, camera_tone
from tests.frames import capture


def test_the_curve_rises_from_black_to_white_and_leaves_middle_grey_in_its_place():
    light = np.linspace(0, 2.0**HEADROOM, 4097)
    curve = camera_curve(light)
    assert curve[0] == 0
    assert curve[-1] == pytest.approx(1)
    assert (np.diff(curve) > 0).all()
    assert 0.6 < camera_curve(np.array([1.0]))[0] < 0.8  # white of the sensor leaves room for what is brighter
    assert camera_curve(np.array([0.18])) == pytest.approx(0.18)


def test_grey_stays_grey_and_hues_stay_near():
    codes = np.arange(0, 65536, 5, dtype=np.uint16)
    grey = camera_tone(np.repeat(codes[None, :, None], 3, axis=2))
    assert (grey == grey[..., :1]).all()
    assert (np.diff(grey[0, :, 0].astype(int)) >= 0).all()
    assert (grey[0, 0, 0], grey[0, -1, 0]) == (0, 65535)
    orange = camera_tone(np.array([[[30000, 20000, 9000]]], dtype=np.uint16))[0, 0]
    assert orange[0] > orange[1] > orange[2]


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
