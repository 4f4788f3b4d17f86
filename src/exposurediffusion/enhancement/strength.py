"""Between the clean image and the capture: a blend, by brightness and colour apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from exposurediffusion.files.develop import neutral
from exposurediffusion.physics.mosaic import pack, unpack
from exposurediffusion.physics.sensor import RawFrame


def blend(
    estimate: Float[Tensor, "1 c h w"], frame: RawFrame, ratio: float, luma: float, chroma: float
) -> Float[Tensor, "1 c h w"]:
    """Give back a part of the noise: of brightness 1 - luma, of colour 1 - chroma.

    Brightness is what all colours share, at white balance: the noise under a 3x3 binomial kernel, which weighs each
    colour of a Bayer array as its share of sites. Grain that is left in brightness alone is neutral.

    Args:
        estimate: clean, at reference brightness.
        frame: the capture.
        ratio: amplification.
        luma, chroma: strengths from 0, the capture, to 1, the estimate.

    Returns:
        The blend, negative values and all.
    """
    if luma == chroma == 1:
        return estimate
    capture = frame.planes[None].mul_(ratio)
    if luma == chroma:
        return torch.lerp(capture, estimate, luma)
    cfa = frame.sensor.cfa
    noise = capture.sub_(estimate)
    balance = torch.tensor(neutral(frame.metadata)).float()
    balance = balance[["RGB".index(colour) for colour in cfa.colours]].reshape(1, -1, 1, 1)
    noise /= balance
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel / 16)[None, None]
    mosaic = pad(unpack(noise[0], cfa)[None, None], (1, 1, 1, 1), "reflect")
    shared = pack(conv2d(mosaic, kernel)[0, 0], cfa)[None]
    noise -= shared
    return estimate + balance * ((1 - luma) * shared + (1 - chroma) * noise)
