"""The page on a folder of its own; what its workers do is done here, but where a test is about them."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from exposurediffusion.web import app, orders
from exposurediffusion.web.workers import NotWanted


class Here:
    """A worker that is this very process."""

    def __init__(self, begin, *arguments):
        begin(*arguments)

    async def do(self, function, *arguments, wanted=None):
        if wanted is not None and not await wanted():
            raise NotWanted
        return function(*arguments)

    def stop(self):
        pass


@pytest.fixture
def folder(dark_dng, tmp_path) -> Path:
    """Two good raws, a damaged one, and a picture."""
    place = tmp_path / "photos"
    place.mkdir()
    for name in ("night.dng", "later.dng"):
        shutil.copy(dark_dng, place / name)
    (place / "torn.dng").write_bytes(dark_dng.read_bytes()[:3000])
    (place / "no raw.png").write_bytes(b"no raw")
    return place


@pytest.fixture
def serve(folder, tiny_weights, tmp_path, monkeypatch):
    """Makes a client of a page; keywords of `make_app`."""
    monkeypatch.setattr(app, "Worker", Here)
    monkeypatch.setattr(orders, "Worker", Here)
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    opened = []

    def start(**options) -> TestClient:
        made = app.make_app((folder,), uploads, weights=str(tiny_weights), device="cpu", **options)
        opened.append(TestClient(made, base_url="http://127.0.0.1:8000"))
        return opened[-1].__enter__()

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve) -> TestClient:
    """Of a page as it is by default."""
    return serve()


@pytest.fixture
def key(client):
    """The page's name of a photograph."""

    def find(name: str) -> str:
        every = client.get("/api/photographs").json()["photographs"]
        return next(one["key"] for one in every if one["name"] == name)

    return find
