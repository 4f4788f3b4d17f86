"""LibRaw's view of a raw file and the file's own tags, brought together: levels, colour, and the facts of the shot."""

from __future__ import annotations

import math

from exposurediffusion.decoding.raw import LibRawFile
from exposurediffusion.files import exif
from exposurediffusion.files.colour_matrices import AS_SHOT_NEUTRAL, D65, dng_matrix, neutral_of_white
from exposurediffusion.files.exif import FileTags
from exposurediffusion.physics.sensor import Metadata

BLACK_REPEAT, BLACK_LEVEL, WHITE_LEVEL, ACTIVE_AREA = 50713, 50714, 50717, 50829
CROP_ORIGIN, CROP_SIZE, BASELINE_EXPOSURE, NOISE_PROFILE = 50719, 50720, 50730, 51041
DEFAULT_SCALE, DEFAULT_USER_CROP = 50718, 51125
_STEEPEST, _FLATTEST, _DEEPEST = 1.0, 1e-13, 1.0  # of a NoiseProfile: one electron at white, 10^13; all of white
_LARGEST = 1e9  # of a fact of the shot, in its unit, and its reciprocal is the smallest
_COLOUR = 1e3  # of a colour matrix's numbers and a white's ratios
_ORIENTATION = {0: 1, 1: 2, 2: 4, 3: 3, 4: 5, 5: 8, 6: 6, 7: 7}  # LibRaw's flip -> EXIF


def white_level(raw: LibRawFile, tags: FileTags) -> float:
    """DN at which the sensor saturates: a DNG's WhiteLevel; else the camera's own note of it, else LibRaw's."""
    if tags.is_dng and _number(tags.raw.get(exif.SAMPLE_FORMAT)) == exif.FLOAT:
        return _positive(_number(tags.raw.get(WHITE_LEVEL))) or 1.0  # the specification's default for floats
    camera = raw.camera_white_level_per_channel
    if not tags.is_dng and camera and raw.white_level / 2 < min(camera) <= raw.white_level:
        return float(min(camera))
    return float(raw.white_level)


def metadata_of(path: str, raw: LibRawFile, tags: FileTags) -> Metadata:
    """What the file says about its frame; see `Metadata`."""
    matrix, illuminant = _colour_matrix(raw, tags)
    baseline = _number(tags.first(BASELINE_EXPOSURE))
    lens = tags.exif[exif.LENS_MODEL].text if exif.LENS_MODEL in tags.exif else raw.lens.strip()
    return Metadata(
        make=_text(tags, exif.MAKE),
        model=_text(tags, exif.MODEL),
        iso=_iso(tags, raw.iso),
        shutter=_shot(tags, exif.EXPOSURE_TIME, raw.shutter),
        aperture=_shot(tags, exif.F_NUMBER, raw.aperture),
        focal_length=_shot(tags, exif.FOCAL_LENGTH, raw.focal_length),
        lens=lens or None,
        orientation=_orientation(raw, tags),
        as_shot_neutral=_neutral(raw, tags),
        colour_matrix=matrix,
        illuminant=illuminant,
        baseline_exposure=baseline if baseline is not None and abs(baseline) < 20 else 0.0,
        noise_profile=_noise_profile(tags),
        crop=_crop(raw, tags),
        user_crop=_user_crop(tags),
        pixel_aspect=_aspect(raw.pixel_aspect),
        source=path,
    )


def _noise_profile(tags: FileTags) -> tuple[float, ...] | None:
    """The NoiseProfile, as far as it is the noise of a sensor; a slope of 0 says nothing, and is often written."""
    profile = tags.first(NOISE_PROFILE)
    if profile is None or profile.count % 2:
        return None
    slopes, offsets = profile.numbers[0::2], profile.numbers[1::2]
    sound = all(slope == 0 or _FLATTEST <= slope <= _STEEPEST for slope in slopes)
    return profile.numbers if sound and all(abs(offset) <= _DEEPEST for offset in offsets) else None


def odd_numbers(tags: FileTags) -> tuple[str, ...]:
    """What a reader should know of numbers in a file that cannot be, and are left out; a sentence each."""
    profile = tags.first(NOISE_PROFILE)
    if profile is None or _noise_profile(tags) is not None:
        return ()
    said = ", ".join(f"{number:g}" for number in profile.numbers[:4])
    return (f"its NoiseProfile ({said}) is no sensor's, and is left out",)


def _colour_matrix(raw: LibRawFile, tags: FileTags) -> tuple[tuple[float, ...] | None, int]:
    if tags.is_dng and (found := dng_matrix(tags)):
        return tuple(float(v) for v in found[0].ravel()), found[1]
    matrix = raw.rgb_xyz_matrix[:3]
    sound = matrix.any() and abs(matrix).max() <= _COLOUR  # not of NaN
    return (tuple(float(v) for v in matrix.ravel()) if sound else None), D65


def _orientation(raw: LibRawFile, tags: FileTags) -> int:
    """LibRaw's, which minds the makers' quirks but takes an impossible value of the tag for a quarter turn."""
    said = _number(tags.main.get(exif.ORIENTATION) or tags.raw.get(exif.ORIENTATION))
    return 1 if said is not None and not 1 <= said <= 8 else _ORIENTATION.get(raw.sizes.flip, 1)


def _neutral(raw: LibRawFile, tags: FileTags) -> tuple[float, float, float] | None:
    if tags.is_dng and AS_SHOT_NEUTRAL not in tags.main and (found := neutral_of_white(tags)):
        return found
    red, green, blue = raw.camera_whitebalance[:3]
    if not all(math.isfinite(m) and m > 0 for m in (red, green, blue)):
        return None
    ratios = green / red, 1.0, green / blue
    return ratios if max(ratios) <= _COLOUR and min(ratios) >= 1 / _COLOUR else None


def _crop(raw: LibRawFile, tags: FileTags) -> tuple[int, int, int, int] | None:
    """Left, top, width, height of the part to show inside the visible area; None if that is all of it, or nonsense."""
    sizes = raw.sizes
    if tags.is_dng and CROP_ORIGIN in tags.raw and CROP_SIZE in tags.raw:
        numbers = (*tags.raw[CROP_ORIGIN].numbers[:2], *tags.raw[CROP_SIZE].numbers[:2])
        down, right = active_shift(raw, tags)
        box = [round(n) if math.isfinite(n) else -9 for n in numbers]
        for start, shift in ((0, right), (1, down)):  # what LibRaw left out at the start is not there to be shown
            box[start + 2] -= max(0, shift - box[start])
            box[start] = max(0, box[start] - shift) if box[start] >= 0 else -1
    else:
        left, top = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
        box = [left, top, sizes.crop_width, sizes.crop_height]
    left, top, width, height = box
    inside = left >= 0 and top >= 0 and left + width <= sizes.width and top + height <= sizes.height
    whole = (width, height) == (sizes.width, sizes.height)
    return (left, top, width, height) if inside and not whole and min(width, height) >= 12 else None


def _user_crop(tags: FileTags) -> tuple[float, float, float, float] | None:
    """Top, left, bottom, right of DNG's DefaultUserCrop; None if that is everything, or nonsense."""
    numbers = tags.raw[DEFAULT_USER_CROP].numbers if DEFAULT_USER_CROP in tags.raw else ()
    if len(numbers) != 4:
        return None
    top, left, bottom, right = numbers
    sound = 0 <= top < bottom <= 1 and 0 <= left < right <= 1
    return (top, left, bottom, right) if sound and numbers != (0, 0, 1, 1) else None


def _aspect(libraw: float) -> float:
    return float(libraw) if math.isfinite(libraw) and 0.1 < libraw < 10 else 1.0


def _iso(tags: FileTags, libraw: float) -> float | None:
    """LibRaw's ISO, which minds the makers' notes; beyond 65535, where EXIF's own field ends, from its successor.

    TIFF/EP has it in IFD0, and some writers beside the mosaic, where LibRaw does not look.
    """
    index = _positive(_number(tags.exif.get(exif.EXPOSURE_INDEX)))
    if index and (libraw <= 0 or libraw == 65535):
        return index
    elsewhere = (_positive(_number(directory.get(exif.ISO))) for directory in (tags.exif, tags.main, tags.raw))
    return _positive(libraw) or next((iso for iso in elsewhere if iso), None)


def active_shift(raw: LibRawFile, tags: FileTags) -> tuple[int, int]:
    """Rows and columns that LibRaw leaves out of a DNG's active area: the first, where that begins on an odd one."""
    area = tags.raw[ACTIVE_AREA].numbers if ACTIVE_AREA in tags.raw else (0.0, 0.0)
    down, right = raw.sizes.top_margin - int(area[0]), raw.sizes.left_margin - int((*area, 0)[1])
    return (down, right) if down in (0, 1) and right in (0, 1) else (0, 0)


def _text(tags: FileTags, tag: int) -> str | None:
    return (tags.main[tag].text or None) if tag in tags.main else None


def _number(entry: exif.Entry | None) -> float | None:
    return entry.numbers[0] if entry and entry.numbers and math.isfinite(entry.numbers[0]) else None


def _positive(value: float | None) -> float | None:
    return float(value) if value is not None and 1 / _LARGEST <= value <= _LARGEST else None


def _shot(tags: FileTags, tag: int, libraw: float) -> float | None:
    """A fact of the shot from EXIF, where a zero means unknown; from LibRaw if the file has no such tag."""
    return _positive(_number(tags.exif.get(tag) or tags.first(tag)) if tags.first(tag) else libraw)
