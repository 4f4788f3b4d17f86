"""`expose calibrate`: the noise profile of one's own camera, with a report."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import tyro

from exposurediffusion.calibration.calibration import Calibration, plain_name, readings
from exposurediffusion.calibration.calibration import calibrate as measure
from exposurediffusion.calibration.photographs import figures_of_photographs
from exposurediffusion.calibration.report import HEADER, report, rows
from exposurediffusion.calibration.shots import Shot, find_shots
from exposurediffusion.calibration.verdict import verdict
from exposurediffusion.cli.console import (
    Flag,
    MaxMegapixels,
    Output,
    Summary,
    UsageError,
    as_usage,
    note,
    print_table,
    progress,
)
from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.atomic import atomic, make_folder
from exposurediffusion.physics.cameras.figures import profile_of_figures
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import SATURATION, Sensor


def calibrate(
    output: Output,
    darks: Path | None = None,
    flats: Path | None = None,
    frames: Path | None = None,
    gain: tuple[float, ...] = (),
    read: tuple[float, ...] = (),
    iso: tuple[float, ...] = (),
    name: str = "",
    model: str = "",
    listing: Annotated[Path | None, tyro.conf.arg(name="list", metavar="CSV")] = None,
    cfa: str = "",
    black: float = 0.0,
    white: float = 0.0,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Measure the noise of a camera, and write its profile with a report.

    Dark frames are photographs with the lens cap on, flat frames of one evenly lit area, in pairs of the same exposure;
    both at every ISO that is to be used, in the camera's own raw format. docs/calibration.md says how to shoot them.
    Less is possible: flats alone, ordinary photographs (--frames), or figures that somebody published; what they do not
    tell is filled by the calibrated cameras, and the profile says so.

    Example: expose calibrate --darks darks/ --flats flats/ -o camera.json

    Args:
        output: the profile, a .json file; the report (.html) and the dark shading (-dark.safetensors) go beside it.
        darks: folder of dark frames, 16 or more at each ISO.
        flats: folder of flat frames, 8 pairs or more at each ISO.
        frames: folder of ordinary photographs of the camera, instead.
        gain, read: published figures instead, DN per electron and DN, one for each --iso.
        iso: settings of the figures; or one for all files that say none.
        name: of the profile; by default the camera's.
        model: make and model, of a camera whose files do not say them.
        listing: a CSV with the columns file,iso,shutter, of files that do not say them.
        cfa: colour filter array of TIFF mosaics, such as RGGB; raw files say theirs.
        black, white: levels of TIFF mosaics, or of the files that figures are of, DN.
        max_megapixels: larger frames are refused before they are decoded.
        overwrite: replace what is there.
        json: print the figures as JSON.
    """
    if output.suffix != ".json":
        raise UsageError(f"{output}: a camera profile ends in .json")
    summary, source = Summary(json), f"expose calibrate {version('exposurediffusion')}"
    if output.exists() and not overwrite:
        summary.keep(output)
        return summary.finish()
    if gain or read:
        return _of_figures(output, (iso, gain, read), name, model, white - black, summary)
    if frames is None and flats is None:
        raise UsageError("give --darks and --flats, or --frames, or --gain and --read with --iso")
    if len(iso) > 1:
        raise UsageError("several --iso go with --gain and --read; of files give one, or a list (--list)")
    sensor = _sensor(cfa, black, white)

    def find(folder: Path | None) -> list[Shot]:
        if folder is None:
            return []
        found = find_shots(folder, lambda text: summary.fail(text), sensor, listing, iso[0] if iso else None)
        return [replace(shot, max_megapixels=max_megapixels) for shot in found]

    if frames is not None:
        return _of_photographs(output, find(frames), name, model, source, summary)
    shots = find(darks), find(flats)
    with progress("Reading", readings(*shots)) as tick:
        calibration = measure(*shots, problem=note, tick=lambda: tick())
    if model:
        calibration = replace(calibration, shot=replace(calibration.shot, camera=model))
    _write(output, calibration, calibration.profile(name, source), summary)
    return summary.finish()


def _of_figures(
    output: Path,
    columns: tuple[tuple[float, ...], ...],
    name: str,
    model: str,
    saturation: float,
    summary: Summary,
) -> int:
    """A profile of published figures."""
    if len({len(column) for column in columns}) > 1:
        raise UsageError("--iso, --gain and --read have as many numbers as there are settings, in the same order")
    with as_usage():
        figures = [(one, own, noise) for one, own, noise in zip(*columns, strict=True)]
        profile = profile_of_figures(name or output.stem, figures, saturation or SATURATION, model)
    return _write_filled(output, profile, summary)


def _of_photographs(output: Path, shots: list[Shot], name: str, model: str, source: str, summary: Summary) -> int:
    """A profile of what ordinary photographs show together."""
    with progress("Reading", len(shots)) as tick:
        figures, frame = figures_of_photographs(shots, lambda text: summary.fail(text), lambda: tick())
    camera = model or frame.metadata.camera
    profile = profile_of_figures(name or plain_name(camera), figures, frame.sensor.saturation, camera)
    of = f"{source}, {len(shots)} photographs: {profile.source}"
    return _write_filled(output, replace(profile, source=of), summary)


def _write_filled(output: Path, profile: CameraProfile, summary: Summary) -> int:
    make_folder(output.parent)
    _save(output, profile.to_json() + "\n")
    rows = [[f"{s.iso:g}", f"{s.gain:.4g}", f"{s.gaussian_read:.4g}"] for s in profile.settings]
    header = ("ISO", "gain (DN/e)", "read noise (DN)")
    if not summary.as_json:
        print_table(header, rows)
        print(profile.source)
    summary.add(
        f"{output}  {profile.name}", profile=str(output), isos=[dict(zip(header, r, strict=True)) for r in rows]
    )
    return summary.finish()


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
    lines = [{"kind": finding.kind, "text": finding.text} for finding in findings]
    table = [dict(zip(HEADER, row, strict=True)) for row in rows(calibration)]
    summary.add(line.rstrip("; "), **files, isos=table, findings=lines)


def _save(path: Path, text: str) -> None:
    with atomic(path) as stream:
        stream.write(text.encode())
