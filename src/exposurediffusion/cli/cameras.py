"""`expose cameras`: the camera profiles at hand, and whether a file is one."""

from __future__ import annotations

import json as jsonlib
from importlib import resources
from pathlib import Path

from exposurediffusion.cli.console import Flag, Summary, note, print_table
from exposurediffusion.photographs.failures import reason
from exposurediffusion.physics.cameras.known import calibrated_cameras, read_profile, user_cameras, user_folder
from exposurediffusion.physics.cameras.profile import CameraProfile


def cameras(validate: tuple[Path, ...] = (), json: Flag = False) -> int:
    """List the camera profiles at hand: those of the package, and one's own.

    Args:
        validate: check these files instead, and say by field what is wrong with them.
        json: print as JSON.
    """
    summary = Summary(json)
    for path in validate:
        try:
            profile = read_profile(path)
        except ValueError as error:
            summary.fail(reason(error), file=str(path))
        else:
            line = f"{path}  the profile {profile.name} is in order; ISO {_isos(profile)}"
            summary.add(line, file=str(path), name=profile.name, iso_range=list(profile.iso_range))
    if not validate:
        _list(summary)
    return summary.finish()


def _list(summary: Summary) -> None:
    folder = Path(str(resources.files("exposurediffusion.physics.cameras"))) / "calibrated"
    shipped = {folder / f"{name}.json": profile for name, profile in calibrated_cameras().items()}
    rows = []
    for path, profile in (user_cameras(note) | shipped).items():
        where = "the package" if path in shipped else str(path)
        summary.add(None, **jsonlib.loads(profile.to_json()), file=str(path), own=path not in shipped)
        low, high = profile.iso_range
        read = float(profile.at_iso(1600).read_variance) ** 0.5
        gains = f"{profile.gain(low):.3g}", f"{profile.gain(high):.3g}"
        rows.append([profile.name, profile.exif_model, _isos(profile), _span(*gains), f"{read:.2f}", where])
    if not summary.as_json:
        print_table(["name", "camera", "ISO", "gain there (DN/e)", "read noise at ISO 1600 (DN)", "in"], rows)
        print("Give one by --camera NAME, or a JSON file of the same form.")
        print("Those in this folder are found by model:")
        print(user_folder())


def _isos(profile: CameraProfile) -> str:
    return _span(*(f"{iso:g}" for iso in profile.iso_range))


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} to {last}"
