"""What an installed darktable tells of a camera's noise; nothing of it is brought along.

`noiseprofiles.json` holds a and b of red, green and blue for each camera and ISO, so that the noise of darktable's
demosaiced, white-balanced picture x (black 0, white 1) has the variance a x + b. Its profiling tool takes that from the
diagonal details of one step of a Haar transform, a quarter of the difference between the two diagonals of a square of
four pixels, and sees but a part of the noise of the sites. How large a part follows from the demosaicing: of white
noise on RGGB sites the greens keep 0.080 (PPG, darktable's own for long), 0.086 (VNG) or 0.074 (AHD); on X-Trans 0.07.
Red and blue are multiplied by a white balance that is not given, greens are not: as in darktable, they stand for all.
"""

from __future__ import annotations

import json
import os
import re
import sys
from math import isfinite
from pathlib import Path

import numpy as np

from exposurediffusion.physics.sensor import Metadata

DETAIL = 0.08  # variance of the details that darktable measures, of the variance of green sites
_NAME = "noiseprofiles.json"
_STEEPEST = 0.1  # of a and b: beyond it there would be fewer than one electron
_LINUX = (
    "/opt/darktable/share",
    "/var/lib/flatpak/app/org.darktable.Darktable/current/active/files/share",
    "/snap/darktable/current/usr/share",
)


def installed_profiles() -> Path | None:
    """Where darktable has put its noise profiles; None: it is not installed in a usual place."""
    return next((path for path in (folder / "darktable" / _NAME for folder in _shares()) if path.is_file()), None)


def _shares() -> list[Path]:
    """Folders of shared data in which programs install theirs, as this system has them."""
    said = os.environ.get
    if sys.platform == "win32":
        roots = (said("ProgramFiles"), said("ProgramW6432"))
        return [Path(root, "darktable", "share") for root in roots if root]
    shares = [said("XDG_DATA_HOME") or "~/.local/share"]
    shares += (said("XDG_DATA_DIRS") or "/usr/local/share:/usr/share").split(":")
    if sys.platform == "darwin":
        bundle = "Applications/darktable.app/Contents/Resources/share"
        shares = [f"/{bundle}", f"~/{bundle}", *shares, "/opt/homebrew/share", "/opt/local/share"]
    else:
        shares += _LINUX
    return [Path(share).expanduser() for share in shares if share]


def darktable_line(file: Path, metadata: Metadata) -> tuple[float, float] | None:
    """What darktable's profiles say of a camera at an ISO: slope and offset of the variance of a green site.

    Between two settings both numbers follow a straight line, as darktable has it; beyond them nothing is said.
    Settings that darktable skips, or that cannot be (no green slope), are left out.

    Args:
        file: darktable's `noiseprofiles.json`.
        metadata: of the frame; its make, model and ISO are looked up.

    Returns:
        S, O as in DNG's NoiseProfile: variance S x + O of normalised x. None: the camera or the ISO is not there.

    Raises:
        ValueError: the file is damaged, or of a version that is not known.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != 0:
            raise ValueError(f"version {content['version']}")
        entries = next((model["profiles"] for maker in content["noiseprofiles"] for model in maker["models"]
                        if _is_same(str(maker["maker"]), str(model["model"]), metadata)), ())  # fmt: skip
        lines: dict[float, tuple[float, float]] = {}
        for entry in entries:
            iso, slope, offset = float(entry["iso"]), float(entry["a"][1]), float(entry["b"][1])
            if not entry.get("skip") and isfinite(iso) and 0 < slope < _STEEPEST and abs(offset) < _STEEPEST:
                lines[iso] = slope, offset
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"{file}: not noise profiles of darktable that can be read ({error!r})") from error
    isos = sorted(lines)
    if not (metadata.iso and isos and isos[0] <= metadata.iso <= isos[-1]):
        return None
    slope, offset = (float(np.interp(metadata.iso, isos, [lines[iso][i] for iso in isos])) / DETAIL for i in (0, 1))
    return slope, offset


def _is_same(maker: str, model: str, metadata: Metadata) -> bool:
    """Whether darktable's short names mean the camera of a file: case, punctuation and repeated makers do not count."""
    brand, camera = _plain(maker), _plain(metadata.model or "")
    known = bool(brand) and brand in _plain(metadata.make or "") + camera
    return known and _plain(model).removeprefix(brand) == camera.removeprefix(brand) != ""


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
