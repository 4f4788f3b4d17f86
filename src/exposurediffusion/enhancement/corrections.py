"""What is put right in a frame before it is exposed on: its black level, its defects, the offsets of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from exposurediffusion.analysis.banding import masked_row_offsets
from exposurediffusion.analysis.black import with_black, with_true_black
from exposurediffusion.analysis.defects import defects_of_dark, find_defects, listed_defects
from exposurediffusion.analysis.mending import mend
from exposurediffusion.analysis.sources import (
    NoiseSource,
    chosen_noise,
    disagreement,
    noise_of,
    noise_of_line,
    noise_sources,
)
from exposurediffusion.enhancement.shading import without_dark_shading
from exposurediffusion.files.darktable import darktable_line, installed_profiles
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame


@dataclass(frozen=True)
class Prepared:
    """A frame that is ready to be exposed on.

    Attributes:
        frame: without dark shading, with its true black level, defects mended, row offsets out where masked columns
            show them.
        noise: of the capture; `noise.source` says where it comes from.
        found: defective sites that were found in the frame.
        listed: defective sites that were known before.
        sources: all that is said of the noise, the most trusted first; empty where it was given.
        shaded: a dark shading was taken out.
        mended: which sites they are, (rows, columns) bool; None: nobody looked.
    """

    frame: RawFrame
    noise: NoiseParameters
    found: int = 0
    listed: int = 0
    sources: tuple[NoiseSource, ...] = ()
    shaded: bool = False
    mended: np.ndarray | None = None


def prepare(
    frame: RawFrame,
    *,
    camera: CameraProfile | None = None,
    noise: NoiseParameters | None = None,
    black: Sequence[float] | Literal["auto"] = "auto",
    defects: bool = True,
    dark_shading: DarkShading | Path | str = "auto",
) -> Prepared:
    """Put right what is wrong with a frame for physical reasons, before anything is estimated of the scene.

    Args:
        frame: as read.
        camera: profile to use; None: the calibrated one of the frame's camera, where there is one.
        noise: parameters, if they are known better.
        black: levels of `with_black`; auto: `with_true_black`.
        defects: find and mend hot, warm and dead sites; if not, only those without a number are mended.
        dark_shading: of `without_dark_shading`.

    Raises:
        ValueError: black levels that are none, defects that lie outside the frame, or no dark shading where one is said
            to be.
    """
    raw, frame = frame, without_dark_shading(frame, dark_shading, camera)
    shaded = frame.mosaic is not raw.mosaic
    if camera is not None and camera.defects:
        frame = with_defects(frame, np.array(camera.defects))
    listed = listed_defects(frame) if defects else ~np.isfinite(frame.mosaic)
    frame = mend(frame, listed)  # first: what is no number must not be measured
    frame = with_true_black(frame) if black == "auto" else with_black(frame, black)
    sources: tuple[NoiseSource, ...] = ()
    if noise is None:
        frame, others = _of_darktable(frame)
        sources = noise_sources(frame, camera, others)
        noise, odd = chosen_noise(frame, sources), disagreement(sources)
        frame = replace(frame, notes=(*frame.notes, odd)) if odd else frame
    found = find_defects(replace(frame, defects=None), noise) & ~listed if defects else np.zeros_like(listed)
    frame = mend(frame, found)
    rows = masked_row_offsets(frame)
    if rows is not None:
        frame = without_lines(frame, rows, None)
    return Prepared(frame, noise, int(found.sum()), int(listed.sum()), sources, shaded, found | listed)


def _of_darktable(frame: RawFrame) -> tuple[RawFrame, list[NoiseParameters]]:
    """What an installed darktable says of the frame's noise; the frame notes where its file is damaged."""
    file, data = installed_profiles(), frame.metadata
    try:
        line = file and darktable_line(file, data)
    except ValueError as error:
        return replace(frame, notes=(*frame.notes, f"{error}: passed over")), []
    if not line:
        return frame, []
    source = f"darktable's profile of {data.camera} at ISO {data.iso:g}"
    return frame, [noise_of_line(*line, frame.sensor.saturation, source)]


def with_hot_sites_of(dark: RawFrame, frame: RawFrame) -> RawFrame:
    """The frame with the hot sites of a dark frame of the same camera as listed defects.

    Raises:
        ValueError: the dark frame is not dark, or of another sensor or camera.
    """
    if (dark.shape, dark.sensor.cfa) != (frame.shape, frame.sensor.cfa):
        raise ValueError(
            f"the dark frame ({dark.shape[1]}x{dark.shape[0]} {dark.sensor.cfa.name}) is not of the same sensor as a "
            f"frame of {frame.shape[1]}x{frame.shape[0]} {frame.sensor.cfa.name}"
        )
    if dark.metadata.camera != frame.metadata.camera:
        cameras = [data.camera or "an unknown camera" for data in (dark.metadata, frame.metadata)]
        raise ValueError(f"the dark frame is of {cameras[0]}, the other of {cameras[1]}: take one with the same camera")
    dark = with_true_black(dark)
    return with_defects(frame, defects_of_dark(dark, noise_of(dark)))


def with_defects(frame: RawFrame, sites: np.ndarray) -> RawFrame:
    """The frame with more listed defects, (n, 2) rows and columns.

    Raises:
        ValueError: a site outside the frame.
    """
    if len(sites) and not ((sites >= 0) & (sites < frame.shape)).all():
        raise ValueError(f"its list of defects has sites outside the frame of {frame.shape[1]}x{frame.shape[0]}")
    known = sites if frame.defects is None else np.concatenate([frame.defects, sites])
    return replace(frame, defects=np.unique(known, axis=0))


def without_lines(frame: RawFrame, rows: np.ndarray | None, columns: np.ndarray | None) -> RawFrame:
    """The frame less the offsets of its rows and columns, DN; saturated sites stay, the mosaic becomes float32."""
    mosaic = frame.mosaic.astype(np.float32)
    for offsets in (rows if rows is None else rows[:, None], columns):
        if offsets is not None:
            mosaic -= offsets.astype(np.float32)
    saturated = frame.mosaic >= frame.sensor.white_level
    mosaic[saturated] = frame.mosaic[saturated]
    return replace(frame, mosaic=mosaic)
