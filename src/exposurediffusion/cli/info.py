"""`expose info`: what is known of a frame."""

from __future__ import annotations

from math import log2
from typing import Any

from exposurediffusion.analysis.margins import masked_statistics
from exposurediffusion.analysis.sources import chosen
from exposurediffusion.cli.console import Flag, Inputs, MaxMegapixels, Summary, UsageError, as_usage, note
from exposurediffusion.cli.photographs.jobs import find_sources
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import EnhancePlan, plan
from exposurediffusion.photographs.failures import reason
from exposurediffusion.physics.cameras.known import load_profile, user_cameras
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import load


def info(
    inputs: Inputs,
    /,
    camera: str = "auto",
    weights: str = "default",
    recursive: Flag = False,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    json: Flag = False,
) -> int:
    """Say what is known of raw files, where each number comes from, and what `expose enhance` would do.

    Args:
        inputs: raw files, or folders of them.
        camera: noise profile, a name or a JSON file; auto: by the camera's name.
        weights: of `expose enhance`.
        recursive: take the raw files in subfolders too.
        max_megapixels: larger photographs are refused before they are decoded.
        json: print as JSON.
    """
    if not inputs:
        raise UsageError("no input: give raw files or folders")
    summary = Summary(json)
    user_cameras(note)
    with as_usage():
        options, model = EnhanceOptions(camera=camera), load(weights)
        if camera != "auto":
            load_profile(camera)
    for path in find_sources(inputs, recursive, summary):
        try:
            frame = read_raw(path, max_megapixels)
            decided = plan(frame, model, options)
            facts = describe_frame(frame, decided, weights)
        except (ValueError, OSError) as error:
            summary.fail(reason(error), input=str(path))
            continue
        sources = describe_sources(frame, decided)
        width = max(map(len, facts))
        lines = [str(path), *(f"  {name:<{width}}  {_plain(value)}" for name, value in facts.items())]
        lines += ["  what is said of the noise, the most trusted first:", *map(_line, sources)]
        summary.add("\n".join(lines), input=str(path), **facts, noise_sources=sources)
    return summary.finish()


def describe_frame(frame: RawFrame, decided: EnhancePlan, weights: str) -> dict[str, Any]:
    """The facts that `expose info` prints, by name."""
    data, sensor, noise = frame.metadata, frame.sensor, decided.noise
    return {
        "camera": data.camera or None,
        "size": f"{frame.shape[1]} x {frame.shape[0]}",
        "colour filter": sensor.cfa.name if sensor.cfa.is_bayer else f"X-Trans at {sensor.cfa.origin}",
        "black level of the file (DN)": _each(sensor.black_level),
        "black level of the frame (DN)": _each(decided.frame.sensor.black_level),
        "white level (DN)": sensor.white_level,
        "masked pixels": sum(area.values.size for area in frame.optical_black),
        "defects found": decided.found,
        "defects listed": decided.listed,
        "ISO": data.iso,
        "shutter (s)": data.shutter,
        "aperture": data.aperture,
        "focal length (mm)": data.focal_length,
        "orientation": data.orientation,
        "as-shot neutral": None if data.as_shot_neutral is None else [round(v, 4) for v in data.as_shot_neutral],
        "gain (DN per electron)": round(float(noise.gain), 4),
        "read noise (DN)": round(float(noise.read_variance) ** 0.5, 3),
        "noise from": noise.source,
        "dark shading": "taken out" if decided.shaded else "none",
        "ratio": decided.ratio,
        "brighter (EV)": round(log2(decided.ratio), 2),
        "noise when amplified (white = 1)": round(decided.noise_level, 4),
        "steps T": decided.sampling.steps,
        "weights": weights,
        **{f"note {number}": text for number, text in enumerate(decided.frame.notes, 1)},
    }


def describe_sources(frame: RawFrame, decided: EnhancePlan) -> list[dict[str, Any]]:
    """All that is said of the noise of a frame, the most trusted first, and at last what its masked margins show.

    `factor` is by how much the variance exceeds what the frame's flat places show, None where these are too few.
    """
    best = chosen(decided.sources) if decided.sources else None
    said: list[dict[str, Any]] = [
        {
            "source": one.noise.source,
            "gain": round(float(one.noise.gain), 4),
            "read_noise": round(float(one.noise.read_variance) ** 0.5, 3),
            "factor": one.factor and round(one.factor, 3),
            "agrees": one.agrees,
            "used": one is best,
        }
        for one in decided.sources
    ]
    masked = masked_statistics(frame)
    if masked is not None:
        margins = {"source": f"{masked.sites:,} masked sites", "gain": None, "factor": None, "agrees": True}
        read, black = round((masked.variance + masked.row**2) ** 0.5, 3), round(masked.offset, 3)
        said.append({**margins, "read_noise": read, "black_level_error": black, "used": False})
    return said


def _line(said: dict[str, Any]) -> str:
    """A source of noise in one line."""
    gain = "" if said["gain"] is None else f"gain {said['gain']:.4g} DN/e, "
    if "black_level_error" in said:
        says = f"black level off by {said['black_level_error']:+.3g} DN"
    elif said["factor"] is None:
        says = "the frame shows too little to judge"
    else:
        says = f"{said['factor']:.3g} times the frame's variance{'' if said['agrees'] else ', contradicted'}"
    used = "*" if said["used"] else " "
    return f"  {used} {said['source']}: {gain}read noise {said['read_noise']:.4g} DN; {says}{', used' * said['used']}"


def _each(levels: tuple[float, ...]) -> float | list[float]:
    """One number where all are equal."""
    rounded = [round(level, 2) for level in levels]
    return rounded[0] if len(set(rounded)) == 1 else rounded


def _plain(value: Any) -> str:
    if value is None:
        return "not said"
    return f"{value:g}" if isinstance(value, float) else str(value)
