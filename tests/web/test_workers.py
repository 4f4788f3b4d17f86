"""A worker may die, and the next call goes on."""

import asyncio
import os
import signal

import pytest

from exposurediffusion.web import workers
from exposurediffusion.web.workers import NotWanted, Worker, WorkerDied


def test_the_next_call_after_a_death_is_done_by_a_new_process():
    workers.CONTEXT.set_forkserver_preload([])  # nothing heavy is needed here

    async def live() -> None:
        worker = Worker(print)
        first = await worker.do(os.getpid)
        assert first == await worker.do(os.getpid) != os.getpid()
        with pytest.raises(WorkerDied, match="try again"):
            await worker.do(os._exit, 9)
        assert await worker.do(os.getpid) != first
        with pytest.raises(ValueError, match="no/such: No such file"):
            await worker.do(os.listdir, "no/such")
        os.kill(await worker.do(os.getpid), signal.SIGKILL)
        await asyncio.sleep(0.5)
        assert await worker.do(abs, -2) == 2  # one that died while nothing was to be done is not missed

        async def gone() -> bool:
            return False

        with pytest.raises(NotWanted):
            await worker.do(os._exit, 9, wanted=gone)
        assert await worker.do(abs, -3) == 3
        await asyncio.to_thread(worker.stop)

    asyncio.run(live())
