"""The defects that need photographs: near white, low frequencies, cast, looks, and the plain held-out figures.

One pass over the captures of `heldout.cases`, each of which serves whatever it is wanted for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
from defects import TONES, Tone, block_error, slope_and_rms, tone_errors
from figures import Figure
from heldout import CAMERAS, SETTINGS, Case, cases
from jaxtyping import Float
from subjects import CAMERA, Pipeline, Shot
from torch import Tensor

from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.rendering.render import render

BRIGHTER = 1.5  # EV of the one rendering of captures, estimates and references
RATIO = 100  # of the near-white and low-frequency figures
ENOUGH_SITES = 1000  # near white, for a scene of its own
TONE_RMS = ("", "< .026", "< .032", "")  # wanted, by brightness class
HELD_OUT = {  # camera and ratio -> of 0.1.0, wanted of `default`; both on nineteen other scenes
    ("SonyA7S2", 100): ("38.93 / .939", "40.3"),
    ("SonyA7S2", 250): ("34.71 / .867", "35.6"),
    ("SonyA7S2", 300): ("33.20 / .829", "34.5"),
    ("NikonD850", 100): ("36.74", "38.4"),
    ("NikonD850", 250): ("33.21", "34.6"),
    ("NikonD850", 300): ("31.67", "33.0"),
}


@dataclass
class Gathered:
    """What has been measured of the captures so far, by scene, camera and ratio where these matter."""

    tones: dict[str, list[Tone]] = field(default_factory=dict)
    blocks: list[float] = field(default_factory=list)
    black: dict[int, list[float]] = field(default_factory=dict)
    error: dict[int, list[float]] = field(default_factory=dict)
    looks: dict[int, list[tuple[float, float]]] = field(default_factory=dict)
    scores: dict[tuple[str, int], list[tuple[float, float, float, str]]] = field(default_factory=dict)


def photograph_figures(pipeline: Pipeline, images: Path, only: Sequence[str], crop: int) -> Iterator[Figure]:
    """The figures of those defects of `only` that need photographs."""
    gathered = Gathered()
    for case in cases(images, crop):
        wanted = {defect for defect in only if _serves(case, defect)}
        if wanted:
            truth = case.long.planes.clamp(0, 1)
            shot = Shot(case.short, truth, case.noise, float(case.ratio))
            _gather(gathered, case, shot, pipeline(shot), wanted)
    yield from _near_white(gathered.tones)
    if gathered.blocks:
        level = mean(value**2 for value in gathered.blocks) ** 0.5
        yield Figure("low-frequency", f"x{RATIO}", "rms of block means, of white", level, ".0076", "< .0024")
    for ratio, black in gathered.black.items():
        slope, rms = slope_and_rms(black, gathered.error[ratio])
        yield Figure("cast", f"x{ratio}", "mean error per black-level error", slope)
        yield Figure("cast", f"x{ratio}", "rms mean error of a plane, of white", rms)
    for ratio, scores in gathered.looks.items():
        yield Figure("looks", f"x{ratio}", "PSNR of the rendering, dB", mean(score for score, _ in scores))
        yield Figure("looks", f"x{ratio}", "SSIM of the rendering", mean(score for _, score in scores))
    yield from _held_out(gathered.scores)


def _serves(case: Case, defect: str) -> bool:
    """Whether a capture is one of those that a defect is measured on."""
    if defect in ("near-white", "low-frequency"):
        return case.camera == CAMERA and case.ratio == RATIO
    return defect == "held-out" or (defect in ("cast", "looks") and case.camera == CAMERA)


def _gather(gathered: Gathered, case: Case, shot: Shot, estimate: Float[Tensor, "c h w"], wanted: set[str]) -> None:
    ratio = case.ratio
    if "near-white" in wanted:
        gathered.tones[case.scene] = tone_errors(estimate, shot.truth)
    if "low-frequency" in wanted:
        gathered.blocks.append(block_error(estimate, shot.truth))
    if "cast" in wanted and case.noise.colour_bias is not None:
        black = case.noise.colour_bias[0] * ratio / case.noise.saturation
        gathered.black.setdefault(ratio, []).extend(black.tolist())
        gathered.error.setdefault(ratio, []).extend((estimate - shot.truth).mean(dim=(1, 2)).tolist())
    if "looks" in wanted:
        pair = [rendered(case, planes) for planes in (estimate, shot.truth)]
        gathered.looks.setdefault(ratio, []).append((psnr(*pair), ssim(*pair)))
    if "held-out" in wanted:
        score = corrected_psnr(estimate, shot.truth)
        gain = score - corrected_psnr(shot.capture, shot.truth)
        structure = ssim(illuminance_correction(estimate[None], shot.truth[None])[0], shot.truth)
        gathered.scores.setdefault((case.camera, ratio), []).append((score, structure, gain, case.scene))


def corrected_psnr(estimate: Float[Tensor, "c h w"], truth: Float[Tensor, "c h w"]) -> float:
    """PSNR in dB, correction `final`."""
    return psnr(illuminance_correction(estimate[None], truth[None])[0], truth)


def rendered(case: Case, planes: Float[Tensor, "c h w"]) -> Float[Tensor, "3 rows columns"]:
    """Planes at reference brightness as sRGB in [0, 1]: the same development whatever they are."""
    picture = render(case.short.with_planes(planes), exposure=BRIGHTER).rgb
    return torch.from_numpy(picture.astype("float32") / 65535).permute(2, 0, 1)


def _near_white(tones: dict[str, list[Tone]]) -> Iterator[Figure]:
    if not tones:
        return
    classes = [reduce(Tone.__add__, of_class) for of_class in zip(*tones.values(), strict=True)]
    bounds = list(pairwise(TONES))
    for (low, high), tone, rms in zip(bounds, classes, TONE_RMS, strict=True):
        setting = f"x{RATIO}, truth {low:g} to {high:g}"
        today = "-.044" if high == TONES[-1] else ""
        yield Figure("near-white", setting, "bias, of white", tone.bias, today, "< .005")
        yield Figure("near-white", setting, "rms, of white", tone.rms, "", rms)
    last, setting = classes[-1], f"x{RATIO}, truth {TONES[-2]:g} to {TONES[-1]:g}"
    if bright := {scene: of_scene[-1].bias for scene, of_scene in tones.items() if of_scene[-1].count >= ENOUGH_SITES}:
        scene = max(bright, key=lambda name: abs(bright[name]))
        yield Figure("near-white", setting, "bias of the worst scene, of white", bright[scene], "", "< .005", scene)
    sites, squared = sum(tone.count for tone in classes), sum(tone.squared for tone in classes)
    yield Figure("near-white", setting, "share of the sites, %", 100 * last.count / sites)
    yield Figure("near-white", setting, "share of the squared error, %", 100 * last.squared / squared)


def _held_out(scores: dict[tuple[str, int], list[tuple[float, float, float, str]]]) -> Iterator[Figure]:
    for camera in CAMERAS:
        for ratio, iso in SETTINGS:
            if not (found := scores.get((camera, ratio))):
                continue
            setting = f"{camera} x{ratio}, ISO {iso}"
            today, wanted = HELD_OUT[camera, ratio]
            yield Figure("held-out", setting, "PSNR, dB", mean(score[0] for score in found), today, wanted)
            yield Figure("held-out", setting, "SSIM", mean(score[1] for score in found))
            _, _, gain, scene = min(found, key=lambda score: score[2])
            yield Figure("held-out", setting, "least gain over the capture, dB", gain, note=scene)
