"""A tone curve as cameras have it, for pictures that are to be looked at rather than measured."""

from __future__ import annotations

import numpy as np

from exposurediffusion.files.develop import encode_srgb, srgb_to_linear

HEADROOM = 2.0
"""EV above white that the curve brings back into the picture."""
_MIDDLE = 0.18  # stays where it is
_CONTRAST = 1.1  # power around the middle: shadows a little deeper
_KNEE = 0.4  # where the shoulder begins
_BAND = 1 << 20  # pixels worked on at a time


def camera_curve(light: np.ndarray) -> np.ndarray:
    """A gentle curve: linear light 0 ... 2**HEADROOM -> 0 ... 1; 0.18 stays, 1 becomes 0.77.

    A power around middle grey; from the knee on a hyperbola that goes on with the same slope and ends at white.
    """
    x, white = (_MIDDLE * (values / _MIDDLE) ** _CONTRAST for values in (light, 2.0**HEADROOM))
    above = np.maximum(x - _KNEE, 0)
    bend = 1 / (1 - _KNEE) - 1 / (white - _KNEE)
    return np.minimum(x, _KNEE) + above / (1 + bend * above)


def camera_tone(rgb: np.ndarray) -> np.ndarray:
    """The curve on a picture: half channel by channel, which pales what is very bright, half on all alike for the hue.

    Args:
        rgb: (h, w, 3) uint16, sRGB's transfer curve; its largest code is 2**HEADROOM.

    Returns:
        (h, w, 3) uint16, its largest code is white.
    """
    toned = np.empty_like(rgb)
    rows = max(1, _BAND // rgb.shape[1])
    for top in range(0, len(rgb), rows):
        light = srgb_to_linear(rgb[top : top + rows] / np.float32(65535)) * np.float32(2.0**HEADROOM)
        most = light.max(axis=2, keepdims=True)
        alike = light * (camera_curve(most) / np.maximum(most, 1e-6))
        toned[top : top + rows] = np.rint(encode_srgb((camera_curve(light) + alike) / 2) * 65535)
    return toned
