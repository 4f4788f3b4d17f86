"""A tone curve as cameras have it, for pictures that are to be looked at rather than measured."""

from __future__ import annotations

from functools import cache

import numpy as np

from exposurediffusion.files.develop import encode_srgb, srgb_to_linear

HEADROOM = 2.0
"""EV above white that the curve brings back into the picture."""
_MIDDLE = 0.18  # stays nearly where it is
_CONTRAST = 1.15  # power around the middle: shadows a little deeper
_LIFT = 1.5  # of dark tones, before the shoulder


def camera_curve(light: np.ndarray) -> np.ndarray:
    """A gentle curve with a shoulder: linear light 0 ... 2**HEADROOM -> 0 ... 1; middle grey 0.18 becomes 0.21.

    A power around middle grey, then the extended curve of Reinhard et al., "Photographic tone reproduction for digital
    images", SIGGRAPH 2002, eq. 4.
    """
    x, white = (_LIFT * _MIDDLE * (values / _MIDDLE) ** _CONTRAST for values in (light, 2.0**HEADROOM))
    return x * (1 + x / white**2) / (1 + x)


@cache
def camera_table() -> np.ndarray:
    """65,536 codes of sRGB that hold 2**HEADROOM as 1 -> codes of sRGB after `camera_curve`, uint16."""
    light = srgb_to_linear(np.arange(65536) / 65535) * 2.0**HEADROOM
    return np.rint(encode_srgb(camera_curve(light)) * 65535).clip(0, 65535).astype(np.uint16)
