"""Simulated captures of clean pictures, in memory, with all that is known of them: what rules are fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.datasets.listing import find_images
from exposurediffusion.models.denoiser import BoundDenoiser, ExposureDenoiser
from exposurediffusion.models.device import is_good_at_bfloat16
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import log_uniform, seed_of
from exposurediffusion.process.sampling import Sampling, SharedBeginning, last
from exposurediffusion.simulation.capture import LEVEL, cut_scene, draw_noise, simulate_long, simulate_short
from exposurediffusion.simulation.light import load_clean, record

CAMERAS = ("SonyA7S2", "NikonD850", "CanonEOS5D4", "CanonEOS70D", "CanonEOS700D")
CPU = torch.device("cpu")
RATIOS, ISOS = (2.0, 300.0), (100.0, 6400.0)


@dataclass(frozen=True)
class SimulatedCapture:
    """One dark capture and its noise-free long exposure.

    Attributes:
        picture, view: which scene it is of.
        camera: name of the profile whose noise it has.
        ratio, iso: amplification and setting.
        capture: X_T at reference brightness, (1 c h w).
        clean: X_ref, (1 c h w) in [0, 1].
        noise: the true parameters.
    """

    picture: str
    view: int
    camera: str
    ratio: float
    iso: float
    capture: Float[Tensor, "1 c h w"]
    clean: Float[Tensor, "1 c h w"]
    noise: NoiseParameters

    @property
    def conditions(self) -> Conditions:
        """What the model is given: the true noise."""
        return Conditions.of(self.noise, self.ratio)

    def denoiser(self, model: ExposureDenoiser) -> SharedBeginning:
        """The model bound to this capture, given the true noise; for as many exposures as are wanted."""
        return SharedBeginning(BoundDenoiser(model, self.conditions))

    def expose(self, denoise: SharedBeginning, sampling: Sampling, seed: int = 0) -> Float[Tensor, "1 c h w"]:
        """The last estimate of an exposure, in [0, 1]; `denoise` is from `denoiser`."""
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_good_at_bfloat16(CPU)):
            generator = torch.Generator().manual_seed(seed)
            capture = self.capture.contiguous(memory_format=torch.channels_last)
            return last(sampling.run(denoise, capture, self.conditions, generator=generator)).float().clamp(0, 1)


def simulated_captures(
    images: Path,
    *,
    views: int = 6,
    shots: int = 4,
    settings: Sequence[tuple[float, float]] = (),
    cameras: Sequence[str] = CAMERAS,
    size: int = 384,
    seed: int = 0,
) -> Iterator[SimulatedCapture]:
    """Captures of views cut from clean pictures, with the full noise and a colour bias; seeded by picture and view.

    Args:
        images: folder of clean pictures.
        views: of each picture.
        shots: captures of each view: camera, ratio (`RATIOS`, log-uniform) and ISO (`ISOS`, log-uniform) are drawn.
        settings: ratios and ISOs to take instead, each with each camera.
        cameras: profiles to take the noise of.
        size: side of a view in sites.
        seed: of everything drawn.

    Raises:
        ValueError: no pictures, or one that is too small.
    """
    paths = find_images(images)
    if not paths:
        raise ValueError(f"{images}: no pictures in this folder")
    profiles = [calibrated_cameras()[name] for name in cameras]
    for path in paths:
        source = load_clean(path)
        for view in range(views):
            generator = torch.Generator().manual_seed(seed_of(seed, path.name, view))
            try:
                rgb = cut_scene(source, size, generator)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            for profile, ratio, iso in _shots(profiles, settings, shots, generator):
                yield _take(path.name, view, rgb, profile, ratio, iso, generator)


def _shots(
    profiles: list[CameraProfile],
    settings: Sequence[tuple[float, float]],
    shots: int,
    generator: torch.Generator,
) -> list[tuple[CameraProfile, float, float]]:
    """Camera, ratio and ISO of each capture of a view."""
    if settings:
        return [(profile, ratio, iso) for profile in profiles for ratio, iso in settings]
    picks = torch.randint(len(profiles), (shots,), generator=generator).tolist()
    ratios, isos = (log_uniform(*bounds, shots, generator).tolist() for bounds in (RATIOS, ISOS))
    return [(profiles[pick], ratio, iso) for pick, ratio, iso in zip(picks, ratios, isos, strict=True)]


def _take(
    picture: str,
    view: int,
    rgb: Tensor,
    profile: CameraProfile,
    ratio: float,
    iso: float,
    generator: torch.Generator,
) -> SimulatedCapture:
    cfa = CFA("RGGB")
    red, blue, place = torch.rand(3, generator=generator).tolist()
    balance = 1.5 + red, 1.3 + blue
    level = LEVEL[0] * (LEVEL[1] / LEVEL[0]) ** place
    neutral = (1 / balance[0], 1.0, 1 / balance[1])
    light = record(rgb, colours_of(profile), balance, cfa, level)
    noise = draw_noise(profile, iso, cfa, generator)
    short, noise = simulate_short(light, cfa, profile, neutral, ratio, iso, generator, noise)
    clean = simulate_long(light, cfa, profile, neutral).planes[None].clamp(0, 1)
    return SimulatedCapture(picture, view, profile.name, ratio, iso, short.planes[None] * ratio, clean, noise)
