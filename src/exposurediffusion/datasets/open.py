"""A folder in, a data set out: what it is, what of it can be used, and the frames decoded once into the cache."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from exposurediffusion.datasets.cache import FrameCache
from exposurediffusion.datasets.cached_frame import CachedFrame
from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.datasets.eld import eld
from exposurediffusion.datasets.listing import RAW_EXTENSIONS, Listing, Pair, find_images, find_raws, listing
from exposurediffusion.datasets.pairs import TABLE, pairs
from exposurediffusion.datasets.samples import FramePair, PairDataset, RawDataset
from exposurediffusion.datasets.sid import Subset, is_sid_name, sid, sid_references
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS, RANGE
from exposurediffusion.physics.ranges import OutOfRange
from exposurediffusion.pictures.prepared import in_memory, read_pictures
from exposurediffusion.pictures.splits import Split, choose
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.light import Panorama, Photograph, load_clean
from exposurediffusion.simulation.scenes import MANIFEST, known_noise

Kind = Literal["sid-sony", "sid-fuji", "eld", "pairs", "raws", "images", "prepared"]

Want = Literal["clean", "pairs", "bursts"]


@dataclass
class _Problems:
    """Files that cannot be used: reported once, when all are known, or an end to it."""

    root: Path
    stop: bool
    split: Split
    reported: set[str]
    found: list[str] = field(default_factory=list)

    def add(self, problems: Sequence[str]) -> None:
        self.found += problems
        if self.stop and self.found:
            raise ValueError(f"{self._text(self.found)}\nput this right, or go on by --on-problem continue")

    def report(self, report: Callable[[str], None], left: int = 1) -> None:
        if not left:
            part = " for validation; give another folder by --validation" if self.split == "validation" else ""
            raise ValueError(f"{self._text(self.found)}\nnothing is left to use{part}")
        if new := [problem for problem in self.found if problem not in self.reported]:
            report(f"{self._text(new)}\ngoing on without these files")
        self.reported.update(self.found)

    def _text(self, problems: Sequence[str]) -> str:
        unique = list(dict.fromkeys(problems))
        return "\n  ".join([f"{self.root}: {len(unique)} problem{'s' if len(unique) != 1 else ''}:", *unique])


@dataclass(frozen=True, kw_only=True)
class DatasetOptions:
    """How a data set is read.

    Attributes:
        dataset: its kind; auto, sid: by what lies there.
        camera: folder of one of ELD's cameras; by default all.
        pairs: a CSV with the columns short,long[,ratio], for pairs whose names do not match.
        noise: of the captures of pairs: by profile (else by the file, else estimated); estimated from each frame alone;
            or known, of a simulated data set.
        dark_shading: a map (.safetensors) or a folder of dark frames, subtracted from the captures of pairs (PMN).
        cache: folder for decoded frames; by default beside the data.
        on_problem: files that are missing, superfluous or unreadable: continue without them, or stop.
        max_megapixels: larger frames and pictures are refused before they are decoded.
    """

    dataset: Literal["auto", "sid", Kind] = "auto"
    camera: str | None = None
    pairs: Path | None = None
    noise: Literal["profile", "estimated", "known"] = "profile"
    dark_shading: Path | None = None
    cache: Path | None = None
    on_problem: Literal["continue", "stop"] = "continue"
    max_megapixels: float = MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        low, high = RANGE
        if not low <= self.max_megapixels <= high:
            raise OutOfRange(f"max_megapixels is a number from {low:g} to {high:g}, got {self.max_megapixels:g}")


def open_dataset(
    root: Path,
    options: DatasetOptions = DatasetOptions(),
    split: Split = "train",
    want: Want = "clean",
    *,
    subset: Subset | None = None,
    report: Callable[[str], None] = lambda _: None,
    tick: Callable[[int, int], None] | None = None,
    reported: set[str] | None = None,
) -> CleanViews | RawDataset | PairDataset:
    """Open a folder, or a file of prepared pictures, for training or validation.

    SID has splits of its own; of other data sets every tenth scene is for validation.

    Args:
        root: the folder or file.
        options: how it is read.
        split: which scenes.
        want: clean scenes whose noise is still to be made; pairs of short and long exposures; or bursts, pairs of two
            short exposures (Noise2Noise; SID alone has them).
        subset: of SID's Sony, see `sid.sid`.
        report: is given what people should read.
        tick: is called with the number of frames decoded and of all that are to be.
        reported: problems that they have read already, of another split; it is added to.

    Raises:
        ValueError: the folder does not have what is wanted, or there are problems and they stop it.
    """
    kind = kind_of(root, options.dataset)
    problems = _Problems(root, options.on_problem == "stop", split, set() if reported is None else reported)
    if kind in ("images", "prepared"):
        if want != "clean":
            raise ValueError(f"{root}: pictures are no pairs of short and long exposures; `expose simulate` makes some")
        if split == "test":
            raise ValueError(f"{root}: a split for tests is SID's alone; leave out --split test")
        if kind == "prepared":
            return CleanViews(read_pictures(root, split=split))
        sources = _pictures(root, split, problems, options.max_megapixels)
        problems.report(report, len(sources))
        return CleanViews(in_memory(sources))
    shading = None if options.dark_shading is None else load_dark_shading(options.dark_shading)
    found = _list(root, kind, options, split, want, subset)
    problems.add(found.problems)
    store = FrameCache(options.cache) if options.cache else FrameCache.beside(root)
    store = replace(store, max_megapixels=options.max_megapixels)
    unreadable: list[Path] = []

    def frames(paths: Sequence[Path]) -> dict[Path, CachedFrame]:
        if missing := len(store.missing(paths)):
            report(f"{root}: decoding {missing} raw files, once, into {store.folder}")
        problems.add(store.build(paths, tick=tick))
        unreadable.extend(store.missing(paths))
        return {path: store.frame(path) for path in paths if path not in unreadable}

    if want == "clean":
        clean = _alike(list(frames(found.references).values()), problems)
        problems.report(report, left=len(clean))
        return RawDataset(tuple(clean))
    kept = _matched(found.pairs, frames, want == "bursts", problems)
    problems.report(report, left=len(kept))
    if options.noise == "known":
        kept = _with_known_noise(root, kept)
    estimated, target = options.noise == "estimated", "short" if want == "bursts" else "long"
    return PairDataset(
        tuple(kept), dark_shading=shading, estimated=estimated, target=target, unreadable=tuple(unreadable)
    )


def _pictures(root: Path, split: Split, problems: _Problems, most: float) -> list[Panorama | Photograph]:
    """The pictures of a folder that can be read."""
    files = find_images(root, lambda text: problems.add([text]))
    if not files:
        raise ValueError(f"{root}: no pictures (.hdr, .tif, .png, .jpg) to train on")
    sources: list[Panorama | Photograph] = []
    for path in choose(files, split, root):
        try:
            sources.append(load_clean(path, max_megapixels=most))
        except ValueError as error:
            problems.add([str(error)])
    return sources


def _list(root: Path, kind: Kind, options: DatasetOptions, split: Split, want: Want, subset: Subset | None) -> Listing:
    """The files of a split."""
    if options.camera and kind != "eld":
        raise ValueError(f"{root}: folders of cameras are ELD's alone; leave out --camera {options.camera}")
    if kind in ("sid-sony", "sid-fuji"):
        side, part = ("Sony" if kind == "sid-sony" else "Fuji"), (None if split == "all" else split)
        if want == "clean":
            return sid_references(root, side, part)
        return sid(root, side, part, subset, bursts=want == "bursts")
    if subset or split == "test":
        raise ValueError(f"{root}: subsets and a split for tests are SID's alone; use --subset all --split all")
    if want == "bursts":
        raise ValueError(f"{root}: bursts of short exposures are known of SID alone")
    if kind == "raws":
        if want != "clean":
            raise ValueError(
                f"{root}: raw files alone are no pairs; put them into folders short and long, or name them in a "
                "pairs.csv with a header short,long[,ratio]"
            )
        found = raws(root)
    else:
        found = eld(root, options.camera) if kind == "eld" else pairs(root, options.pairs)
    if not found.references:
        raise ValueError("\n  ".join([f"{root}: no raw files that can be used", *found.problems]))
    chosen = choose(found.references, split, root)
    kept = tuple(pair for pair in found.pairs if pair.long in set(chosen))
    return Listing(tuple(chosen), kept, found.problems)


def _matched(
    found: Sequence[Pair],
    frames: Callable[[Sequence[Path]], dict[Path, CachedFrame]],
    bursts: bool,
    problems: _Problems,
) -> list[FramePair]:
    """Pairs whose frames can be read and laid upon each other; the long ones are not needed of bursts."""
    cached = frames([path for pair in found for path in ((pair.short,) if bursts else (pair.short, pair.long))])
    kept: list[FramePair] = []
    for pair in found:
        short, long = cached.get(pair.short), cached.get(pair.short if bursts else pair.long)
        if short is None or long is None:
            continue  # among the problems already
        if short.shape != long.shape:
            sizes = " and ".join(f"{columns}x{rows}" for rows, columns in (short.shape, long.shape))
            problems.add([f"{pair.short} and {pair.long}: left out, their sizes differ ({sizes})"])
        elif short.cfa != long.cfa:
            arrays = f"{short.cfa.pattern()} and {long.cfa.pattern()}"
            problems.add([f"{pair.short} and {pair.long}: left out, their colour filter arrays differ ({arrays})"])
        else:
            kept.append(FramePair(short, long, pair.ratio, pair.scene, pair.burst))
    fit = set(_alike([pair.short for pair in kept], problems))
    return [pair for pair in kept if pair.short in fit]


def _with_known_noise(root: Path, kept: Sequence[FramePair]) -> list[FramePair]:
    """The pairs of a simulated data set with their true noise."""
    top = next((folder for folder in (root, *root.resolve().parents[:2]) if (folder / MANIFEST).is_file()), None)
    if top is None:
        missing = root / MANIFEST
        raise ValueError(f"{missing}: no such file, which data sets of `expose simulate` have; use --noise profile")
    known = {(top / name).resolve(): noise for name, noise in known_noise(top).items()}
    absent = [pair.short.source for pair in kept if Path(pair.short.source).resolve() not in known]
    if absent:
        raise ValueError(f"{absent[0]}: its noise is not in {top / MANIFEST}; use --noise profile")
    return [replace(pair, noise=known[Path(pair.short.source).resolve()]) for pair in kept]


def _alike(frames: list[CachedFrame], problems: _Problems) -> list[CachedFrame]:
    """All Bayer or all X-Trans, whichever there are more of."""
    planes = Counter(frame.cfa.planes for frame in frames)
    most = max(planes, key=planes.__getitem__, default=0)
    kept = [frame for frame in frames if frame.cfa.planes == most]
    others = [frame for frame in frames if frame.cfa.planes != most]
    problems.add([f"{f.source}: left out, it is {_array(f)}, most are {_array(kept[0])}" for f in others])
    return kept


def _array(frame: CachedFrame) -> str:
    return "Bayer" if frame.cfa.is_bayer else "X-Trans"


def raws(root: Path) -> Listing:
    """All raw files in a folder and below, hidden ones left out."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in RAW_EXTENSIONS and path.is_file())
    shown = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return listing(shown, (), (), extra=False)


def kind_of(root: Path, dataset: Literal["auto", "sid", Kind]) -> Kind:
    """The kind of a data set, as it is called or by what lies there.

    Raises:
        ValueError: none that is known, or SID is wanted and it is not.
    """
    if dataset not in ("auto", "sid"):
        return dataset
    kind = detect(root)
    if dataset == "sid" and not kind.startswith("sid"):
        raise ValueError(f"{root}: not SID, there are no folders Sony/short and Sony/long; it looks like {kind}")
    return kind


def detect(root: Path) -> Kind:
    """What kind of data set a folder is, or a file of prepared pictures.

    Raises:
        ValueError: none that is known, or SID with both cameras.
    """
    if root.is_file():
        return "prepared"
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    sides = [side for side in ("Sony", "Fuji") if (root / side / "long").is_dir()]
    if len(sides) == 2:
        raise ValueError(f"{root}: SID with both cameras; say which: --dataset sid-sony or --dataset sid-fuji")
    if sides:
        return "sid-sony" if sides == ["Sony"] else "sid-fuji"
    if any(root.glob("scene-*")) or any(root.glob("*/scene-*")):
        return "eld"
    if (root / "long").is_dir() and any(map(is_sid_name, find_raws(root / "long"))):
        return "sid-fuji" if root.resolve().name == "Fuji" else "sid-sony"
    if (root / TABLE).is_file() or ((root / "short").is_dir() and (root / "long").is_dir()):
        return "pairs"
    if raws(root).references:
        return "raws"
    if find_images(root):
        return "images"
    raise ValueError(
        f"{root}: neither SID (Sony/short, Sony/long), nor ELD (<camera>/scene-<n>), nor pairs (short, long), "
        "nor a folder of raw files or pictures"
    )
