"""A raw file at a time, and a part of its picture as people see it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from exposurediffusion.files.develop import shown_window
from exposurediffusion.physics.sensor import RawFrame

LARGEST = 1600
"""Sites along a side of a window at most."""


@dataclass(frozen=True)
class Source:
    """A raw file as it was at a time: when it changes, what is kept of it no longer holds."""

    path: Path
    stamp: int

    @staticmethod
    def of(path: Path) -> Source:
        """As it is now."""
        return Source(path, path.stat().st_mtime_ns)


@dataclass(frozen=True)
class Window:
    """A part of the picture as people see it: its middle in parts of width and height, and its size in pixels."""

    x: float
    y: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1 and min(self.width, self.height) >= 16):
            raise ValueError(f"no part of a picture: {asdict(self)}")

    def sites(self, frame: RawFrame) -> tuple[int, int, int, int]:
        """Left, top, width and height in sites of the frame, inside what is to be shown."""
        orientation = frame.metadata.orientation
        x, y = on_sensor(self.x, self.y, orientation)
        size = (self.height, self.width) if orientation in (5, 6, 7, 8) else (self.width, self.height)
        left, top, *shown = shown_window(frame.metadata, frame.shape)
        ends = []
        for start, middle, wanted, limit in zip((left, top), (x, y), size, shown, strict=True):
            length = min(wanted, LARGEST, limit)
            ends.append((start + min(max(0, round(middle * limit - length / 2)), limit - length), length))
        return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def on_sensor(x: float, y: float, orientation: int) -> tuple[float, float]:
    """Where a place of the upright picture lies on the sensor; both in parts of width and height."""
    if orientation in (2, 3, 6, 7):
        x = 1 - x
    if orientation in (3, 4, 7, 8):
        y = 1 - y
    return (y, x) if orientation in (5, 6, 7, 8) else (x, y)


def size(capture: RawFrame) -> tuple[int, int]:
    """Width and height of the picture as people see it."""
    width, height = shown_window(capture.metadata, capture.shape)[2:]
    return (height, width) if capture.metadata.orientation in (5, 6, 7, 8) else (width, height)
