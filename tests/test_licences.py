"""Nothing for non-commercial use alone comes with the package, and the page says what does come."""

import re
from importlib.metadata import distribution

import pytest
from docs.licences import PAGE, closure, licence, page

FREE = re.compile(r"MIT|BSD|Apache|PSF|Python Software|ISC|Zlib|MPL|Mozilla|HPND|CC0|Unlicense|0BSD", re.IGNORECASE)
CLOSED = re.compile(r"non-?commercial|proprietary|GPL|research", re.IGNORECASE)


def test_what_always_comes_is_free_for_all() -> None:
    found = {each.name: licence(each) for each in closure("exposurediffusion")} | {"exposurediffusion": "Apache-2.0"}
    assert {"torch", "rawpy", "numpy", "scipy"} <= found.keys()
    assert not {name: text for name, text in found.items() if CLOSED.search(text) or not FREE.search(text)}


def test_the_check_sees_what_is_not() -> None:
    pytest.importorskip("bm3d")
    assert CLOSED.search(licence(distribution("bm3d")))
    assert "bm3d" not in {each.name for each in closure("exposurediffusion")}
    assert "bm3d" in {each.name for each in closure("exposurediffusion", frozenset({"baselines"}))}


def test_the_page_names_what_comes() -> None:
    always = page().partition("## Extra")[0]
    said = PAGE.read_text()
    names = re.findall(r"^\| (\S+) \|", always, re.MULTILINE)
    assert len(names) > 20
    assert not [name for name in names if f"| {name} |" not in said]
