"""Dark shading from files: a folder of dark raw frames, or what was saved of one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from exposurediffusion.datasets.listing import find_raws
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS, too_large
from exposurediffusion.files.atomic import atomic
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.sensor import LARGEST_LEVEL, RawFrame
from exposurediffusion.raw.read import read_raw

FORMAT = "exposurediffusion-dark/3"
_FINE = 1 / 16  # step of a stored map, in its own robust standard deviations
_BRIGHTEST = 0.1  # mean of a dark frame, of white: beyond it the lens cap was off


def save_dark_shading(path: str | os.PathLike[str], shading: DarkShading) -> None:
    """Write a dark shading as a .safetensors file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {"black_level_error": torch.tensor(shading.black_level_error, dtype=torch.float64)}
    said = {"format": FORMAT, "saturation": repr(float(shading.saturation))}
    for name, values in (("slope", shading.slope), ("offset", shading.offset)):
        codes, steps = _compressed(values.detach().cpu().numpy())
        tensors |= {f"{name}.{plane}": code for plane, code in enumerate(codes)}
        tensors[f"{name}.steps"] = steps
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(save(tensors, metadata=said))


def _compressed(planes: np.ndarray) -> tuple[list[Tensor], Tensor]:
    """Each plane as a lossless picture of 16-bit steps, and (offset, step) of each; hot sites are the widest range."""
    import imagecodecs  # machines that only train may lack it

    codes, steps = [], []
    for plane in planes:
        low, high = float(plane.min()), float(plane.max())
        grain = 1.4826 * float(np.median(np.abs(plane - np.median(plane))))
        step = max(_FINE * grain, (high - low) / 65_000, 1e-12)
        whole = np.rint((plane - low) / step).astype(np.uint16)
        codes.append(torch.frombuffer(bytearray(imagecodecs.png_encode(whole, level=6)), dtype=torch.uint8))
        steps.append((low, step))
    return codes, torch.tensor(steps, dtype=torch.float64)


def _decompressed(tensors: dict[str, Tensor], name: str) -> Tensor:
    """Inverse of `_compressed`, (planes, h, w)."""
    import imagecodecs

    planes = []
    for plane, (low, step) in enumerate(tensors[f"{name}.steps"].tolist()):
        coded = tensors[f"{name}.{plane}"].numpy().tobytes()
        columns, rows = (int.from_bytes(coded[at : at + 4], "big") for at in (16, 20))  # of a PNG's first chunk
        if problem := too_large(rows, columns, MAX_MEGAPIXELS):
            raise ValueError(problem)
        codes = imagecodecs.png_decode(coded)
        planes.append(torch.from_numpy(codes.astype(np.float32)).mul_(step).add_(low))
    return torch.stack(planes)


def load_dark_shading(path: str | os.PathLike[str]) -> DarkShading:
    """The dark shading that a file holds, or that the dark raw frames of a folder have.

    Dark frames are photographs with the lens cap on, of one camera, several at each ISO setting: a hundred of them
    leave a tenth of the read noise in the map. One mean frame for each ISO is held in memory.

    Args:
        path: a .safetensors file of `save_dark_shading`, or a folder of raw files, grouped by their ISO.

    Raises:
        ValueError: neither, no raw files, one of them unreadable, without an ISO or not dark, or of different sizes or
            colour filter arrays.
    """
    path = Path(path)
    if path.is_dir():
        return _from_folder(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file or folder; give a folder of dark raw frames or a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a safetensors file ({error}); give the folder of dark raw frames") from error
    if metadata.get("format") != FORMAT:
        said = f"format {metadata.get('format')!r}, not {FORMAT!r}"
        raise ValueError(f"{path}: not a dark shading ({said}); make it anew from the dark frames")
    try:
        errors = tuple((float(iso), float(error)) for iso, error in tensors["black_level_error"].tolist())
        slope, offset = (_decompressed(tensors, name) for name in ("slope", "offset"))
        if slope.ndim != 3 or slope.shape != offset.shape or not errors:
            raise ValueError("its maps have different shapes")
        numbers = torch.cat([torch.tensor(errors).flatten(), torch.stack([slope.abs().max(), offset.abs().max()])])
        saturation = float(metadata["saturation"])
        if not (1e-6 <= saturation <= LARGEST_LEVEL and bool((numbers.abs() <= LARGEST_LEVEL).all())):
            raise ValueError("it has values that no sensor has")
        return DarkShading(slope, offset, errors, saturation)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: damaged ({error}); make it anew from the dark frames") from error


def _from_folder(folder: Path) -> DarkShading:
    files = find_raws(folder)
    if not files:
        raise ValueError(f"{folder}: no raw files; give the folder that holds the dark frames themselves")
    first: RawFrame | None = None
    sums: dict[float, Tensor] = {}
    counts: dict[float, int] = {}
    for file in files:
        frame = read_raw(file)
        first = first or frame
        iso, planes = _dark_frame(file, frame, first, files[0])
        # In DN of the first frame: what is subtracted later is normalised, and white may differ between ISOs.
        planes.mul_(first.sensor.saturation)
        sums[iso] = sums[iso].add_(planes) if iso in sums else planes
        counts[iso] = counts.get(iso, 0) + 1
    assert first is not None
    means = {iso: total.div_(counts[iso]) for iso, total in sums.items()}
    return DarkShading.from_means(means, first.sensor.saturation)


def _dark_frame(file: Path, frame: RawFrame, first: RawFrame, first_file: Path) -> tuple[float, Tensor]:
    """ISO and normalised planes of a dark frame, if it is one and like the first."""
    iso = frame.metadata.iso
    if iso is None or not iso > 0:
        raise ValueError(f"{file}: says no ISO, by which dark frames are grouped; use the camera's own raw files")
    kinds = [f"{f.sensor.cfa.name} {f.shape[1]}x{f.shape[0]}" for f in (frame, first)]
    if frame.shape != first.shape or frame.sensor.cfa != first.sensor.cfa:
        raise ValueError(f"{file} ({kinds[0]}) and {first_file} ({kinds[1]}) differ: one camera for each folder")
    planes = frame.planes
    if (mean := float(planes.mean())) > _BRIGHTEST:
        raise ValueError(f"{file}: not dark ({100 * mean:.0f} % of white on average): take it with the lens cap on")
    return float(iso), planes
