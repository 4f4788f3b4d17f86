"""The page's answers: pictures, results and maps; errors in one line, after which all goes on."""

import io
import shlex
import time

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.cli.main import main

WHOLE_FRAME = {"x": 0.5, "y": 0.5, "width": 1000, "height": 1000, "ratio": 50}


def picture(answer) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)


def finished(client) -> list[dict]:
    """The queue, once all is done."""
    orders = []
    for _ in range(400):
        orders = client.get("/api/orders").json()["orders"]
        if all(order["state"] not in ("waiting", "running") for order in orders):
            return orders
        time.sleep(0.02)
    raise AssertionError(orders)


def test_the_album_holds_the_raws_of_the_folder(client):
    assert [one["name"] for one in client.get("/api/photographs").json()["photographs"]] == [
        "later.dng",
        "night.dng",
        "torn.dng",
    ]


@pytest.mark.parametrize("form", ["dng", "jpeg"])
def test_saved_bytes_are_those_of_the_command_that_the_page_shows(client, key, folder, tiny_weights, form):
    asked = {"ratio": "50", "luma": "0.8", "ev": "0.5", "white_balance": "daylight", "steps": "1"}
    one = key("night.dng")
    client.post("/api/orders", json={"photographs": [one], "format": form, "asked": asked})
    (order,) = finished(client)
    assert order["state"] == "done"
    saved = client.get("/api/orders/1/file")
    assert saved.content == (folder / order["result"]).read_bytes()
    words = shlex.split(
        client.get(f"/api/photographs/{one}/command", params={**asked, "format": form}).json()["command"]
    )
    assert words[:2] == ["expose", "enhance"]
    assert main([*words[1:], "--weights", str(tiny_weights), "--overwrite"]) == 0
    assert (folder / order["result"]).read_bytes() == saved.content


def test_a_window_of_all_is_the_picture_that_is_saved(client, key, folder):
    one = key("night.dng")
    client.post("/api/orders", json={"photographs": [one], "format": "jpeg", "asked": {"ratio": "50"}})
    finished(client)
    saved = np.asarray(Image.open(folder / "night-enhanced.jpg")).astype(int)
    shown = picture(client.get(f"/api/photographs/{one}/view", params=WHOLE_FRAME))
    assert (shown == saved).all()
    before = picture(client.get(f"/api/photographs/{one}/view", params={**WHOLE_FRAME, "which": "before"}))
    assert before.shape == saved.shape
    assert np.abs(before - saved).mean() > 2


CONTROLS = {
    "ratio": "20",
    "steps": "3",
    "luma": "0.2",
    "chroma": "0.2",
    "ev": "1",
    "faithful": "off",
    "white_balance": "2,1,1",
    "black": "400",
    "samples": "2",
}


def test_every_control_changes_the_window(client, key):
    address = f"/api/photographs/{key('night.dng')}/view"
    usual = picture(client.get(address, params=WHOLE_FRAME))
    for control, value in CONTROLS.items():
        assert (picture(client.get(address, params={**WHOLE_FRAME, control: value})) != usual).any(), control
    assert (picture(client.get(address, params=WHOLE_FRAME)) == usual).all()  # what is kept is not spoilt


def test_the_whole_and_its_size(client, key):
    answer = client.get(f"/api/photographs/{key('night.dng')}/view")
    assert picture(answer).shape == (64, 80, 3)
    assert [answer.headers[f"x-photograph-{name}"] for name in ("width", "height")] == ["160", "128"]


@pytest.mark.parametrize("window", [{}, WHOLE_FRAME])
def test_the_exposure_develops(client, key, window):
    address, params = f"/api/photographs/{key('night.dng')}/step", {**window, "ratio": 50, "count": 4}
    steps = [client.get(address, params={**params, "number": number}).json() for number in (2, 0, 4, 1, 3)]
    assert sorted(step["exposure"] for step in steps) == pytest.approx([1, 13.25, 25.5, 37.75, 50])
    assert [step["exposure"] for step in steps] == pytest.approx([25.5, 1, 50, 13.25, 37.75])
    assert client.get(address, params={**params, "number": 5}).status_code == 422
    assert client.get(address, params={**params, "count": 99, "number": 0}).status_code == 422


def test_maps(client, key):
    address = f"/api/photographs/{key('night.dng')}/map"
    for window in ({}, WHOLE_FRAME):
        for name, options in (("mended", {}), ("overruled", {}), ("spread", {"samples": 2})):
            if window or name != "spread":
                assert picture(client.get(f"{address}/{name}", params={**window, **options})).shape[2] == 4
    refused = client.get(f"{address}/spread", params=WHOLE_FRAME)
    assert (refused.status_code, "samples" in refused.json()["error"]) == (422, True)
    assert client.get(f"{address}/history").status_code == 404


def test_a_damaged_file_is_one_line_and_the_next_is_shown(client, key):
    for what in ("view", "facts", "step?count=1&number=0"):
        answer = client.get(f"/api/photographs/{key('torn.dng')}/{what}")
        assert answer.status_code == 422
        assert "torn.dng" in answer.json()["error"]
        assert "\n" not in answer.json()["error"]
    one = key("night.dng")
    assert client.get(f"/api/photographs/{one}/thumbnail").status_code == 200
    assert client.get(f"/api/photographs/{one}/facts").json()["width"] == 160


WRONG = [
    {"ratio": "0.5"},
    {"ratio": "nan"},
    {"steps": "1.5"},
    {"luma": "2"},
    {"ev": "99"},
    {"faithful": "maybe"},
    {"white_balance": "1,0,1"},
    {"black": "-1"},
    {"samples": "1000"},
    {"x": "0.5"},
    {"x": "2", "y": "0", "width": "50", "height": "50"},
    {"x": "nan", "y": "0", "width": "1e400", "height": "50"},
    {"which": "beside"},
]


def test_what_no_control_can_be_set_to_is_one_line(client, key):
    address = f"/api/photographs/{key('night.dng')}/view"
    for wrong in WRONG:
        answer = client.get(address, params=wrong)
        assert answer.status_code == 422, wrong
        assert len(answer.json()["error"]) < 200


def test_the_queue_goes_on_keeps_and_replaces(client, key, folder):
    wish = {"photographs": [key(name) for name in ("torn.dng", "night.dng")], "asked": {"ratio": "50"}}
    client.post("/api/orders", json=wish)
    torn, night = finished(client)
    assert (torn["state"], night["state"]) == ("failed", "done")
    assert "torn.dng" in torn["message"]
    written = (folder / "night-enhanced.dng").stat().st_mtime_ns
    client.post("/api/orders", json={**wish, "photographs": wish["photographs"][1:]})
    assert finished(client)[-1]["state"] == "kept"
    assert (folder / "night-enhanced.dng").stat().st_mtime_ns == written
    client.post("/api/orders", json={**wish, "photographs": wish["photographs"][1:], "overwrite": True})
    assert finished(client)[-1]["state"] == "done"
    assert (folder / "night-enhanced.dng").stat().st_mtime_ns > written
    assert client.request("DELETE", "/api/orders").json()["orders"] == []
    assert client.get("/api/orders/1/file").status_code == 410


@pytest.mark.parametrize("wish", [b"", b"[]", b"{}", b'{"photographs": 5}', b'{"photographs": [], "format": "gif"}'])
def test_an_order_that_is_none_is_refused(client, wish):
    answer = client.post("/api/orders", content=wish)
    assert (answer.status_code, list(answer.json())) == (422, ["error"])
