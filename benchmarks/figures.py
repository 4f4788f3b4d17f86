"""The numbers of `benchmarks/picture.py`: one record each, the table of them, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import machine

LIBRARIES = ("exposurediffusion", "numpy", "scipy", "scikit-image", "rawpy", "pillow")


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        defect: which one, as `--only` names it.
        setting: amplification, camera, colour, whatever it was measured at.
        name: of the number, with its unit.
        value: itself.
        today: what the weights of version 0.1.0 gave on other scenes or seeds; empty: nobody measured it.
        wanted: what it should be; empty: no such wish.
        note: where it was found, such as the worst scene.
        detail: one of very many: kept in the file, left out of the table.
    """

    defect: str
    setting: str
    name: str
    value: float
    today: str = ""
    wanted: str = ""
    note: str = ""
    detail: bool = False

    @property
    def text(self) -> str:
        """The value for people: four digits, and where it was found."""
        return f"{self.value:.4g}" + (f" ({self.note})" if self.note else "")


def header(programs: Sequence[str]) -> str:
    """The first two lines of the table."""
    names = ["defect", "setting", "figure", "0.1.0", "wanted", *programs]
    return f"| {' | '.join(names)} |\n" + "|---" * len(names) + "|"


def rows(measured: Mapping[str, Sequence[Figure]]) -> list[str]:
    """Markdown lines: a figure each, one column for each program. All programs have the same figures."""
    lines = []
    for group in zip(*measured.values(), strict=True):
        first = group[0]
        if first.detail:
            continue
        if len({(figure.defect, figure.setting, figure.name) for figure in group}) > 1:
            raise ValueError(f"{first.defect}, {first.setting}: the programs do not have the same figures")
        words = [first.defect, first.setting, first.name, first.today, first.wanted, *(f.text for f in group)]
        lines.append(f"| {' | '.join(words)} |")
    return lines


def write(path: Path, options: Mapping[str, Any], measured: Mapping[str, Sequence[Figure]]) -> None:
    """Every figure as JSON, with what it was measured on and how."""
    content = {
        "machine": machine(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        "figures": [{"program": name, **asdict(f)} for name, figures in measured.items() for f in figures],
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
