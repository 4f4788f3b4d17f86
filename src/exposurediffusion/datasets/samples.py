"""Data sets: scenes for training and validation, from raw files, or pairs of short and long exposures.

Both make training patches by number: patch n is the same in any process, which is what distributed training and
resuming rely on. Scenes come once an epoch (`len` patches), in an order shuffled anew; publications that take eight
patches of each scene count eight of these as one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from exposurediffusion.analysis.estimation import estimate_noise
from exposurediffusion.analysis.sources import noise_of
from exposurediffusion.datasets.cached_frame import CachedFrame
from exposurediffusion.datasets.crops import Cut, draw_cut, largest_cut, whole_tiles
from exposurediffusion.physics.dark_shading import DarkShading, Window
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import scene_of, seeded
from exposurediffusion.physics.sensor import Metadata


@dataclass(frozen=True)
class Sample:
    """A scene, or a patch of it.

    Attributes:
        clean: noise-free at reference brightness, black-subtracted, 1 = white (above 1: highlights that only pictures
            hold).
        name: of the scene, for people.
        capture: amplified by `ratio`, black-subtracted, not clipped at 0; None: the noise is still to be made.
        ratio: amplification of the capture.
        iso: of the capture.
        noise: parameters of the capture, a batch of one.
        metadata: of the clean exposure, whose colours a rendering takes; None: of a picture.
    """

    clean: Float[Tensor, "planes h w"]
    name: str
    capture: Float[Tensor, "planes h w"] | None = None
    ratio: float | None = None
    iso: float | None = None
    noise: NoiseParameters | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True)
class RawDataset:
    """Clean raw frames: long exposures, or any well exposed ones. The noise is still to be made.

    Attributes:
        frames: at least one, all Bayer or all X-Trans.
        seed: of the patches.
    """

    frames: tuple[CachedFrame, ...]
    seed: int = 0

    @property
    def cfa(self) -> CFA:
        """Colour filter array of the first frame."""
        return self.frames[0].cfa

    @property
    def planes(self) -> int:
        """Colour planes of a frame."""
        return self.cfa.planes

    @property
    def largest(self) -> tuple[int, str]:
        """Side of the largest patch that every frame holds, packed pixels, and the file of the smallest frame."""
        return _largest(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        frame = self.frames[index]
        return Sample(frame.planes(whole_tiles(frame.shape, frame.cfa)), Path(frame.source).stem)

    def patch(self, number: int, size: int) -> Sample:
        """Training patch `number`, `size` packed pixels a side: the same in every process; mirrored and turned.

        Raises:
            ValueError: the frame is smaller than a patch.
        """
        frame = self.frames[scene_of(number, len(self), self.seed)]
        cut = _cut(frame, size, self.seed, number)
        return Sample(cut.apply(frame.planes(cut.window), frame.cfa), Path(frame.source).stem)


@dataclass(frozen=True)
class FramePair:
    """A short exposure and its target, of equal size and colour filter array; see `listing.Pair`.

    Attributes:
        noise: of the short exposure, where it is known (simulated data sets).
    """

    short: CachedFrame
    long: CachedFrame
    ratio: float
    scene: str
    burst: str = ""
    noise: NoiseParameters | None = None


@dataclass(frozen=True)
class PairDataset:
    """Pairs of short and long exposures; each pair is an item, and comes once per epoch.

    Attributes:
        pairs: at least one, all Bayer or all X-Trans.
        seed: of the patches.
        dark_shading: is taken off the short exposures.
        estimated: estimate the noise of each short exposure from its frame, as for a camera that nobody calibrated,
            instead of looking it up by camera, else by the file.
        target: what `clean` is: the long exposure, or another short one of the same burst (Noise2Noise).
        unreadable: files that belong to the data set and could not be decoded.

    Raises:
        ValueError: short exposures are wanted as targets, and no burst has two.
    """

    pairs: tuple[FramePair, ...]
    seed: int = 0
    dark_shading: DarkShading | None = None
    estimated: bool = False
    target: Literal["long", "short"] = "long"
    unreadable: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self._items:
            raise ValueError("no scene has two short exposures of the same time, which Noise2Noise needs")

    @cached_property
    def _bursts(self) -> dict[str, list[FramePair]]:
        bursts: dict[str, list[FramePair]] = defaultdict(list)
        for pair in self.pairs:
            bursts[pair.burst].append(pair)
        return {name: pairs for name, pairs in bursts.items() if name and len(pairs) > 1}

    @cached_property
    def _items(self) -> tuple[FramePair, ...]:
        return self.pairs if self.target == "long" else tuple(p for p in self.pairs if p.burst in self._bursts)

    @property
    def cfa(self) -> CFA:
        """Colour filter array of the first pair."""
        return self.pairs[0].short.cfa

    @property
    def planes(self) -> int:
        """Colour planes of a frame."""
        return self.cfa.planes

    @property
    def largest(self) -> tuple[int, str]:
        """Side of the largest patch that every frame holds, packed pixels, and the file of the smallest frame."""
        return _largest(pair.short for pair in self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Sample:
        pair = self._items[index]
        return self._sample(pair, self._target(pair, index), None)

    def patch(self, number: int, size: int) -> Sample:
        """Training patch `number`, `size` packed pixels a side: the same in every process; mirrored, rows stay rows.

        Raises:
            ValueError: the frame is smaller than a patch.
        """
        pair = self._items[scene_of(number, len(self), self.seed)]
        return self._sample(pair, self._target(pair, number), _cut(pair.short, size, self.seed, number, upright=True))

    def _target(self, pair: FramePair, number: int) -> FramePair | None:
        """Another one of its burst; None: the long exposure."""
        if self.target == "long":
            return None
        others = [other for other in self._bursts[pair.burst] if other is not pair]
        return others[number // len(self) % len(others)]

    def _sample(self, pair: FramePair, other: FramePair | None, cut: Cut | None) -> Sample:
        window = cut.window if cut else whole_tiles(pair.short.shape, pair.short.cfa)
        capture = self._capture(pair, window)
        clean = self._capture(other, window) if other else pair.long.planes(window)
        if cut:
            capture, clean = cut.apply(capture, pair.short.cfa), cut.apply(clean, pair.short.cfa)
        noise = pair.noise or _noise(pair.short, self.estimated)
        return Sample(clean, pair.scene, capture, pair.ratio, pair.short.metadata.iso, noise, pair.long.metadata)

    def _capture(self, pair: FramePair, window: Window) -> Tensor:
        capture, iso = pair.short.planes(window).mul_(pair.ratio), pair.short.metadata.iso
        if self.dark_shading is None:
            return capture
        if iso is None:
            raise ValueError(
                f"{pair.short.source}: its ISO is unknown, so its dark shading is too; leave out --dark-shading"
            )
        return self.dark_shading.correct(capture, iso, pair.ratio, window)


def _largest(frames: Iterable[CachedFrame]) -> tuple[int, str]:
    return min((largest_cut(frame.shape, frame.cfa), frame.source) for frame in frames)


def _cut(frame: CachedFrame, size: int, seed: int, number: int, upright: bool = False) -> Cut:
    try:
        return draw_cut(frame.shape, size, frame.cfa, seeded(seed, number), upright)
    except ValueError as error:
        raise ValueError(f"{frame.source}: {error}") from error


@lru_cache(maxsize=4096)
def _noise(frame: CachedFrame, estimated: bool) -> NoiseParameters:
    """Noise of a whole capture; estimating it takes a while, so each process does it once."""
    return (estimate_noise if estimated else noise_of)(frame.frame())
