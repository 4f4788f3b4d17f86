"""What is written of a result, and how pictures look."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Literal

import numpy as np

from exposurediffusion.dng.sidecar import sidecars, write_sidecars
from exposurediffusion.dng.storage import Bits, Compression
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.enhancement.frame import Enhanced
from exposurediffusion.files.images import write_map
from exposurediffusion.photographs.photograph import Job
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.rendering.comparison import write_comparison
from exposurediffusion.rendering.render import Rendering, render


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """How results are written.

    Attributes:
        ev: brightness of pictures (PNG, TIFF, JPEG), EV.
        tone: of pictures: camera, a gentle curve with a shoulder; linear; auto: camera for PNG and JPEG.
        bits: of a DNG: 16: integers, dithered; 16f, 32f: floating point, which not every editor opens; auto: integers
            of 14 to 16 bits where their rounding cannot be seen, else 16f.
        compression: of a DNG: lossless, as cameras write it; none.
        sidecar: beside a DNG, NAME.dng.xmp and NAME.dng.pp3 with its brightness, for darktable and RawTherapee, which
            ignore what the DNG says of it.
        quality: of a JPEG, 1 to 100.
        size: of pictures: at most so many pixels along the longer side.
        before_after: write NAME-compare.html too, one page with capture and result under a slider, for any browser.
        overwrite: replace results that exist; they are kept otherwise.
    """

    ev: float = 0.0
    tone: Literal["auto", "camera", "linear"] = "auto"
    bits: Bits = "auto"
    compression: Compression = "lossless"
    sidecar: bool = False
    quality: int = 95
    size: int | None = None
    before_after: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not -10 <= self.ev <= 10:
            raise ValueError(f"ev lies between -10 and 10, got {self.ev:g}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality lies between 1 and 100, got {self.quality}")
        if self.size is not None and self.size < 16:
            raise ValueError(f"size is at least 16 pixels, got {self.size}")

    def files(self, job: Job) -> list[Path]:
        """All files that a job writes."""
        beside = [job.comparison] if self.before_after else []
        beside += sidecars(job.target) if self.sidecar and job.format == "dng" else []
        return [job.target, *job.maps.values(), *beside]

    def needs_headroom(self, job: Job) -> bool:
        """Whether the result should hold what is brighter than white: editors and a shoulder bring it back."""
        return job.format == "dng" or self.tone_of(job) == "camera"

    def tone_of(self, job: Job) -> Literal["camera", "linear"]:
        """The tone of a job's pictures; those beside a DNG look like a JPEG."""
        if self.tone == "auto":
            return "linear" if job.format == "tiff" else "camera"
        return self.tone


def write_result(job: Job, capture: RawFrame, ratio: float, result: Enhanced, options: ResultOptions) -> None:
    """Write the result of a job, its maps and its page.

    Args:
        job: its files.
        capture: as read, in the white balance of the result.
        ratio: amplification.
        result: what came of it.
        options: how it is written.

    Raises:
        ValueError: it holds what is no number; nothing is written.
        OSError: a file cannot be written.
    """
    if not np.isfinite(result.frame.mosaic).all():
        raise ValueError(f"{job.source}: the result is no number in places, and is not written; try --weights default")
    for name, path in job.maps.items():
        write_map(path, getattr(result, name))
    if options.before_after:
        before = _picture(capture, log2(ratio), job, options)
        write_comparison(job.comparison, job.source.name, before, _picture(result.frame, 0, job, options))
    if job.format == "dng":
        write_dng(job.target, result.frame, bits=options.bits, compression=options.compression)
        if options.sidecar:
            write_sidecars(job.target, result.frame.metadata.baseline_exposure, options.bits)
    else:
        _picture(result.frame, 0, job, options).save(job.target, quality=options.quality)


def _picture(frame: RawFrame, brighter: float, job: Job, options: ResultOptions) -> Rendering:
    picture = render(frame, exposure=options.ev + brighter, tone=options.tone_of(job))
    return picture if options.size is None else picture.resized(options.size)
