"""Pages on which a person can see the defects: captures, estimates and the truth side by side, at 100 %."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from heldout import SETTINGS, cases
from PIL import Image, ImageDraw
from subjects import CAMERA, Pipeline, Shot, flat_field, patches

from exposurediffusion.rendering.render import render

BRIGHTER = 1.5  # EV
SIDE = 384  # of a crop, pixels
SCENES = 3
MAGNIFIED = 96  # packed pixels of a flat field that are shown four times as large
CONTRAST = 0.2  # of the level, from grey to white
_LABEL = 16  # pixels above each picture


def scene_page(pipelines: Mapping[str, Pipeline], images: Path, ratio: int, crop: int) -> Image.Image:
    """The centres of the first scenes: the capture, each estimate, the truth."""
    lines = []
    chosen = (case for case in cases(images, crop) if case.camera == CAMERA and case.ratio == ratio)
    for case in islice(chosen, SCENES):
        shot = Shot(case.short, case.long.planes.clamp(0, 1), case.noise, float(ratio))
        pictures = {name: _centre(picture) for name, picture in _developed(shot, pipelines).items()}
        lines.append({f"{case.scene} x{ratio}: {name}": picture for name, picture in pictures.items()})
    return _montage(lines)


def patch_page(pipelines: Mapping[str, Pipeline], ratio: int, light: str) -> Image.Image:
    """The nine colours, patches of 200 sites, at half the size."""
    shot = patches(200, ratio, light)
    pictures = _developed(shot, pipelines, quick=True)
    return _montage([{f"x{ratio}, {light}: {name}": picture for name, picture in pictures.items()}])


def flat_page(pipelines: Mapping[str, Pipeline]) -> Image.Image:
    """A flat field at each setting: developed, and its green plane four times as large with its contrast raised."""
    lines = []
    for ratio, iso in SETTINGS:
        shot = flat_field(ratio, iso, seed=0)
        line = {f"x{ratio}: {name}": _centre(picture) for name, picture in _developed(shot, pipelines).items()}
        for name, pipeline in pipelines.items():
            green = pipeline(shot)[1, :MAGNIFIED, :MAGNIFIED].numpy()
            grey = 0.5 + (green / green.mean() - 1) / (2 * CONTRAST)
            line[f"x{ratio}: {name}, green +-{CONTRAST:.0%}, 4x"] = _bytes(np.kron(grey, np.ones((4, 4))))
        lines.append(line)
    return _montage(lines)


def _developed(shot: Shot, pipelines: Mapping[str, Pipeline], quick: bool = False) -> dict[str, np.ndarray]:
    """The same development of the capture, every estimate and the truth, 8 bits."""
    planes = {"capture": shot.capture, **{name: pipeline(shot) for name, pipeline in pipelines.items()}}
    planes["truth"] = shot.truth
    return {
        name: render(shot.frame.with_planes(image), exposure=BRIGHTER, quick=quick).rgb8
        for name, image in planes.items()
    }


def _centre(picture: np.ndarray) -> np.ndarray:
    top, left = (max(0, (size - SIDE) // 2) for size in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


def _bytes(grey: np.ndarray) -> np.ndarray:
    return np.repeat((255 * grey.clip(0, 1)).astype(np.uint8)[..., None], 3, axis=-1)


def _montage(lines: Sequence[Mapping[str, np.ndarray]]) -> Image.Image:
    """Labelled pictures in lines."""
    height = max(picture.shape[0] for line in lines for picture in line.values()) + _LABEL
    width = max(picture.shape[1] for line in lines for picture in line.values()) + 4
    page = Image.new("RGB", (width * max(map(len, lines)), height * len(lines)), "black")
    pen = ImageDraw.Draw(page)
    for row, line in enumerate(lines):
        for column, (label, picture) in enumerate(line.items()):
            pen.text((column * width + 2, row * height + 2), label, fill="white")
            page.paste(Image.fromarray(picture), (column * width, row * height + _LABEL))
    return page
