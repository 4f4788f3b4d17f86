"""To look before one waits: a frame at a fraction of its size, and a part of it as the whole would be enhanced."""

from __future__ import annotations

from dataclasses import replace

from torch.nn.functional import avg_pool2d

from exposurediffusion.enhancement.plan import EnhancePlan
from exposurediffusion.physics.mosaic import pack, packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame, Sensor

GRID = 64
"""Packed pixels: parts begin on multiples of this, so that what works in cells sees the cells of the whole."""
CONTEXT = 128
"""Packed pixels around a part that are enhanced with it, for what looks further than a network."""


def smaller(frame: RawFrame, most: int) -> RawFrame:
    """The frame with neighbouring packed pixels averaged until at most so many are left: less noise, less work.

    It begins with a tile, lists no defects, and says neither camera nor ISO: its noise is that of no camera.
    """
    sensor, cfa = frame.sensor, frame.sensor.cfa
    height, width = packed_shape(frame.shape, cfa)
    factor = max(1, round((height * width / most) ** 0.5 + 0.499))
    multiple = cfa.period // cfa.stride
    planes = avg_pool2d(pack(sensor.normalise(frame.mosaic), cfa)[None], factor)[0]
    height, width = (n // multiple * multiple for n in planes.shape[-2:])
    tile = Sensor(cfa.tile, sensor.shifted(*(-n % cfa.period for n in cfa.origin)).black_level, sensor.white_level)
    values = unpack(planes[:, :height, :width], tile.cfa)
    data = frame.metadata
    crop = data.crop and tuple(round(n / factor) for n in data.crop)
    metadata = replace(data, crop=crop, make=None, model=None, iso=None, noise_profile=None)
    return replace(
        frame, mosaic=tile.digitise(values), sensor=tile, metadata=metadata, optical_black=(), defects=None, tags=None
    )


def part(decided: EnhancePlan, window: tuple[int, int, int, int]) -> tuple[EnhancePlan, tuple[int, int]]:
    """The plan of a part of the frame, with its surroundings.

    What was decided for the frame holds for the part. Measured on the part alone: the offsets of rows and columns that
    no masked columns show, the black level error that `process.faithful` leaves out, and how much headroom there is.

    Args:
        decided: plan of the whole frame.
        window: left, top, width and height, sites of the frame.

    Returns:
        The plan, and row and column of its first site in the frame.
    """
    frame, cfa = decided.frame, decided.frame.sensor.cfa
    ends, starts = [], []
    for start, size, limit, origin in zip(
        (window[1], window[0]), (window[3], window[2]), frame.shape, cfa.origin, strict=True
    ):
        first = max(0, (start + origin) // cfa.stride - CONTEXT) // GRID * GRID
        starts.append(max(0, first * cfa.stride - origin))
        ends.append(min(limit, start + size + CONTEXT * cfa.stride))
    (top, left), (bottom, right) = starts, ends
    metadata = replace(frame.metadata, crop=None, user_crop=None)
    cut = RawFrame(frame.mosaic[top:bottom, left:right], frame.sensor.shifted(top, left), metadata)
    return replace(decided, frame=cut), (top, left)
