"""A frame without the dark shading of its sensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.physics.cameras.known import find_camera
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame


def without_dark_shading(
    frame: RawFrame, shading: DarkShading | Path | str = "auto", camera: CameraProfile | None = None
) -> RawFrame:
    """The frame less what its sensor shows in the dark at the frame's ISO.

    Masked margins lose the black level error that the map tells of the whole frame, so that the black level is not
    put right twice; saturated sites stay. A map that cannot serve is left out, and `notes` say why.

    Args:
        frame: any raw frame.
        shading: auto: that of the camera's profile, where it has one; off: none; or a map, the file of one, or a folder
            of dark raw frames.
        camera: profile; None: the one of the frame's camera.

    Raises:
        ValueError: the file or folder that was asked for holds no dark shading.
    """
    if shading == "off":
        return frame
    if shading == "auto":
        camera = camera or find_camera(frame.metadata.camera)
        if camera is None or not camera.dark_shading:
            return frame
        try:
            shading = load_dark_shading(camera.dark_shading)
        except ValueError as error:
            return _noted(frame, f"of the profile {camera.name} cannot be read ({error})")
    elif not isinstance(shading, DarkShading):
        shading = load_dark_shading(shading)
    own, size = (frame.sensor.cfa.planes, *packed_shape(frame.shape, frame.sensor.cfa)), tuple(shading.slope.shape)
    if own != size:
        sizes = ("{} planes of {}x{}".format(*shape) for shape in (size, own))
        return _noted(frame, "is a map of {}, the frame has {}: take darks at its picture size".format(*sizes))
    if not frame.metadata.iso:
        return _noted(frame, "is known by the ISO, which the file does not say: give it (--iso)")
    return _subtracted(frame, shading, frame.metadata.iso)


def _noted(frame: RawFrame, why: str) -> RawFrame:
    return replace(frame, notes=(*frame.notes, f"dark shading left in: it {why}"))


def _subtracted(frame: RawFrame, shading: DarkShading, iso: float) -> RawFrame:
    sensor, unit = frame.sensor, frame.sensor.saturation / shading.saturation
    dark = unpack(shading.map(iso).mul_(unit), sensor.cfa, frame.shape).numpy()
    np.subtract(frame.mosaic, dark, out=dark)
    saturated = frame.mosaic >= sensor.white_level
    dark[saturated] = frame.mosaic[saturated]
    error = np.float32(shading.black_level_at(iso) * unit)
    margins = tuple(replace(area, values=area.values - error) for area in frame.optical_black)
    return replace(frame, mosaic=dark, optical_black=margins)
