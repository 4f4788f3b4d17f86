"""Which pairs of a data set are evaluated, and which noise parameters the methods are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from exposurediffusion.datasets.open import DatasetOptions, Kind, kind_of, open_dataset
from exposurediffusion.datasets.samples import PairDataset
from exposurediffusion.datasets.sid import Subset
from exposurediffusion.evaluation.summary import nominal
from exposurediffusion.pictures.splits import Split
from exposurediffusion.simulation.scenes import MANIFEST

PUBLISHED_CROP = 512
"""Side of SID's centre crop, packed pixels; ELD's frames are taken whole."""


@dataclass(frozen=True)
class Selection(DatasetOptions):
    """Which pairs are measured on, and how they are read.

    Attributes:
        root: the data set, real or of `expose simulate`.
        split: of SID; auto: test and validation for a published subset, else test.
        subset: of SID's Sony: eld, the 15 scenes of published tables; long, more of them; auto: eld on the real SID,
            all on a simulated one.
        ratios: leave out captures of others.
    """

    root: Path
    _: KW_ONLY
    split: Literal["auto", Split] = "auto"
    subset: Literal["auto", "all", Subset] = "auto"
    ratios: tuple[float, ...] = ()

    @cached_property
    def kind(self) -> Kind:
        """The layout.

        Raises:
            ValueError: see `kind_of`.
        """
        return kind_of(self.root, self.dataset)

    @property
    def simulated(self) -> bool:
        """Made by `expose simulate`; the root may be the folder of one camera."""
        return any((folder / MANIFEST).is_file() for folder in (self.root, self.root.resolve().parent))

    @property
    def title(self) -> str:
        """The data as the title of a table names it, such as "SID Sony", or "SimSID Sony" if it is simulated."""
        name = {"sid-sony": "SID Sony", "sid-fuji": "SID Fuji", "eld": "ELD"}.get(self.kind)
        if name is None:
            return self.root.resolve().name
        return f"Sim{name}" if self.simulated else name

    @property
    def crop(self) -> int | None:
        """The published centre crop: 512 for SID, none for others."""
        return PUBLISHED_CROP if self.kind.startswith("sid") else None

    def _part(self) -> tuple[Split, Subset | None]:
        chosen: Subset | None = None if self.subset in ("auto", "all") else self.subset
        if self.subset == "auto" and self.kind == "sid-sony" and not self.simulated and self.split == "auto":
            chosen = "eld"
        if self.split != "auto":
            return self.split, chosen
        return ("test" if self.kind.startswith("sid") and chosen is None else "all"), chosen

    def describe(self) -> dict[str, Any]:
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

    def open(
        self, report: Callable[[str], None] = lambda _: None, tick: Callable[[int, int], None] | None = None
    ) -> PairDataset:
        """The pairs, decoded.

        Args:
            report: is given what people should read.
            tick: see `open_dataset`.

        Raises:
            ValueError: there are none, or something that was asked for is not there.
        """
        split, subset = self._part()
        opened = open_dataset(self.root, self, split, "pairs", subset=subset, report=report, tick=tick)
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
