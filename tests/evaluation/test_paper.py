"""The paper's tables against its text, copied here line by line."""

from __future__ import annotations

import re

import pytest

from exposurediffusion.evaluation.paper import FIGURE5, TABLE2, TABLE3, TABLE5B, TABLE7B, TABLES, PaperFigure
from exposurediffusion.training.presets import PRESETS

PRINTED = {
    "Table 2": """
        BM3D 32.92/0.758 29.56/0.686 28.88/0.674
        A-BM3D 33.79/0.743 27.24/0.518 26.52/0.558
        N2N 37.42/0.853 33.48/0.725 32.37/0.686
        P+G 38.31/0.884 34.39/0.765 33.37/0.730
        Ours 38.89 / 0.902 36.02 / 0.832 35.00 / 0.808
        """,
    "Table 4": """
        P+G 38.31 / 0.884 38.89 / 0.902
        Paired data 38.60 / 0.912 38.98 / 0.915
        ELD 39.27 / 0.914 39.37 / 0.917
        PMN 39.77 / 0.919 39.80 / 0.920
        P+G 34.39 / 0.765 36.02 / 0.832
        Paired data 37.08 / 0.886 37.45 / 0.895
        ELD 37.13 / 0.883 37.47 / 0.889
        PMN 37.68 / 0.892 37.90 / 0.896
        P+G 33.37 / 0.730 34.99 / 0.808
        Paired data 36.29 / 0.874 36.82 / 0.888
        ELD 36.30 / 0.872 36.78 / 0.878
        PMN 37.01 / 0.881 37.27 / 0.888
        """,
    "Table 5a": """
        UNet 38.31 / 0.884 38.88 / 0.901
        NAFNet-1 32.37 / 0.698 36.74 / 0.871
        NAFNet-2 39.32 / 0.909 39.71 / 0.917
        UNet 39.27 / 0.914 39.37 / 0.917
        NAFNet-1 35.92 / 0.848 36.87 / 0.879
        NAFNet-2 39.52 / 0.917 39.75 / 0.918
        UNet 34.39 / 0.765 36.02 / 0.832
        NAFNet-1 30.33 / 0.594 33.99 / 0.817
        NAFNet-2 36.57 / 0.849 37.58 / 0.886
        UNet 37.13 / 0.883 37.47 / 0.889
        NAFNet-1 32.34 / 0.726 34.07 / 0.821
        NAFNet-2 37.39 / 0.884 37.90 / 0.889
        UNet 33.37 / 0.730 34.59 / 0.798
        NAFNet-1 29.52 / 0.549 33.04 / 0.794
        NAFNet-2 35.83 / 0.835 36.90 / 0.877
        UNet 36.30 / 0.872 36.78 / 0.878
        NAFNet-1 31.05 / 0.668 33.12 / 0.800
        NAFNet-2 36.53 / 0.871 37.23 / 0.884
        """,
    "Table 6": """
        Baseline 37.37 0.8741
        Ours 37.73 0.8846
        Baseline 36.31 0.8512
        Ours 36.83 0.8650
        """,
    "Table 7a": """
        UNet 38.88 / 0.901
        Diffusion-based-1 33.47 / 0.851
        Diffusion-based-2 25.13 / 0.539
        UNet 36.02 / 0.832
        Diffusion-based-1 31.98 / 0.823
        Diffusion-based-2 24.79 / 0.529
        UNet 34.59 / 0.798
        Diffusion-based-1 31.39 / 0.807
        Diffusion-based-2 22.65 / 0.527
        """,
}
PRINTED_3 = """
    Sony A7S2 x100
    PSNR 37.69 41.63 42.46 43.29
    SSIM 0.803 0.856 0.889 0.929
    Sony A7S2 x200
    PSNR 34.06 37.98 38.88 40.39
    SSIM 0.696 0.775 0.812 0.873
    Nikon D850 x100
    PSNR 33.97 40.47 40.29 40.89
    SSIM 0.725 0.848 0.845 0.897
    Nikon D850 x200
    PSNR 31.36 37.98 37.26 38.51
    SSIM 0.618 0.820 0.786 0.856
    Canon EOS70D x100
    PSNR 30.79 38.21 40.94 40.99
    SSIM 0.589 0.826 0.934 0.944
    Canon EOS70D x200
    PSNR 28.06 34.33 37.64 37.90
    SSIM 0.540 0.704 0.873 0.874
    Canon EOS700D x100
    PSNR 29.70 38.29 40.08 40.19
    SSIM 0.556 0.859 0.897 0.918
    Canon EOS700D x200
    PSNR 27.52 34.94 37.86 37.71
    SSIM 0.537 0.766 0.879 0.878
    """


@pytest.mark.parametrize("name", PRINTED)
def test_tables_are_as_printed(name: str) -> None:
    table, lines = TABLES[name], PRINTED[name].strip().splitlines()
    assert len(table.rows) == len(lines)
    for row, line in zip(table.rows, lines, strict=True):
        model, *numbers = re.findall(r"^.*?(?= \d\d\.)|\d+\.\d+", line.strip())
        assert row[-1] == model
        figures = [value for column in table.columns for value in table.cells[row, column]]
        assert figures == [float(number) for number in numbers]
    if table.heads[0] == "Ratio":  # the rows of each ratio follow each other
        ratios = [row[0] for row in table.rows]
        assert ratios == sorted(ratios)
        assert len({ratios.count(ratio) for ratio in ratios}) == 1


def test_table_3_is_as_printed() -> None:
    lines = [line.split() for line in PRINTED_3.strip().splitlines()]
    for row, head, psnr, ssim in zip(TABLE3.rows, lines[::3], lines[1::3], lines[2::3], strict=True):
        assert row == ("".join(head[:-1]), head[-1])
        for column, *figures in zip(TABLE3.columns, psnr[1:], ssim[1:], strict=True):
            assert TABLE3.cells[row, column] == tuple(map(float, figures))


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_tables_are_whole(table) -> None:
    assert TABLES[table.name] is table
    assert set(table.cells) == {(row, column) for row in table.rows for column in table.columns}
    for figure in table.cells.values():
        assert 20 < figure.psnr < 45
        assert 0.5 < figure.ssim < 1
    for row in table.rows:
        assert len(row) == len(table.heads)
        assert table.get(row, table.columns[0]) == table.cells[row, table.columns[0]]
    assert str(TABLES["Table 2"].cells[("Ours",), "x300"]) == "35.00 / 0.808"
    assert table.get(("x1000", "UNet"), "Baseline") is None


def test_costs_are_as_printed() -> None:
    printed = {
        "UNet": (7.762, 55.17, 0.1243),
        "NAFNet-1": (0.004697, 1.124, 0.0468),
        "NAFNet-2": (6.871, 15.32, 0.3514),
        "Ours (UNet-based)": (7.762, 55.17, 0.1243),
        "Diffusion-based-1": (8.619, 367.15, None),
        "Diffusion-based-2": (1.472, 63.07, None),
    }
    costs = {name: (c.parameters / 1e6, c.multiply_adds / 1e9, c.seconds) for name, c in {**TABLE5B, **TABLE7B}.items()}
    assert costs == printed


def test_figure_5_is_as_printed() -> None:
    assert {"w/o ARL": FIGURE5["without"], "w/ ARL": FIGURE5["with"]} == {"w/o ARL": 32.57, "w/ ARL": 35.44}


def test_figures_over_the_ratios() -> None:
    assert TABLE2.by_ratio("Ours") == {100: (38.89, 0.902), 250: (36.02, 0.832), 300: (35.00, 0.808)}
    assert TABLE3.by_ratio("NikonD850", "N2N") == {100: PaperFigure(40.47, 0.848), 200: PaperFigure(37.98, 0.820)}
    with pytest.raises(ValueError, match="Table 3 has several figures of N2N at x100"):
        TABLE3.by_ratio("N2N")
    with pytest.raises(ValueError, match="Table 2 has no figures of PMN"):
        TABLE2.by_ratio("PMN")


def test_presets_and_tables_agree() -> None:
    for name, preset in PRESETS.items():
        tables = [TABLES[table] for table in preset.tables if table in TABLES]
        if preset.expected:
            assert set(preset.expected.values()) <= set(tables[0].cells.values()), name
