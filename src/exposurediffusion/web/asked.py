"""What the page asks for: the values of its controls, as options and as the words of `expose enhance`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.photographs.outputs import ResultOptions


def _auto_or(number: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: "auto" if text == "auto" else number(text)


def _switch(text: str) -> bool:
    return {"on": True, "off": False}[text]


_READ: dict[str, Callable[[str], Any]] = {
    "ratio": _auto_or(float),
    "steps": _auto_or(int),
    "samples": int,
    "luma": float,
    "chroma": float,
    "ev": float,
    "faithful": _switch,
    "white_balance": str,
    "black": str,
}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The controls of the page; names, meanings and ranges are those of `EnhanceOptions` and `ResultOptions`.

    Raises:
        ValueError: something is out of its range.
    """

    ratio: float | Literal["auto"] = "auto"
    steps: int | Literal["auto"] = "auto"
    samples: int = 1
    luma: float = 1.0
    chroma: float = 1.0
    ev: float = 0.0
    faithful: bool = True
    white_balance: str = "shot"
    black: str = "auto"

    def __post_init__(self) -> None:
        if self.samples > 32:
            raise ValueError(f"the page takes 32 samples at most, got {self.samples}")
        self.options()
        self.results()

    @staticmethod
    def of(values: Mapping[str, str]) -> Asked:
        """From the words of a query; what is missing or empty is as usual, names that are no control are passed over.

        Raises:
            ValueError: a word that its control does not know.
        """
        read = {}
        for name, convert in _READ.items():
            text = values.get(name, "").strip()
            try:
                read |= {name: convert(text)} if text else {}
            except (ValueError, KeyError) as error:
                raise ValueError(f"{name.replace('_', ' ')}: {text[:40]!r} is no value for it") from error
        return Asked(**read)

    def options(self, **others: Any) -> EnhanceOptions:
        """Of the enhancement, as the command line has them."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "ev"}
        return EnhanceOptions(**{"exposure": "auto", **own, **others})

    def results(self, overwrite: bool = False) -> ResultOptions:
        """How results are written."""
        return ResultOptions(ev=self.ev, overwrite=overwrite)

    def words(self) -> list[str]:
        """What `expose enhance` has to be told for the same."""
        words = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                text = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
                words += [f"--{field.name.replace('_', '-')}", text]
        return words

    @property
    def unlit(self) -> Asked:
        """The same without the brightness of pictures, which changes nothing but them."""
        return replace(self, ev=0.0)
