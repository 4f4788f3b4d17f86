"""Which cameras are known: the calibrated five inside the package, and the profiles of one's own.

The five carry the figures of ELD (Wei et al., CVPR 2020 / TPAMI 2021; MIT).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path

from platformdirs import user_data_path

from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.plain import MOST_BYTES

_MAKES_OF_SIMULATED = ("simulated", "simulatedxtrans")


@cache
def calibrated_cameras() -> dict[str, CameraProfile]:
    """The profiles inside the package, by name: what training draws from, and what measurements use."""
    files = sorted(
        resources.files("exposurediffusion.physics.cameras").joinpath("calibrated").iterdir(), key=lambda f: f.name
    )
    profiles = [CameraProfile.from_fields(json.loads(f.read_text())) for f in files if f.name.endswith(".json")]
    return {profile.name: profile for profile in profiles}


def colours_of(camera: CameraProfile) -> tuple[float, ...]:
    """The colour matrix of a camera's simulated captures: its own, or the Sony A7S II's where it is unknown."""
    return camera.colour_matrix or calibrated_cameras()["SonyA7S2"].colour_matrix


def user_folder() -> Path:
    """Where profiles of one's own are looked for, as the platform has it; it need not exist."""
    return user_data_path("exposurediffusion", appauthor=False) / "cameras"


def user_cameras(complain: Callable[[str], object] = lambda problem: None) -> dict[Path, CameraProfile]:
    """The profiles in the user's folder, by file, in the order of their names.

    Args:
        complain: is given a line for each file that is no profile; it is passed over.
    """
    found = {}
    for path in sorted(user_folder().glob("*.json")):
        try:
            found[path] = read_profile(path)
        except ValueError as error:
            complain(f"passed over: {error}")
    return found


def read_profile(path: Path) -> CameraProfile:
    """The profile in a file, read again only when that has changed; its `dark_shading` is the whole path.

    Raises:
        ValueError: it is none, or cannot be read; the message names the file and the fields that are wrong.
    """
    try:
        profile = _read(path, path.stat().st_mtime_ns)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', error)}") from error
    beside = profile.dark_shading and str(path.resolve().parent / profile.dark_shading)
    return replace(profile, dark_shading=beside)


@lru_cache
def _read(path: Path, changed: int) -> CameraProfile:
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{size} bytes are no camera profile")
    return CameraProfile.from_json(path.read_text("utf-8"))


def find_camera(model: str, cameras: Iterable[CameraProfile] | None = None) -> CameraProfile | None:
    """The first profile whose camera a file's make and model name, or None. Ignores case and punctuation.

    The model may stand alone; with a make before it, it has to be the profile's. Simulated cameras have no make.

    Args:
        model: as files give it, or the name of a profile.
        cameras: to choose from; None: the calibrated ones inside the package.
    """
    words = model.split()
    for profile in calibrated_cameras().values() if cameras is None else cameras:
        if _plain(model) and _plain(model) in (_plain(profile.name), _plain(profile.exif_model)):
            return profile
        make, _, own = map(_plain, profile.exif_model.partition(" "))
        for start in range(len(words) if own else 0):
            before = _plain("".join(words[:start]))
            if _plain("".join(words[start:])) == own and (make in before or before in ("", *_MAKES_OF_SIMULATED)):
                return profile
    return None


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def find_own_camera(model: str) -> CameraProfile | None:
    """As `find_camera`, with the profiles of the user's folder before those of the package."""
    return find_camera(model, user_cameras().values()) or find_camera(model)


def load_profile(name_or_file: str) -> CameraProfile:
    """A profile by name ("SonyA7S2") or by the camera's model, the user's own first, or from a JSON file.

    Raises:
        ValueError: neither; the message lists what is known, or says what is wrong with the file.
    """
    if (profile := find_own_camera(name_or_file)) is not None:
        return profile
    path = Path(name_or_file)
    if path.is_file():
        return read_profile(path)
    known = ", ".join(dict.fromkeys([*(own.name for own in user_cameras().values()), *calibrated_cameras()]))
    raise ValueError(f"no camera profile {name_or_file!r}: give a JSON file or one of {known}")


def load_profiles(names_or_files: str) -> tuple[CameraProfile, ...]:
    """Several profiles, with commas between them; each as `load_profile` has it.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(load_profile(name.strip()) for name in names_or_files.split(","))
