"""The mean of several sampled exposures, and by how much they differ: what the simulation leaves open."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor


def mean_and_spread(images: Iterable[Float[Tensor, "*s"]]) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Mean and standard deviation (of n - 1) of each pixel; one image after the other, none is kept (Welford, 1962).

    Raises:
        ValueError: fewer than two images.
    """
    mean = squares = torch.zeros(())
    count = 0
    for count, image in enumerate(images, 1):
        if count == 1:
            mean, squares = image.clone(), torch.zeros_like(image)
            continue
        change = image - mean
        mean += change / count
        squares += change.mul_(image - mean)
    if count < 2:
        raise ValueError(f"a spread is that of two exposures at least, got {count}")
    return mean, squares.div_(count - 1).sqrt_()
