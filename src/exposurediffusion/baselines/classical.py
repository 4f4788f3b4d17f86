"""Denoisers without training."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def denoise_bm3d(capture: Float[Tensor, "c h w"], deviation: Float[Tensor, "c"] | float) -> Float[Tensor, "c h w"]:
    """BM3D (Dabov et al., 2007) of each plane, by the library `bm3d` (extra `baselines`).

    Args:
        capture: at reference brightness.
        deviation: standard deviation of the noise of each plane, at reference brightness; BM3D takes it as the same
            everywhere in a plane.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """
    from bm3d import bm3d  # an extra

    sigma = np.broadcast_to(np.asarray(deviation, dtype=float), (len(capture),))
    planes = [bm3d(plane.double().numpy(), level) for plane, level in zip(capture, sigma, strict=True)]
    return torch.from_numpy(np.stack(planes)).float()
