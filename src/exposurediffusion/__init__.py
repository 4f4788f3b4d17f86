"""ExposureDiffusion: turn a dark raw photograph into a clean, bright one (Wang et al., ICCV 2023).

The names below are the public interface; each is imported when first used, so that `import exposurediffusion` pulls in
neither a raw decoder nor anything else that the caller may not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from exposurediffusion.analysis.sources import noise_of
    from exposurediffusion.dng.writer import write_dng
    from exposurediffusion.enhancement.corrections import Prepared, prepare
    from exposurediffusion.enhancement.frame import Enhanced, enhance, enhance_with_maps
    from exposurediffusion.enhancement.options import EnhanceOptions
    from exposurediffusion.enhancement.plan import EnhancePlan, plan
    from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
    from exposurediffusion.physics.cameras.known import calibrated_cameras, load_profile
    from exposurediffusion.physics.cameras.profile import CameraProfile
    from exposurediffusion.physics.mosaic import CFA, pack, unpack
    from exposurediffusion.physics.noise import ELDNoise, PoissonGaussian, simulate_capture
    from exposurediffusion.physics.parameters import NoiseParameters
    from exposurediffusion.physics.sensor import MaskedArea, Metadata, RawFrame, Sensor
    from exposurediffusion.process.exposure import (
        ExposureSchedule,
        ExposureStep,
        expose,
    )
    from exposurediffusion.process.faithful import faithful
    from exposurediffusion.process.sampling import Sampling
    from exposurediffusion.raw.read import RawError, read_raw
    from exposurediffusion.raw.white_balance import white_balance
    from exposurediffusion.rendering.render import Rendering, render
    from exposurediffusion.training.trainer import train
    from exposurediffusion.weights.file import ModelCard, TrainedDenoiser, load, save_weights
    from exposurediffusion.weights.official import from_official

_MODULES = {
    "enhancement.frame": ("Enhanced", "enhance", "enhance_with_maps"),
    "enhancement.options": ("EnhanceOptions",),
    "enhancement.plan": ("EnhancePlan", "plan"),
    "enhancement.corrections": ("Prepared", "prepare"),
    "dng.writer": ("write_dng",),
    "raw.read": ("RawError", "read_raw"),
    "rendering.render": ("Rendering", "render"),
    "raw.white_balance": ("white_balance",),
    "weights.official": ("from_official",),
    "training.trainer": ("train",),
    "weights.file": ("ModelCard", "TrainedDenoiser", "load", "save_weights"),
    "models.denoiser": ("DenoiserConfig", "ExposureDenoiser"),
    "analysis.sources": ("noise_of",),
    "physics.mosaic": ("CFA", "pack", "unpack"),
    "physics.noise": ("ELDNoise", "PoissonGaussian", "simulate_capture"),
    "physics.cameras.known": ("calibrated_cameras", "load_profile"),
    "physics.cameras.profile": ("CameraProfile",),
    "physics.parameters": ("NoiseParameters",),
    "physics.sensor": ("MaskedArea", "Metadata", "RawFrame", "Sensor"),
    "process.exposure": (
        "ExposureSchedule",
        "ExposureStep",
        "expose",
    ),
    "process.faithful": ("faithful",),
    "process.sampling": ("Sampling",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
