"""Settings beside a DNG, for editors that ignore its BaselineExposure: darktable and RawTherapee."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from exposurediffusion.dng.storage import Bits, is_floating
from exposurediffusion.files.atomic import atomic

_EXPOSURE_VERSION = 6  # of darktable's module, since 3.6; later versions read it
_DARKTABLE_OWN = 0.7  # EV by which darktable brightens every raw file
_DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:darktable="http://darktable.sf.net/" darktable:xmp_version="5"
   darktable:auto_presets_applied="0" darktable:history_end="1">
   <darktable:history><rdf:Seq><rdf:li darktable:num="0" darktable:operation="exposure" darktable:enabled="1"
    darktable:modversion="{version}" darktable:params="{parameters}" darktable:multi_priority="0"
    darktable:multi_name=""/></rdf:Seq></darktable:history>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
_RAWTHERAPEE = """[Version]
Version=349

[Exposure]
Auto=false
Compensation={ev:.3f}
"""


def sidecars(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """The files beside a picture that darktable and RawTherapee look for."""
    return Path(f"{os.fspath(path)}.xmp"), Path(f"{os.fspath(path)}.pp3")


def write_sidecars(path: str | os.PathLike[str], ev: float, bits: Bits = "auto") -> None:
    """Write both sidecars of a DNG; replaces those that are there.

    Args:
        path: of the DNG.
        ev: by how much the editors are to brighten it.
        bits: of the DNG, as it was written: where they are floating point, RawTherapee obeys its BaselineExposure.

    Raises:
        OSError: one cannot be written.
    """
    # mode (manual), black, exposure, percentile and level of an automatic mode that is not used, no compensation
    exposure = ev + _DARKTABLE_OWN
    parameters = struct.pack("<iffffi", 0, 0.0, exposure, 50.0, -4.0, 0).hex()
    darktable, rawtherapee = sidecars(path)
    texts = (
        _DARKTABLE.format(version=_EXPOSURE_VERSION, parameters=parameters),
        _RAWTHERAPEE.format(ev=0 if is_floating(ev, bits) else ev),
    )
    for file, text in zip((darktable, rawtherapee), texts, strict=True):
        with atomic(file) as stream:
            stream.write(text.encode())
