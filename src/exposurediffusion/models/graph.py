"""A network as an ONNX graph, which other engines and other programs can run."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from exposurediffusion.models.denoiser import Estimate, ExposureDenoiser
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import pad_planes

INPUTS = ("state", "capture", "exposure", "ratio", "gain", "read_variance")
OPSET = 18
Run = Callable[[dict[str, np.ndarray]], np.ndarray]
"""Evaluates a graph: from arrays by the names of the inputs to the estimate."""


class Graph(nn.Module):
    """An `ExposureDenoiser` of tensors alone: what its planes are made of goes in, the image comes out."""

    def __init__(self, model: ExposureDenoiser) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        state: Float[Tensor, "b c h w"],
        capture: Float[Tensor, "b c h w"],
        exposure: Float[Tensor, "b"],
        ratio: Float[Tensor, "b"],
        gain: Float[Tensor, "b"],
        read_variance: Float[Tensor, "b"],
    ) -> Float[Tensor, "b c h w"]:
        """The estimate, at reference brightness as the state and the capture are; 1 is white.

        Args:
            state: of `exposure`; the capture itself at exposure 1.
            capture: amplified by the ratio.
            exposure: how many times the light of the capture the state has, 1 to the ratio.
            ratio: amplification.
            gain: K over the saturation: what one electron is of white.
            read_variance: of the noise without light, over the saturation squared.
        """
        conditions = Conditions(ratio, gain, read_variance, 1.0, capture)
        output = self.model.backbone(self.model.condition(state, exposure, conditions))
        return self.model.estimate(output, state, conditions).image


def example(model: ExposureDenoiser, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs of a graph with sensible values: a dark capture of random light, x100; see `Graph.forward`.

    Args:
        model: has the number of planes.
        size: rows and columns of the planes, multiples of `model.multiple`.
        seed: of the light.
    """
    generator = torch.Generator().manual_seed(seed)
    capture = torch.rand((1, model.config.planes, *size), generator=generator) * 1.2 - 0.1
    exposure, ratio, gain, read_variance = (torch.tensor([value]) for value in (1.0, 100.0, 1e-4, 2e-8))
    return capture, capture.clone(), exposure, ratio, gain, read_variance


def to_onnx(model: ExposureDenoiser, size: tuple[int, int] | None = None) -> bytes:
    """The ONNX file of `Graph` (inputs: those of `INPUTS` that the network looks at; output `estimate`).

    Args:
        model: on the host. Planes have sides that are multiples of `model.multiple`.
        size: rows and columns that every image shall have; None: free, and so is the number of images.

    Raises:
        ValueError: a size does not suit the network, or the extra `export` is not installed.
    """
    if size is not None and any(side % model.multiple or side <= 0 for side in size):
        raise ValueError(f"sides of {size[0]}x{size[1]} packed pixels: give multiples of {model.multiple}")
    free = {name: {0: "images", 2: "rows", 3: "columns"} for name in ("state", "capture", "estimate")}
    free |= {name: {0: "images"} for name in INPUTS[2:]}
    inputs = example(model, size or (2 * model.multiple, 2 * model.multiple))
    return as_onnx(Graph(model), inputs, INPUTS, "estimate", free if size is None else None)


def as_onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    names: Sequence[str],
    output: str,
    free: dict[str, dict[int, str]] | None = None,
) -> bytes:
    """A module of one output as an ONNX file.

    Args:
        module: made of tensor operations.
        inputs: that it is traced with.
        names: of the inputs.
        output: its name.
        free: names of axes that may have any length, by input or output and number of the axis; None: none.

    Raises:
        ValueError: the extra `export` is not installed.
    """
    try:
        import onnx  # noqa: F401 (PyTorch's exporter needs it)
    except ImportError as error:
        raise ValueError("ONNX needs the extra `export`: pip install 'exposurediffusion[export]'") from error
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # Its successor (dynamo) takes fifteen times as long for the same graph.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            inputs,
            stream,  # type: ignore[arg-type] (it writes to streams)
            input_names=list(names),
            output_names=[output],
            opset_version=OPSET,
            dynamic_axes=free,
            dynamo=False,
        )
    return stream.getvalue()


class Compiled(nn.Module):
    """A network that an engine evaluates; it is called like the `ExposureDenoiser` that it is."""

    def __init__(self, model: ExposureDenoiser, run: Run) -> None:
        super().__init__()
        self.config, self.multiple, self.halo, self.run = model.config, model.multiple, model.halo, run

    def forward(
        self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Estimate:
        """As `ExposureDenoiser.forward`; only the image is given."""
        origin = state if conditions.origin is None else conditions.origin
        planes = [pad_planes(each, self.multiple)[0].contiguous() for each in (state, origin)]
        white = conditions.saturation
        scalars = exposure, conditions.ratio, conditions.gain / white, conditions.read_variance / white**2
        values = (*planes, *(each.expand(len(state)) for each in scalars))
        image = self.run({name: value.numpy() for name, value in zip(INPUTS, values, strict=True)})
        return Estimate(torch.from_numpy(image)[..., : state.shape[-2], : state.shape[-1]])
