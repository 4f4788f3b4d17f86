"""`expose simulate`: a data set in SID's or ELD's layout, as real raw files, from clean pictures.

First everything random but the noise itself is planned, scene by scene, and written to the manifest; then the files
are made. A file depends on its own plan only: neither on the other scenes nor on the number of workers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal

import tyro

from exposurediffusion.cli.console import MaxMegapixels, Summary, UsageError, as_usage, note, progress
from exposurediffusion.datasets.listing import find_images
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.atomic import alone_in
from exposurediffusion.files.made import MadeOtherwise
from exposurediffusion.physics.cameras.known import load_profile, user_cameras
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.simulation.capture import SID_SETTINGS
from exposurediffusion.simulation.scenes import (
    ELD_ISOS,
    ELD_RATIOS,
    MANIFEST,
    SPLITS,
    Scene,
    Setup,
    Split,
    plan_scenes,
    read_manifest,
)
from exposurediffusion.simulation.write import _check_space, _rendered, _write_manifest


def simulate(
    images: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    camera: str = "SonyA7S2",
    layout: Literal["sid", "eld"] = "sid",
    scenes: int | Literal["auto"] = "auto",
    split: Split = "auto",
    size: int = 384,
    cfa: Literal["rggb", "bggr", "grbg", "gbrg", "xtrans"] = "rggb",
    ratios: tuple[float, ...] = (),
    isos: tuple[int, ...] = (),
    shorts: int = 1,
    long_noise: tyro.conf.FlagCreatePairsOff[bool] = False,
    dark_shading: float = 0.0,
    darks: int = 0,
    seed: int = 0,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    workers: int = 1,
    overwrite: tyro.conf.FlagCreatePairsOff[bool] = False,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Simulate a data set in the layout of SID or ELD, as real raw files, from clean pictures.

    A seed gives the same files whatever the number of workers, and more scenes leave the earlier ones as they were. Run
    again, it goes on where it was stopped. dataset.json says how each file was made, and its true noise.

    EXIF has true ISO and exposure times: ISO x time of the long exposure (ISO 100, 10 s) is `ratio` times that of the
    short one. SID's ratio comes from the times in the names alone, so there a name has the time at ISO 100.

    Args:
        images: folder of clean pictures (.hdr panoramas, photographs), searched with its subfolders.
        output: folder of the data set; several cameras or splits may share it.
        camera: whose noise and colours, a name or a JSON file.
        layout: sid: Sony/short and Sony/long (Fuji/ for X-Trans); eld: CAMERA/scene-N/IMG_NNNN.
        scenes: how many; auto: one of each picture. Beyond that other views of the same pictures.
        split: of SID, the scenes' first digit; auto: by picture, of eight one to test and one to validation.
        size: side of a frame, pixels. A panorama is cut at its own density, where 384 of 1024 see 103 degrees.
        cfa: colour filter array; no calibrated camera has xtrans: noise of the camera, levels of SID's Fuji.
        ratios: of sid, one for each ISO, 1 to 300 (default 100 250 300); of eld four (default 1 10 100 200).
        isos: of sid, one for each ratio (default 800 1600 3200); of eld three, each with all ratios.
        shorts: short exposures of each ratio, with noise of their own (sid only).
        long_noise: give the long exposures noise, that of ISO 100.
        dark_shading: fixed pattern of the sensor, standard deviation in DN at ISO 1600; with it an ISO has one colour
            bias for all files.
        darks: dark frames at each ISO, in dark/ of the camera's folder.
        seed: of everything.
        max_megapixels: larger pictures are refused before they are decoded.
        workers: processes.
        overwrite: replace files that were made with other options.
        json: print the summary as JSON.
    """
    settings = _settings(layout, ratios, isos, shorts, split)
    if (scenes != "auto" and scenes < 1) or shorts < 1 or workers < 1:
        raise UsageError("--scenes, --shorts and --workers are at least 1")
    if darks < 0 or not 0 <= dark_shading <= 500:
        raise UsageError("--darks is at least 0, and --dark-shading lies between 0 and 500 DN")
    array = CFA(cfa.upper())
    if size < 48 or size % array.period:
        raise UsageError(
            f"--size is a multiple of {array.period} for this colour filter array, 48 at least, not {size}"
        )
    if not images.is_dir():
        raise UsageError(f"{images}: no such folder")
    if not (pictures := find_images(images, note)):
        raise UsageError(f"{images}: no pictures (.hdr, .tif, .png, .jpg, .webp)")
    user_cameras(note)
    with as_usage():
        profile = load_profile(camera)
        for _, iso in settings:
            profile.gain(iso)
    setup = Setup(
        images,
        output,
        profile,
        array,
        layout,
        size,
        split,
        settings,
        shorts,
        long_noise,
        dark_shading,
        darks,
        seed,
        max_megapixels,
    )
    names = [path.relative_to(images).as_posix() for path in pictures]
    planned = plan_scenes(setup, names, len(names) if scenes == "auto" else scenes)
    summary = Summary(json)
    _make(setup, planned, workers, overwrite, summary)
    return summary.finish()


def _settings(
    layout: str, ratios: tuple[float, ...], isos: tuple[int, ...], shorts: int, split: Split
) -> tuple[tuple[float, int], ...]:
    """Ratio and ISO of each short exposure of a scene, in the order of their numbers."""
    if layout == "eld":
        ratios, isos = ratios or ELD_RATIOS, isos or ELD_ISOS
        if (len(ratios), len(isos)) != (len(ELD_RATIOS), len(ELD_ISOS)):
            raise UsageError("a scene of ELD has four --ratios at each of three --isos")
        if shorts != 1 or split != "auto":
            raise UsageError("--shorts and --split are SID's: a scene of ELD is sixteen files, without splits")
        pairs = tuple((ratio, iso) for iso in isos for ratio in ratios)
    else:
        ratios = ratios or tuple(ratio for ratio, _ in SID_SETTINGS)
        isos = isos or tuple(iso for _, iso in SID_SETTINGS)
        if len(ratios) != len(isos):
            raise UsageError(f"{len(ratios)} --ratios and {len(isos)} --isos: in SID's layout give one ISO for each")
        pairs = tuple(zip(ratios, isos, strict=True))
    highest = 300 if layout == "sid" else 1000
    if not all(1 <= ratio <= highest for ratio, _ in pairs):
        raise UsageError(f"--ratios lie between 1 and {highest} in this layout")
    return pairs


def _make(setup: Setup, planned: list[Scene], workers: int, overwrite: bool, summary: Summary) -> None:
    """Write the manifest, the files that are not there, and the manifest again without what could not be made."""
    started = perf_counter()
    try:
        known = {} if overwrite or not (setup.output / MANIFEST).exists() else read_manifest(setup.output)
    except ValueError as error:
        raise UsageError(f"{error}: use --overwrite, or another folder") from error
    listed = {scene.name: setup.facts(scene) for scene in planned}
    jobs = _missing(setup, planned, listed, known, overwrite)
    _check_space(setup, sum(len(scene.shots) for scenes in jobs.values() for scene in scenes))
    for name, facts in listed.items():
        facts["files"] = known.get(name, {}).get("files", {}) | facts["files"]
    failed: dict[str, str] = {}
    with alone_in(setup.output), progress("simulating", sum(map(len, jobs.values()))) as tick:
        _write_manifest(setup.output, known | listed)
        for outcome in _rendered(setup, jobs, workers):
            failed |= {name: error for name, error in outcome.items() if error}
            tick(len(outcome))
        for name in failed:
            files = {path: facts for path, facts in listed[name]["files"].items() if (setup.output / path).exists()}
            listed[name] = {**listed[name], "files": files}
        _write_manifest(setup.output, {name: facts for name, facts in (known | listed).items() if facts["files"]})
    for error, count in Counter(failed.values()).items():
        summary.fail(error, scenes=count)
    made = sum(len(scene.shots) for scenes in jobs.values() for scene in scenes if scene.name not in failed)
    done = [scene for scene in planned if scene.name not in failed]
    _report(setup, done, made, perf_counter() - started, summary)


def _report(setup: Setup, done: list[Scene], made: int, seconds: float, summary: Summary) -> None:
    scenes = [scene for scene in done if scene.picture is not None]
    kept = sum(len(scene.shots) for scene in done) - made
    digits = Counter(scene.name.rpartition("/")[2][0] for scene in scenes)
    splits = {name: digits[str(digit)] for name, digit in SPLITS.items()} if setup.layout == "sid" else {}
    parts = f" ({', '.join(f'{count} {name}' for name, count in splits.items())})" if splits else ""
    line = f"{setup.output}  {len(scenes)} scenes{parts}; {made} files made, {kept} kept, {seconds:.1f} s"
    facts = {"scenes": len(scenes), "splits": splits, "made": made, "kept": kept, "seconds": round(seconds, 2)}
    summary.add(line, output=str(setup.output), **facts)
    empty = [name for name, count in splits.items() if not count]
    if setup.split == "auto" and empty and scenes:
        note(f"no scene is left for {' and '.join(empty)}: use more pictures, or run again with --split")


def _missing(
    setup: Setup, planned: list[Scene], listed: dict[str, Any], known: dict[str, Any], overwrite: bool
) -> dict[str | None, list[Scene]]:
    """By picture, the scenes with files that are not there yet, or not whole.

    Raises:
        UsageError: a file is there that was made otherwise.
    """
    jobs: dict[str | None, list[Scene]] = {}
    for scene in planned:
        new, old = listed[scene.name], known.get(scene.name, {"files": {}})
        alike = {**old, "files": None} == {**new, "files": None}
        shots = []
        for shot in scene.shots:
            path = setup.output / shot.path
            if path.exists() and not overwrite:
                if not (alike and old["files"].get(shot.path) == new["files"][shot.path]):
                    raise MadeOtherwise(f"{path} was made otherwise: use --overwrite to replace it, or another folder")
                if path.stat().st_size > 2 * setup.size**2:
                    continue
            shots.append(shot)
        if shots:
            jobs.setdefault(scene.picture, []).append(replace(scene, shots=tuple(shots)))
    return jobs
