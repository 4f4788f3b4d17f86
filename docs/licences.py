"""Write docs/licences.md: what the package brings along, by extra, with the licence of each.

python docs/licences.py                 of the environment that runs it, which has all extras
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).with_name("licences.md")
HEAD = """# What comes along, and under which licence

The package is Apache-2.0. These are the packages that an installation brings, with the licence that each states;
those of an extra are listed where they come first. Versions are those of `constraints.txt`, on Linux.
`bm3d` alone is for non-commercial use: it is a baseline to compare with, and no default installation has it.
Made by `python docs/licences.py`; `make sbom` writes a bill of materials (CycloneDX) of an environment.

"""


def closure(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Distribution]:
    """The packages that one needs, itself included; those that are not installed (of other systems) are left out."""
    seen, todo = set[tuple[str, frozenset[str]]](), [(canonicalize_name(name), extras)]
    while todo:
        place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        try:
            found = distribution(place[0])
        except PackageNotFoundError:
            continue
        yield found
        for text in found.requires or ():
            wanted = Requirement(text)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *place[1])):
                todo.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))


def licence(found: Distribution) -> str:
    """What a package states: its expression, else its classifiers, else the first line of its free text."""
    facts = found.metadata
    if expression := facts["License-Expression"]:
        return expression
    classified = [line.rpartition(" :: ")[2] for line in facts.get_all("Classifier") or () if "License ::" in line]
    stated = classified or [(facts["License"] or "not stated").strip().splitlines()[0][:60]]
    return ", ".join(sorted(set(stated)))


def page() -> str:
    """The whole page."""
    ours = distribution("exposurediffusion")
    lines, seen = [HEAD], {canonicalize_name("exposurediffusion")}
    for extra in ("", *sorted(ours.metadata.get_all("Provides-Extra") or ())):
        found = {canonicalize_name(each.name): each for each in closure("exposurediffusion", frozenset({extra}))}
        new = sorted(found.keys() - seen)
        seen |= found.keys()
        if new:
            title = f"Extra `{extra}`" if extra else "Always"
            lines.append(f"## {title}\n\n| package | version | licence |\n|---|---|---|\n")
            for each in (found[name] for name in new):
                lines.append(f"| {each.name} | {each.version.partition('+')[0]} | {licence(each)} |\n")
            lines.append("\n")
    return "".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
