"""The numbers that the paper prints (Wang et al., ICCV 2023), each once: the tables that ours stand beside.

They are as printed, also where the paper contradicts itself: "Ours" with the UNet under P+G noise is 38.89 / 0.902 at
x100 in Tables 2 and 4 but 38.88 / 0.901 in Tables 5a and 7a; at x300 it is 35.00, 34.99 and 34.59. All are taken with
the correction `oracle`, SID's on the centre crop, ELD's on whole frames. Figures 4, 6 and 8 are plots without numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from exposurediffusion.evaluation.cost import Cost


class PaperFigure(NamedTuple):
    """What a table says of one model on one task: PSNR in dB, SSIM."""

    psnr: float
    ssim: float

    def __str__(self) -> str:
        return f"{self.psnr:.2f} / {self.ssim:.3f}"


@dataclass(frozen=True)
class PaperTable:
    """One table, in the paper's layout.

    Attributes:
        name: "Table 2".
        caption: what it compares; `{}` stands for the data.
        heads: of the columns that name a row, e.g. ratio and model.
        cells: (names of the row, name of the column) -> figure, in the paper's order. Ratios are spelt "x100".
        digits: of SSIM, as printed.
    """

    name: str
    caption: str
    heads: tuple[str, ...]
    cells: Mapping[tuple[tuple[str, ...], str], PaperFigure]
    digits: int = 3

    def title(self, data: str) -> str:
        """The title of such a table of other data, such as "Table 2: Methods on SimSID Sony"."""
        return f"{self.name}: {self.caption.format(data)}"

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """Names of each row, one for each of `heads`."""
        return tuple(dict.fromkeys(row for row, _ in self.cells))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns with figures."""
        return tuple(dict.fromkeys(column for _, column in self.cells))

    def get(self, row: tuple[str, ...], column: str) -> PaperFigure | None:
        """A cell, None where the paper has none."""
        return self.cells.get((row, column))

    def by_ratio(self, *names: str) -> dict[int, PaperFigure]:
        """Amplification ratio -> figure, of the cells whose row and column have all these names.

        Raises:
            ValueError: no such cell, or several of one ratio.
        """
        found: dict[int, PaperFigure] = {}
        for (row, column), figure in self.cells.items():
            labels = {*row, column}
            if labels.issuperset(names):
                (ratio,) = (int(label[1:]) for label in labels if label[0] == "x" and label[1:].isdigit())
                if ratio in found:
                    raise ValueError(f"{self.name} has several figures of {', '.join(names)} at x{ratio}")
                found[ratio] = figure
        if not found:
            raise ValueError(f"{self.name} has no figures of {', '.join(names)}")
        return found


def _table(
    name: str,
    caption: str,
    heads: tuple[str, ...],
    columns: tuple[str, ...],
    rows: Mapping[tuple[str, ...], tuple[float, ...]],
    digits: int = 3,
) -> PaperTable:
    """PSNR and SSIM alternate along a row."""
    cells = {
        (row, column): PaperFigure(*figure)
        for row, numbers in rows.items()
        for column, figure in zip(columns, zip(numbers[::2], numbers[1::2], strict=True), strict=True)
    }
    return PaperTable(name, caption, heads, cells, digits)


TABLE2 = _table(
    "Table 2",
    "Methods on {}",
    ("Model",),
    ("x100", "x250", "x300"),
    {
        ("BM3D",): (32.92, 0.758, 29.56, 0.686, 28.88, 0.674),
        ("A-BM3D",): (33.79, 0.743, 27.24, 0.518, 26.52, 0.558),
        ("N2N",): (37.42, 0.853, 33.48, 0.725, 32.37, 0.686),
        ("P+G",): (38.31, 0.884, 34.39, 0.765, 33.37, 0.730),
        ("Ours",): (38.89, 0.902, 36.02, 0.832, 35.00, 0.808),
    },
)
TABLE3 = _table(
    "Table 3",
    "Methods on the cameras of ELD",
    ("Camera", "Ratio"),
    ("BM3D", "N2N", "P+G", "Ours"),
    {
        ("SonyA7S2", "x100"): (37.69, 0.803, 41.63, 0.856, 42.46, 0.889, 43.29, 0.929),
        ("SonyA7S2", "x200"): (34.06, 0.696, 37.98, 0.775, 38.88, 0.812, 40.39, 0.873),
        ("NikonD850", "x100"): (33.97, 0.725, 40.47, 0.848, 40.29, 0.845, 40.89, 0.897),
        ("NikonD850", "x200"): (31.36, 0.618, 37.98, 0.820, 37.26, 0.786, 38.51, 0.856),
        ("CanonEOS70D", "x100"): (30.79, 0.589, 38.21, 0.826, 40.94, 0.934, 40.99, 0.944),
        ("CanonEOS70D", "x200"): (28.06, 0.540, 34.33, 0.704, 37.64, 0.873, 37.90, 0.874),
        ("CanonEOS700D", "x100"): (29.70, 0.556, 38.29, 0.859, 40.08, 0.897, 40.19, 0.918),
        ("CanonEOS700D", "x200"): (27.52, 0.537, 34.94, 0.766, 37.86, 0.879, 37.71, 0.878),
    },
)
TABLE4 = _table(
    "Table 4",
    "Training data and noise models on {}, UNet",
    ("Ratio", "Model"),
    ("Baseline", "w/ Ours"),
    {
        ("x100", "P+G"): (38.31, 0.884, 38.89, 0.902),
        ("x100", "Paired data"): (38.60, 0.912, 38.98, 0.915),
        ("x100", "ELD"): (39.27, 0.914, 39.37, 0.917),
        ("x100", "PMN"): (39.77, 0.919, 39.80, 0.920),
        ("x250", "P+G"): (34.39, 0.765, 36.02, 0.832),
        ("x250", "Paired data"): (37.08, 0.886, 37.45, 0.895),
        ("x250", "ELD"): (37.13, 0.883, 37.47, 0.889),
        ("x250", "PMN"): (37.68, 0.892, 37.90, 0.896),
        ("x300", "P+G"): (33.37, 0.730, 34.99, 0.808),
        ("x300", "Paired data"): (36.29, 0.874, 36.82, 0.888),
        ("x300", "ELD"): (36.30, 0.872, 36.78, 0.878),
        ("x300", "PMN"): (37.01, 0.881, 37.27, 0.888),
    },
)
TABLE5A = _table(
    "Table 5a",
    "Backbones on {}",
    ("Ratio", "Noise model", "Model"),
    ("Baseline", "w/ Ours"),
    {
        ("x100", "P+G", "UNet"): (38.31, 0.884, 38.88, 0.901),
        ("x100", "P+G", "NAFNet-1"): (32.37, 0.698, 36.74, 0.871),
        ("x100", "P+G", "NAFNet-2"): (39.32, 0.909, 39.71, 0.917),
        ("x100", "ELD", "UNet"): (39.27, 0.914, 39.37, 0.917),
        ("x100", "ELD", "NAFNet-1"): (35.92, 0.848, 36.87, 0.879),
        ("x100", "ELD", "NAFNet-2"): (39.52, 0.917, 39.75, 0.918),
        ("x250", "P+G", "UNet"): (34.39, 0.765, 36.02, 0.832),
        ("x250", "P+G", "NAFNet-1"): (30.33, 0.594, 33.99, 0.817),
        ("x250", "P+G", "NAFNet-2"): (36.57, 0.849, 37.58, 0.886),
        ("x250", "ELD", "UNet"): (37.13, 0.883, 37.47, 0.889),
        ("x250", "ELD", "NAFNet-1"): (32.34, 0.726, 34.07, 0.821),
        ("x250", "ELD", "NAFNet-2"): (37.39, 0.884, 37.90, 0.889),
        ("x300", "P+G", "UNet"): (33.37, 0.730, 34.59, 0.798),
        ("x300", "P+G", "NAFNet-1"): (29.52, 0.549, 33.04, 0.794),
        ("x300", "P+G", "NAFNet-2"): (35.83, 0.835, 36.90, 0.877),
        ("x300", "ELD", "UNet"): (36.30, 0.872, 36.78, 0.878),
        ("x300", "ELD", "NAFNet-1"): (31.05, 0.668, 33.12, 0.800),
        ("x300", "ELD", "NAFNet-2"): (36.53, 0.871, 37.23, 0.884),
    },
)
TABLE6 = _table(
    "Table 6",
    "Trained at x100 alone: PMN, NAFNet-2, {}",
    ("Ratio", "Method"),
    ("PSNR / SSIM",),
    {
        ("x250", "Baseline"): (37.37, 0.8741),
        ("x250", "Ours"): (37.73, 0.8846),
        ("x300", "Baseline"): (36.31, 0.8512),
        ("x300", "Ours"): (36.83, 0.8650),
    },
    digits=4,
)
TABLE7A = _table(
    "Table 7a",
    "Against conditional diffusion on {}, P+G noise",
    ("Ratio", "Model"),
    ("PSNR / SSIM",),
    {
        ("x100", "UNet"): (38.88, 0.901),
        ("x100", "Diffusion-based-1"): (33.47, 0.851),
        ("x100", "Diffusion-based-2"): (25.13, 0.539),
        ("x250", "UNet"): (36.02, 0.832),
        ("x250", "Diffusion-based-1"): (31.98, 0.823),
        ("x250", "Diffusion-based-2"): (24.79, 0.529),
        ("x300", "UNet"): (34.59, 0.798),
        ("x300", "Diffusion-based-1"): (31.39, 0.807),
        ("x300", "Diffusion-based-2"): (22.65, 0.527),
    },
)
TABLES = {table.name: table for table in (TABLE2, TABLE3, TABLE4, TABLE5A, TABLE6, TABLE7A)}

FIGURE5: Mapping[str, float] = {"without": 32.57, "with": 35.44}
"""Figure 5: PSNR in dB of its one scene, without and with the adaptive residual layer (ARL)."""

TABLE5B: Mapping[str, Cost] = {
    "UNet": Cost(7_762_000, 55.17e9, 0.1243),
    "NAFNet-1": Cost(4_697, 1.124e9, 0.0468),
    "NAFNet-2": Cost(6_871_000, 15.32e9, 0.3514),
}
"""Table 5b: with the adaptive residual layer; one evaluation, 512x512 packed pixels, the time on a graphics card.

The paper's tool leaves out normalisations and the like, and counts transposed kernels at each output site."""
TABLE7B: Mapping[str, Cost] = {
    "Ours (UNet-based)": TABLE5B["UNet"],
    "Diffusion-based-1": Cost(8_619_000, 367.15e9),
    "Diffusion-based-2": Cost(1_472_000, 63.07e9),
}
"""Table 7b: of one step."""
