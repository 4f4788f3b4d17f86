"""The queue alone: what is cancelled is not written."""

import asyncio

import pytest

from exposurediffusion.web import making, orders
from exposurediffusion.web.album import Photograph
from exposurediffusion.web.asked import Asked
from tests.web.conftest import Here


@pytest.fixture
def queue(tiny_weights, monkeypatch):
    monkeypatch.setattr(orders, "Worker", Here)
    return orders.Orders(str(tiny_weights), "cpu", None)


def states(queue) -> list[str]:
    return [entry["state"] for entry in queue.listing()]


def test_cancelled_before_and_while_it_runs(queue, folder, monkeypatch):
    first, second, third = queue.add(
        [Photograph(folder / name) for name in ("night.dng", "later.dng", "night.dng")], "dng", Asked(ratio=50.0), False
    )
    ticking, shares = making.tick, list[float]()

    def tick(share):
        if first.state == "running":
            queue.cancel(first)
            shares.append(queue.listing()[0]["share"])
        ticking(share)

    monkeypatch.setattr(making, "tick", tick)
    queue.cancel(second)

    async def serve():
        serving = asyncio.create_task(queue.serve())
        while "waiting" in states(queue) or "running" in states(queue):
            await asyncio.sleep(0.01)
            monkeypatch.setattr(making, "tick", ticking)
        serving.cancel()

    asyncio.run(serve())
    assert states(queue) == ["cancelled", "cancelled", "done"]
    assert shares == [0.0]
    assert [path.name for path in folder.glob("*-enhanced*")] == ["night-enhanced.dng"]
    assert third.seconds > 0
