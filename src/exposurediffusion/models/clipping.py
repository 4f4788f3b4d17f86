"""Clipping to a range that a network can be trained out of again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def clip(image: Tensor, white: float = 1.0) -> Tensor:
    """`image` clipped to [0, white], with the gradient of what would bring a clipped value back.

    Where a value is inside, the gradient is the identity, as it is of `clamp`. Outside, that of `clamp` is 0 whatever
    the loss says, so that a network whose every output has left the range learns nothing any more; here a descent that
    leads back into the range passes, and one that leads farther away does not.
    """
    return _Clip.apply(image, white) if image.requires_grad else image.clamp(0, white)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, image: Tensor, white: float) -> Tensor:
        context.save_for_backward(image)
        context.white = white
        return image.clamp(0, white)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (image,) = context.saved_tensors
        away = ((image < 0) & (gradient > 0)) | (
            (image > context.white) & (gradient < 0)
        )  # a descent goes against the gradient
        return gradient.masked_fill(away, 0), None
