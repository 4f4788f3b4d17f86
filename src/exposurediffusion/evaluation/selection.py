"""Which pairs of a data set are evaluated, and which noise parameters the methods are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.datasets.open import Kind, NoiseSource, detect, open_dataset
from exposurediffusion.datasets.samples import PairDataset
from exposurediffusion.datasets.sid import Subset
from exposurediffusion.evaluation.summary import nominal
from exposurediffusion.simulation.scenes import MANIFEST

PUBLISHED_CROP = 512
"""Side of SID's centre crop, packed pixels; ELD's frames are taken whole."""


@dataclass(frozen=True)
class Selection:
    """Which pairs are measured on, and what is told of their noise.

    Attributes:
        root: the data set, real or of `expose simulate`.
        dataset: its layout; auto, sid: by what lies there.
        split: of SID; auto: test and validation for a published subset, else test.
        subset: of SID's Sony: eld, the 15 scenes of published tables; long, more of them; auto: eld on the real SID,
            all on a simulated one.
        camera: folder of one of ELD's cameras.
        ratios: leave out captures of others.
        pairs: a CSV with the columns short,long[,ratio].
        noise: what is told of it: by profile (else by the file, else estimated); estimated from each frame alone; or
            known, of a simulated data set.
        dark_shading: a map (.safetensors) or a folder of dark frames, subtracted from the captures.
        cache: folder for decoded frames; by default beside the data.
    """

    root: Path
    dataset: Literal["auto", "sid", "sid-sony", "sid-fuji", "eld", "pairs"] = "auto"
    split: Literal["auto", "test", "validation", "train", "all"] = "auto"
    subset: Literal["auto", "eld", "long", "all"] = "auto"
    camera: str | None = None
    ratios: tuple[float, ...] = ()
    pairs: Path | None = None
    noise: NoiseSource = "profile"
    dark_shading: Path | None = None
    cache: Path | None = None

    @property
    def kind(self) -> Kind:
        """The layout.

        Raises:
            ValueError: none that is known, or SID is wanted and it is not.
        """
        if self.dataset not in ("auto", "sid"):
            return self.dataset
        kind = detect(self.root)
        if self.dataset == "sid" and not kind.startswith("sid"):
            raise ValueError(
                f"{self.root}: not SID, there are no folders Sony/short and Sony/long; it looks like {kind}"
            )
        return kind

    @property
    def simulated(self) -> bool:
        """Made by `expose simulate`; the root may be the folder of one camera."""
        return any((folder / MANIFEST).is_file() for folder in (self.root, self.root.resolve().parent))

    @property
    def crop(self) -> int | None:
        """The published centre crop: 512 for SID, none for others."""
        return PUBLISHED_CROP if self.kind.startswith("sid") else None

    def _part(self) -> tuple[Literal["test", "validation", "train", "all"], Subset | None]:
        chosen: Subset | None = None if self.subset in ("auto", "all") else self.subset  # type: ignore[assignment]
        if self.subset == "auto" and self.kind == "sid-sony" and not self.simulated and self.split == "auto":
            chosen = "eld"
        if self.split != "auto":
            return self.split, chosen
        return ("test" if self.kind.startswith("sid") and chosen is None else "all"), chosen

    def told(self) -> dict[str, Any]:
        """What every figure has to carry, as plain values."""
        split, subset = self._part()
        return {
            "dataset": f"{self.kind}{', simulated' if self.simulated else ''}",
            "root": self.root.resolve().name,
            "split": split,
            "subset": subset or "all",
            "camera": self.camera or "all",
            "noise": self.noise,
            "dark_shading": "" if self.dark_shading is None else self.dark_shading.name,
        }

    def open(self, report: Callable[[str], None] = lambda _: None) -> PairDataset:
        """The pairs, decoded.

        Args:
            report: is given what people should read.

        Raises:
            ValueError: there are none, or something that was asked for is not there.
        """
        split, subset = self._part()
        opened = open_dataset(
            self.root,
            self.kind,
            split,
            "pairs",
            camera=self.camera,
            table=self.pairs,
            cache=self.cache,
            noise=self.noise,
            subset=subset,
            dark_shading=None if self.dark_shading is None else load_dark_shading(self.dark_shading),
            report=report,
        )
        assert isinstance(opened, PairDataset)  # because pairs are wanted
        return self._within(opened)

    def _within(self, opened: PairDataset) -> PairDataset:
        if not self.ratios:
            return opened
        if bad := [ratio for ratio in self.ratios if not 1 <= ratio < 1e6]:
            raise ValueError(f"--ratios are numbers from 1 on, not {bad[0]:g}")
        there = sorted({nominal(pair.ratio) for pair in opened.pairs})
        wanted = {nominal(ratio) for ratio in self.ratios}
        if absent := sorted(wanted - set(there)):
            raise ValueError(f"{self.root}: no pair has ratio {absent[0]}; there are {', '.join(map(str, there))}")
        return replace(opened, pairs=tuple(pair for pair in opened.pairs if nominal(pair.ratio) in wanted))
