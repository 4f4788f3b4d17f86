"""Small frames are cut into small tiles, where a test does not say otherwise."""

import pytest

from exposurediffusion.enhancement import tiles

LEAST_SIDE = tiles.LEAST_SIDE


@pytest.fixture(autouse=True)
def least_side(monkeypatch):
    """Sets the least side of tiles: none, until it is called."""

    def choose(side: int) -> None:
        monkeypatch.setattr(tiles, "LEAST_SIDE", side)

    choose(0)
    return choose
