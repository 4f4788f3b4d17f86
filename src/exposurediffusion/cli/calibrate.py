"""`expose calibrate`: the noise profile of one's own camera, with a report."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from exposurediffusion.calibration.calibrate import Calibration, readings
from exposurediffusion.calibration.calibrate import calibrate as measure
from exposurediffusion.calibration.report import HEADER, report, rows
from exposurediffusion.calibration.shots import Shot, find_shots
from exposurediffusion.calibration.verdict import verdict
from exposurediffusion.cli.console import Flag, Output, Summary, UsageError, note, print_table, progress
from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.files.atomic import atomic, make_folder
from exposurediffusion.physics.camera import CameraProfile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Sensor


def calibrate(
    output: Output,
    darks: Path | None = None,
    flats: Path | None = None,
    name: str = "",
    listing: Annotated[Path | None, tyro.conf.arg(name="list", metavar="CSV")] = None,
    cfa: str = "",
    black: float = 0.0,
    white: float = 0.0,
    model: str = "",
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Measure the noise of a camera, and write its profile with a report.

    Dark frames are photographs with the lens cap on, flat frames of one evenly lit area, in pairs of the same exposure;
    both at every ISO that is to be used, in the camera's own raw format. docs/calibration.md says how to shoot them.

    Example: expose calibrate --darks darks/ --flats flats/ -o camera.json

    Args:
        output: the profile, a .json file; the report (.html) and the dark shading (-dark.safetensors) go beside it.
        darks: folder of dark frames, 16 or more at each ISO.
        flats: folder of flat frames, 8 pairs or more at each ISO.
        name: of the profile; by default the camera's.
        listing: a CSV with the columns file,iso,shutter, of files that do not say them.
        cfa: colour filter array of TIFF mosaics, such as RGGB; raw files say theirs.
        black, white: levels of TIFF mosaics, DN.
        model: make and model of a camera whose files do not say them.
        overwrite: replace what is there.
        json: print the figures as JSON.
    """
    _check(output, overwrite)
    if darks is None or flats is None:
        raise UsageError("give --darks and --flats, folders of dark frames and of pairs of flat frames")
    summary = Summary(json)
    sensor = _sensor(cfa, black, white)

    def find(folder: Path) -> tuple[Shot, ...]:
        return tuple(find_shots(folder, lambda text: summary.fail(text), sensor, listing))

    shots = find(darks), find(flats)
    with progress("Reading", readings(*shots)) as tick:
        calibration = measure(*shots, problem=note, tick=lambda: tick())
    if model:
        calibration = replace(calibration, shot=replace(calibration.shot, camera=model))
    profile = calibration.profile(name, f"expose calibrate {version('exposurediffusion')}")
    _write(output, calibration, profile, summary)
    return summary.finish()


def _check(output: Path, overwrite: bool) -> None:
    if output.suffix != ".json":
        raise UsageError(f"{output}: a camera profile ends in .json")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already: use --overwrite to replace it")


def _sensor(cfa: str, black: float, white: float) -> Sensor | None:
    if not cfa:
        return None
    try:
        return Sensor.uniform(CFA(cfa.upper()), black, white)
    except ValueError as error:
        raise UsageError(f"--cfa, --black and --white: {error}") from error


def _write(output: Path, calibration: Calibration, profile: CameraProfile, summary: Summary) -> None:
    """Dark shading, report and profile, which names the first; and what was found, on stdout."""
    make_folder(output.parent)
    written = {"profile": output}
    if (shading := calibration.shading) is not None:
        written["dark_shading"] = output.with_name(f"{output.stem}-dark.safetensors")
        save_dark_shading(written["dark_shading"], shading)
        profile = replace(profile, dark_shading=written["dark_shading"].name)
    findings = verdict(calibration)
    page = output.with_suffix(".html")
    try:
        content = report(calibration, profile, findings)
    except ValueError as error:  # without matplotlib there are the figures alone
        note(f"no report: {error}")
    else:
        written["report"] = page
        _save(page, content)
    _save(output, profile.to_json() + "\n")
    if not summary.as_json:
        print_table(HEADER, rows(calibration, intervals=False), f"{profile.exif_model}: what was measured")
        for finding in findings:
            print(f"{finding.kind}: {finding.text}")
    files = {kind: str(path) for kind, path in written.items()}
    line = f"{output}  {profile.name}; " + ", ".join(str(path) for path in written.values() if path != output)
    told = [{"kind": finding.kind, "text": finding.text} for finding in findings]
    table = [dict(zip(HEADER, row, strict=True)) for row in rows(calibration)]
    summary.add(line.rstrip("; "), **files, isos=table, findings=told)


def _save(path: Path, text: str) -> None:
    with atomic(path) as stream:
        stream.write(text.encode())
