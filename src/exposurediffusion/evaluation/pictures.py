"""Pictures of captures, estimates and references, of their errors and masks, for people to look at."""

from __future__ import annotations

import io
from math import log2

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from exposurediffusion.files.develop import camera_rgb, develop, encode_srgb
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata

BRIGHT, QUANTILE = 0.9, 0.99  # a picture is brightened until this quantile of its reference is so bright
ERROR_WHITE = 0.1
"""Mean absolute error of the planes that an error map shows as white."""


def colours(planes: Float[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
    """The mean of each colour in each cell of Bayer (4) or X-Trans (9) planes."""
    return camera_rgb(planes, CFA("RGGB" if len(planes) == 4 else "XTRANS"))


def side_by_side(*columns: Float[Tensor, "n c h w"]) -> np.ndarray:
    """Rows of scenes, columns as given, (h, w, 3) uint8; each scene is balanced and brightened by its last column."""
    rows = []
    for images in zip(*columns, strict=True):
        shown = [colours(image) for image in images]
        reference = shown[-1]
        balance = reference[1].mean() / reference.mean(dim=(1, 2)).clamp(min=1e-6)
        balance = (balance / balance.min())[:, None, None]
        white = [(balance * colour).clamp(max=1) for colour in shown]  # clipped highlights are white, not magenta
        bright = BRIGHT / max(_bright_end(white[-1]), 1e-6)
        row = bright * torch.cat(white, dim=2)
        rows.append(encode_srgb(row.permute(1, 2, 0).numpy()))
    return np.rint(255 * np.concatenate(rows)).astype(np.uint8)


def brightness(reference: Float[Tensor, "c h w"]) -> float:
    """EV by which pictures of a scene are brightened, found from its reference."""
    return log2(BRIGHT / max(_bright_end(colours(reference)), 1e-3))


def _bright_end(image: Tensor) -> float:
    return float(np.quantile(image.numpy(), QUANTILE))  # torch.quantile takes 16 million values at most


def developed(planes: Float[Tensor, "c h w"], metadata: Metadata | None, exposure: float) -> np.ndarray:
    """White balance and colours of a file, brightened by `exposure` EV, (h, w, 3) uint8 sRGB."""
    rgb = colours(planes.clamp(0, 1)).permute(1, 2, 0).numpy()
    return np.rint(255 * encode_srgb(develop(rgb, metadata or Metadata(), exposure))).astype(np.uint8)


def error_map(estimate: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]) -> np.ndarray:
    """Mean absolute error of the planes, black 0 to white `ERROR_WHITE`, (h, w) uint8."""
    error = (estimate - target).abs().mean(dim=0)
    return np.rint(255 * (error / ERROR_WHITE).clamp(0, 1).numpy()).astype(np.uint8)


def mask_map(mask: Float[Tensor, "1 h w"]) -> np.ndarray:
    """The mask M of the adaptive residual layer, black 0 to white 1, (h, w) uint8."""
    return np.rint(255 * mask[0].clamp(0, 1).numpy()).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """(h, w, 3) or (h, w) uint8 as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()
