"""Which result belongs to which photograph."""

import pytest

from exposurediffusion.cluster.items import Item, pair
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions
from exposurediffusion.photographs.photograph import Format
from tests.frames import tiny_model


def paired(sources, output="/out", format: Format = "dng", finished=(), **options):
    return pair(sources, output, Enhancer(tiny_model(), EnhanceOptions(**options), ResultOptions()), format, finished)


def test_results_keep_the_places_of_their_raws():
    sources = {"/in/a.b.ARW": "/in", "/in/sub/c.dng": "/in", "s3://x/y/d.NEF": "s3://x", "/in/bare": "/in"}
    items, refused = paired(sources, "s3://bucket/clean", "jpeg")
    assert [item.target.removeprefix("s3://bucket/clean/") for item in items] == [
        "a.b.jpg",
        "sub/c.jpg",
        "y/d.jpg",
        "bare.jpg",
    ]
    assert not refused


def test_of_two_that_would_overwrite_each_other_the_one_that_is_done_stays():
    sources = {"/in/a.ARW": "/in", "/in/a.NEF": "/in"}
    for finished, winner, loser in (((), ".ARW", ".NEF"), (("/in/a.NEF",), ".NEF", ".ARW")):
        items, refused = paired(sources, finished=finished)
        assert items == [Item(f"/in/a{winner}", "/out/a.dng")]
        assert refused == {f"/in/a{loser}": refused[f"/in/a{loser}"]}
        assert f"the result of /in/a{winner}" in refused[f"/in/a{loser}"]


def test_maps_are_results_too():
    sources = {"/in/a.ARW": "/in", "/in/a-spread.ARW": "/in"}
    assert not paired(sources, format="tiff")[1]
    assert paired(sources, format="tiff", samples=2, steps=1)[1]


def test_a_result_never_replaces_its_raw():
    with pytest.raises(ValueError, match=r"/in/a\.dng: its result would replace it; choose another output folder"):
        paired({"/in/a.dng": "/in"}, "/in")
