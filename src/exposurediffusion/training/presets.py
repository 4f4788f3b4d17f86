"""One named preset per row of the paper's Tables 2-7, with the number that it should reach; and the embedded weights.

Names are `noise-backbone-mode`, e.g. `eld-nafnet1-exposure`: trained under ELD noise, NAFNet-1, with the method;
`-feedforward` is the same network without it. Ablations add what they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from exposurediffusion.baselines.diffusion import DIFFUSION_SIZES
from exposurediffusion.evaluation.paper import TABLE2, TABLE4, TABLE5A, TABLE6, TABLE7A, PaperFigure
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from exposurediffusion.weights.official import PUBLISHED

Figures = Mapping[int, PaperFigure]
"""Amplification ratio on SID Sony -> PSNR (dB), SSIM."""


@dataclass(frozen=True)
class Preset:
    """A recipe, where it comes from, and what it should reach.

    Attributes:
        recipe: what is trained.
        about: one line for people.
        tables: rows of the paper, e.g. "Table 5a".
        expected: the paper's figures on SID Sony (its protocol: centre crop, oracle correction), where it has any.
    """

    recipe: Recipe
    about: str
    tables: tuple[str, ...] = ()
    expected: Figures = field(default_factory=dict)


BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"width": 32, "depth": 4}),
    "nafnet1": ("nafnet", {"width": 16, "middle": 1}),
    "nafnet2": ("nafnet", {"width": 16, "encoders": [2, 2, 4, 4], "middle": 12, "decoders": [2, 2, 2, 2]}),
}
CAPTURES = {
    "p+g": CaptureRecipe(noise="p+g"),
    "eld": CaptureRecipe(noise="eld"),
    "paired": CaptureRecipe(supervision="paired"),
    "pmn": CaptureRecipe(supervision="paired", augment=2.0),
}
NOISE_NAMES = {
    "p+g": "Poisson-Gaussian noise",
    "eld": "ELD noise (P+G*+r+u)",
    "paired": "real pairs",
    "pmn": "PMN (real pairs, dark shading corrected, shot noise augmented)",
}

# (noise, backbone) -> where the paper has the row; its figures are those of the first table.
_ROWS: dict[tuple[str, str], tuple[str, ...]] = {
    ("p+g", "unet"): ("Table 2", "Table 3", "Table 4", "Table 5a", "Table 7a"),
    ("p+g", "nafnet1"): ("Table 5a",),
    ("p+g", "nafnet2"): ("Table 5a",),
    ("eld", "unet"): ("Table 4", "Table 5a"),
    ("eld", "nafnet1"): ("Table 5a", "Figure 6"),
    ("eld", "nafnet2"): ("Table 5a",),
    ("paired", "unet"): ("Table 4",),
    ("paired", "nafnet1"): (),
    ("paired", "nafnet2"): (),
    ("pmn", "unet"): ("Table 4",),
    ("pmn", "nafnet1"): (),
    ("pmn", "nafnet2"): (),
}
_IN_TABLES = {  # our name -> the paper's
    "p+g": "P+G",
    "eld": "ELD",
    "paired": "Paired data",
    "pmn": "PMN",
    "nafnet1": "NAFNet-1",
    "nafnet2": "NAFNet-2",
    "unet": "UNet",
}


def _figures(noise: str, backbone: str, exposure: bool) -> Figures:
    """What the first table of a row says on SID Sony."""
    method = "w/ Ours" if exposure else "Baseline"
    match _ROWS[noise, backbone]:
        case ["Table 2", *_]:
            return TABLE2.by_ratio("Ours" if exposure else "P+G")
        case ["Table 4", *_]:
            return TABLE4.by_ratio(_IN_TABLES[noise], method)
        case ["Table 5a", *_]:
            return TABLE5A.by_ratio(_IN_TABLES[noise], _IN_TABLES[backbone], method)
        case _:
            return {}


def _denoiser(backbone: str, exposure: bool) -> DenoiserConfig:
    kind, options = BACKBONES[backbone]
    return DenoiserConfig(kind, dict(options), photons=exposure, adaptive_residual=exposure)


def _row(noise: str, backbone: str, mode: Literal["feedforward", "exposure"]) -> Preset:
    exposure = mode == "exposure"
    capture, objective, sampling = CAPTURES[noise], ObjectiveRecipe(), PUBLISHED
    if not exposure:  # the released baselines
        capture, objective = replace(capture, ratio=(100.0, 300.0)), ObjectiveRecipe(steps=0, branch=0.0)
        sampling = replace(PUBLISHED, steps=0)
    recipe = Recipe(capture=capture, objective=objective, denoiser=_denoiser(backbone, exposure), sampling=sampling)
    how = "with the method" if exposure else "feed-forward"
    about = f"{backbone} under {NOISE_NAMES[noise]}, {how}"
    return Preset(recipe, about, _ROWS[noise, backbone], _figures(noise, backbone, exposure))


def _rows() -> dict[str, Preset]:
    modes: tuple[Literal["feedforward", "exposure"], ...] = ("feedforward", "exposure")
    return {f"{noise}-{backbone}-{mode}": _row(noise, backbone, mode) for noise, backbone in _ROWS for mode in modes}


def _varied(
    base: Preset, what: str, tables: tuple[str, ...] = (), expected: Figures | None = None, **changes: Any
) -> Preset:
    return Preset(replace(base.recipe, **changes), f"{base.about}; {what}", tables, expected or {})


def _ablations(base: Preset) -> dict[str, Preset]:
    """Of a row with the method, each by what its name adds."""
    recipe = base.recipe
    sampling, objective = recipe.sampling, recipe.objective
    found = {
        "no-residual": _varied(
            base,
            "without the adaptive residual layer",
            ("Figure 5",),
            denoiser=replace(recipe.denoiser, adaptive_residual=False),
        ),
        "no-photons": _varied(base, "without photon planes", denoiser=replace(recipe.denoiser, photons=False)),
        "kl": _varied(base, "with the KL loss of Eq. 11", objective=replace(objective, pixel="kl")),
        "markov": _varied(
            base, "with the transition of Eq. 10", sampling=replace(sampling, transition="markov", schedule="paper")
        ),
        "mean": _varied(base, "with mean increments", sampling=replace(sampling, increment="mean")),
        "paper-schedule": _varied(base, "evaluated up to the reference", sampling=replace(sampling, schedule="paper")),
        "unclamped": _varied(
            base,
            "captures and states not clipped at 0",
            sampling=replace(sampling, clamp=None),
            capture=replace(recipe.capture, clip=False),
        ),
        "corrected": _varied(
            base, "with the correction in the loop, as published", objective=replace(objective, corrected=True)
        ),
        "weighted": _varied(base, "with learned step weights", objective=replace(objective, learned_weights=True)),
    }
    for steps in (1, 2, 3, 4, 5):
        found[f"t{steps}"] = _varied(
            base,
            f"T = {steps}",
            objective=replace(objective, steps=steps),
            sampling=replace(sampling, steps=steps),
        )
    return found


def _others(rows: Mapping[str, Preset]) -> dict[str, Preset]:
    """Noise2Noise (Tables 2, 3), the training at x100 alone (Table 6) and the diffusion models (Table 7)."""
    plain = rows["eld-unet-feedforward"].recipe
    n2n = replace(plain, capture=replace(plain.capture, supervision="noise2noise", clip=False))
    found = {
        "noise2noise-unet-feedforward": Preset(
            n2n,
            "unet trained on two noisy captures of each scene",
            ("Table 2", "Table 3"),
            TABLE2.by_ratio("N2N"),
        )
    }
    for mode, method in (("feedforward", "Baseline"), ("exposure", "Ours")):
        base = rows[f"pmn-nafnet2-{mode}"]
        capture = replace(base.recipe.capture, ratio=(100.0, 100.0))
        found[f"pmn-nafnet2-{mode}-x100"] = _varied(
            base, "trained at x100 only", ("Table 6",), TABLE6.by_ratio(method), capture=capture
        )
    for size, model in (("large", "Diffusion-based-1"), ("small", "Diffusion-based-2")):
        base = rows["p+g-unet-feedforward"]
        recipe = replace(  # 10,000 epochs of 161 scenes, batches of 64
            base.recipe, diffusion=DIFFUSION_SIZES[size], iterations=25_156, batch=64, patch=128
        )
        about = f"conditional diffusion, {size}, under {NOISE_NAMES['p+g']}"
        found[f"p+g-diffusion-{size}"] = Preset(recipe, about, ("Table 7a",), TABLE7A.by_ratio(model))
    return found


EMBEDDED = Preset(
    Recipe(
        iterations=20_000,
        batch=4,
        patch=96,
        capture=CaptureRecipe(
            noise="eld+bias", gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", clip=False, uncertainty=0.1
        ),
        objective=ObjectiveRecipe(steps=1, branch=0.5, balance=0.02, curve=0.25, averages=0.25),
        optimizer=OptimizerRecipe(lr=2e-4, law="cosine", final=1e-6, warmup=200, clip_norm=1.0, ema=0.999),
        prelude=Prelude(0.6, 2e-4),
        denoiser=DenoiserConfig(
            "unet", {"width": 16, "depth": 4, "upsampling": "bilinear"}, origin=True, noise_map=True
        ),
        sampling=Sampling(steps=1, schedule="paper", transition="markov", increment="mean", clamp=(-4.0, 2.0)),
        seed=1,
    ),
    "the weights inside the package, their last stage: any camera, ratios from 1.5 to 300",
)


DEFAULT = Preset(
    Recipe(
        iterations=100_000,
        batch=64,
        patch=128,
        capture=CaptureRecipe(
            noise="wide", gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", clip=False, uncertainty=0.15
        ),
        objective=ObjectiveRecipe(steps=1, branch=0.5, balance=0.02, curve=0.25, averages=0.25),
        optimizer=OptimizerRecipe(lr=1e-3, law="cosine", final=1e-6, warmup=200, clip_norm=1.0, ema=0.999),
        prelude=Prelude(0.6, 1e-3),
        denoiser=DenoiserConfig("resunet", {"widths": [16, 32, 64, 128, 256]}, domain="stabilised", white=4.0),
        sampling=Sampling(steps=1, schedule="paper", transition="markov", increment="mean", clamp=(-4.0, 4.0)),
        seed=1,
    ),
    "any camera, calibrated or not, ratios from 1.5 to 300; as fast as `embedded`",
)
FINE = Preset(
    replace(
        DEFAULT.recipe,
        batch=32,
        denoiser=replace(DEFAULT.recipe.denoiser, options={"widths": [32, 64, 128, 256, 384]}),
    ),
    "`default` with three times its network",
)


def _all() -> dict[str, Preset]:
    rows = _rows()
    presets = {"embedded": EMBEDDED, "default": DEFAULT, "fine": FINE, **rows, **_others(rows)}
    for base in ("eld-nafnet1-exposure", "p+g-nafnet1-exposure"):
        presets |= {f"{base}-{what}": preset for what, preset in _ablations(rows[base]).items()}
    for noise, backbone in _ROWS:  # the paper's baseline has no photon planes; this one is given the light, too
        base = rows[f"{noise}-{backbone}-feedforward"]
        denoiser = replace(base.recipe.denoiser, photons=True)
        presets[f"{noise}-{backbone}-feedforward-photons"] = _varied(base, "with photon planes", denoiser=denoiser)
    return presets


PRESETS: dict[str, Preset] = _all()


def find_preset(name: str) -> Preset:
    """A preset by its name.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    if name in PRESETS:
        return PRESETS[name]
    near = get_close_matches(name.lower(), PRESETS, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else "`expose train --list` shows them all"
    raise ValueError(f"no preset {name!r}: {hint}")
