"""Validation during training: fixed patches of scenes that are not trained on, under the full noise of a camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.evaluation.pictures import side_by_side
from exposurediffusion.models.denoiser import BoundDenoiser, ExposureDenoiser
from exposurediffusion.physics.cameras.known import calibrated_cameras, load_profiles
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.random import Stream, seeded
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.process.sampling import last
from exposurediffusion.simulation.capture import SID_SETTINGS
from exposurediffusion.training.batches import Batch, Patches, collate
from exposurediffusion.training.recipe import Recipe


@dataclass(frozen=True)
class _Case:
    """Captures of one ratio, and what is known of them."""

    ratio: float
    capture: Float[Tensor, "b c h w"]
    clean: Float[Tensor, "b c h w"]
    conditions: Conditions


class Validation:
    """The same captures each time.

    Args:
        patches: of scenes that are not trained on. Pairs bring their own captures; for clean images they are made with
            the full noise (ELD's with the colour bias) of the recipe's camera (the first), or of the Sony A7S II, at
            each of `SID_SETTINGS`: whatever noise a network is trained with, it is validated on the sensor's.
        recipe: of the run.
        count: patches,
        size: and their side in packed pixels.
    """

    def __init__(self, patches: Patches | CleanViews, recipe: Recipe, count: int = 8, size: int = 128) -> None:
        self.recipe = recipe
        if isinstance(patches, CleanViews):
            batch = Batch(
                tuple(range(count)), patches.batch(count, size, seeded(Stream.VALIDATION, device=patches.device)).cpu()
            )
        else:
            batch = collate(tuple(range(count)), [patches.patch(number, size) for number in range(count)])
        self.cases = _given(batch) if batch.capture is not None else _made(batch, recipe)

    @torch.no_grad()
    def __call__(
        self, denoiser: ExposureDenoiser | ConditionalDiffusion
    ) -> tuple[dict[str, float], dict[str, np.ndarray]]:
        """Figures by name, and a picture for each ratio: capture, estimate and reference of the first three patches."""
        figures: dict[str, float] = {}
        pictures: dict[str, np.ndarray] = {}
        device = next(denoiser.parameters()).device
        training = denoiser.training
        denoiser.eval()
        for case in self.cases:
            estimate = self._estimate(denoiser, case, device)
            corrected = illuminance_correction(estimate, case.clean)
            name = f"x{case.ratio:g}"
            pairs = list(zip(corrected, case.clean, strict=True))
            figures[f"psnr_{name}"] = float(np.mean([psnr(a, b) for a, b in pairs]))
            figures[f"ssim_{name}"] = float(np.mean([ssim(a, b) for a, b in pairs]))
            plain = zip(estimate.clamp(0, 1), case.clean, strict=True)
            figures[f"psnr_none_{name}"] = float(np.mean([psnr(a, b) for a, b in plain]))
            pictures[name] = side_by_side(case.capture[:3], estimate[:3], case.clean[:3])
        denoiser.train(training)
        return figures, pictures

    def _estimate(self, denoiser: ExposureDenoiser | ConditionalDiffusion, case: _Case, device: torch.device) -> Tensor:
        """The last step of the recipe's own sampling."""
        conditions = case.conditions.to(device)
        if isinstance(denoiser, ConditionalDiffusion):
            denoise = denoiser.denoiser()
        else:
            denoise = BoundDenoiser(denoiser, conditions)
        generator = torch.Generator(device).manual_seed(Stream.VALIDATION)
        return last(self.recipe.sampling.run(denoise, case.capture.to(device), conditions, generator=generator)).cpu()


def _given(batch: Batch) -> list[_Case]:
    """Pairs, by their ratio."""
    assert batch.capture is not None and batch.ratio is not None  # noqa: PT018 - distinguished by the caller
    assert batch.gain is not None and batch.read_variance is not None  # noqa: PT018
    cases = []
    for ratio in sorted(set(batch.ratio.tolist())):
        pick = batch.ratio == ratio
        conditions = Conditions(batch.ratio[pick], batch.gain[pick], batch.read_variance[pick])
        cases.append(_Case(ratio, batch.capture[pick], batch.clean[pick].clamp(0, 1), conditions))
    return cases


def _made(batch: Batch, recipe: Recipe) -> list[_Case]:
    """Captures of clean images at each of `SID_SETTINGS`."""
    named = recipe.capture.camera
    camera = calibrated_cameras()["SonyA7S2"] if named is None else load_profiles(named)[0]
    bias = bool(camera.colour_bias) and recipe.planes == 4
    cases, count = [], len(batch.numbers)
    for index, (ratio, iso) in enumerate(SID_SETTINGS):
        generator = seeded(Stream.VALIDATION, index)
        gain = torch.full((count,), camera.gain(iso))
        noise = camera.sample(gain, "tukey", bias, generator)
        ratios = torch.full((count,), ratio)
        capture = simulate_capture(batch.clean, ratios, noise, generator)
        cases.append(_Case(ratio, capture, batch.clean.clamp(0, 1), Conditions.of(noise, ratios)))
    return cases
