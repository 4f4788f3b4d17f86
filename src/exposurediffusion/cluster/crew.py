"""The workers of a batch on a Ray cluster, of one machine or many."""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import inf
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nobody is told what is done here
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of its next version

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from exposurediffusion.cluster.items import Item
from exposurediffusion.cluster.worker import Work, Worker
from exposurediffusion.photographs.failures import reason

MOST_LOSSES = 3
"""A photograph whose workers are lost so many times is given up."""
_MEMORY = 3e9  # bytes that a worker on the processor may need, as a frame of 61 megapixels does
_QUIET: Mapping[str, Any] = {"log_to_driver": False, "logging_level": "critical"}


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A cluster to work on: the one at an address, or this machine alone.

    Args:
        address: HOST:PORT of its head, or auto: the one that this machine belongs to; None: this machine alone.

    Raises:
        ValueError: no cluster answers there, or it is of another version.
    """
    short = "/tmp" if os.path.isdir("/tmp") else None  # names of sockets must not be long
    with (
        TemporaryDirectory(prefix="expose-ray-", dir=short, ignore_cleanup_errors=True)
        if address is None
        else nullcontext() as place
    ):
        if address is None:
            ray.init("local", include_dashboard=False, object_store_memory=1 << 29, _temp_dir=place, **_QUIET)
        else:
            _join(address)
        try:
            yield
        finally:
            ray.shutdown()


def _join(address: str) -> None:
    remedy = "`ray start --head` begins one; without --address this machine works alone"
    host, _, port = address.rpartition(":")
    try:
        if address != "auto" and (not host or not port.isdecimal()):
            raise ValueError(f"--address {address}: neither HOST:PORT nor auto")
        if address != "auto":
            socket.create_connection((host, int(port)), timeout=10).close()  # Ray itself would wait for a minute
        ray.init(address, **_QUIET)
    except ConnectionError as error:
        without = "none runs on this machine" if address == "auto" else "or it wants its RAY_AUTH_TOKEN"
        why = error.strerror or without
        raise ValueError(f"--address {address}: no cluster answers, {why}; {remedy}") from error
    except (OSError, OverflowError) as error:
        raise ValueError(f"--address {address}: no cluster answers, {error}; {remedy}") from error
    except RuntimeError as error:
        raise ValueError(f"--address {address}: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class Share:
    """What of a machine one worker has.

    Attributes:
        cpus, gpus: of Ray.
        device: where its network runs.
    """

    cpus: float
    gpus: float
    device: str

    @property
    def threads(self) -> int:
        """That compute."""
        return max(1, int(self.cpus))


def shares(resources: Mapping[str, float], device: str, workers: int | None) -> list[Share]:
    """How a machine is shared out.

    A machine with GPUs has two workers for each, so that one computes while the other reads and writes. One without
    has a worker for each processor, fewer where memory is short.

    Args:
        resources: of the machine, as Ray names them.
        device: auto, cpu, cuda or mps.
        workers: how many; None: as above.
    """
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if not cpus or (device == "cuda" and not gpus):
        return []
    if gpus and device in ("auto", "cuda"):
        each = max(1, round(workers / gpus)) if workers else 2
        return [Share(min(cpus / (each * gpus), max(1, cpus // (each * gpus))), 1 / each, "cuda")] * (each * gpus)
    count = min(
        workers or (1 if device == "mps" else max(1, min(cpus, int(resources.get("memory", 0) // _MEMORY)))), cpus
    )
    return [Share(cpus // count, 0, "cpu" if device == "auto" else device)] * count


@dataclass(frozen=True)
class Member:
    """A worker: its process, and the machine that it is on, by Ray's name and by its own."""

    actor: Any
    node: str
    host: str


class Crew:
    """Workers on all machines of the cluster; those that are lost are replaced, those that come later join in.

    Attributes:
        work: that they do, in Ray's store.
        device: auto, cpu, cuda or mps.
        workers: on each machine; None: as `shares` has it.
        note: is told what people should know.
    """

    def __init__(self, work: Work, device: str, workers: int | None, note: Callable[[str], object]) -> None:
        self.work, self.device, self.workers, self.note = ray.put(work), device, workers, note
        self.starting: dict[Any, Member] = {}
        self.idle: list[Member] = []
        self.busy: dict[Any, tuple[Member, Item]] = {}
        self._barred: dict[str, str] = {}
        self._falls: Counter[str] = Counter()
        self._mustered, self._served = -inf, False

    def members(self) -> Counter[str]:
        """How many are at work on each machine."""
        return Counter(member.host for member in [*self.idle, *(member for member, _ in self.busy.values())])

    def enhance(self, items: Iterable[Item], ratio: float | None) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Do photographs, with this ratio if there is one for all; yields each with what `Worker.enhance` says.

        As many are under way as there are workers: who takes the results slowly slows the workers down.

        Raises:
            ValueError: no machine can serve.
        """
        yield from self._do(
            items,
            lambda actor, item: actor.enhance.remote(item, ratio),
            lambda host, why: {"error": why, "machine": host, "seconds": 0.0},
        )

    def ratios(self, items: Iterable[Item]) -> Iterator[float | None]:
        """The ratio of each photograph alone, in any order; None: it cannot be read."""
        for _, ratio in self._do(items, lambda actor, item: actor.ratio.remote(item), lambda host, why: None):
            yield ratio

    def _do(
        self, items: Iterable[Item], call: Callable[[Any, Item], Any], failed: Callable[[str, str], Any]
    ) -> Iterator[tuple[Item, Any]]:
        waiting, losses = deque(items), Counter[Item]()
        while waiting or self.busy:
            self._muster()
            while waiting and self.idle:
                member, item = self.idle.pop(), waiting.popleft()
                self.busy[call(member.actor, item)] = member, item
            under_way = [*self.busy, *self.starting]
            if not under_way:
                sleep(1)  # until another machine comes
                continue
            for reference in ray.wait(under_way, timeout=1)[0]:
                if reference in self.starting:
                    self._receive(reference)
                    continue
                member, item = self.busy.pop(reference)
                try:
                    outcome = ray.get(reference)
                    self.idle.append(member)
                except RayTaskError as error:
                    outcome = failed(member.host, f"{item.source}: {reason(error.cause)}")
                    self.idle.append(member)
                except RayError:
                    losses[item] += 1
                    if losses[item] < MOST_LOSSES:
                        self.note(f"{member.host}: a worker was lost; {item.source} is done once more")
                        waiting.appendleft(item)
                        continue
                    outcome = failed(
                        member.host,
                        f"{item.source}: given up, {MOST_LOSSES} workers were lost over it (a file that no decoder "
                        "survives, not enough memory, or machines that went away)",
                    )
                yield item, outcome

    def _receive(self, reference: Any) -> None:
        """A worker that was started is ready, or its machine cannot serve."""
        member = self.starting.pop(reference)
        try:
            ray.get(reference)
            self.idle.append(member)
            if not self._served:
                self._served = True
                for why in self._barred.values():
                    self.note(f"left out: {why}")
        except RayTaskError as error:
            self._bar(member.node, reason(error.cause))
        except RayError as error:
            self._falls[member.node] += 1
            if self._falls[member.node] == MOST_LOSSES:
                last = str(error).strip().splitlines()[-1]
                self._bar(member.node, f"{member.host}: workers end as they begin ({last})")

    def _bar(self, machine: str, why: str) -> None:
        """Start no more workers on a machine."""
        if machine not in self._barred and self._served:
            self.note(f"left out: {why}")
        self._barred.setdefault(machine, why)

    def _muster(self) -> None:
        """See once a second which machines are there, and start the workers that are missing."""
        if monotonic() - self._mustered < 1:
            return
        self._mustered = monotonic()
        machines = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        self.idle = [member for member in self.idle if member.node in machines]
        members = [*self.idle, *self.starting.values(), *(member for member, _ in self.busy.values())]
        there = Counter(member.node for member in members)
        for name, machine in machines.items():
            host, wanted = machine["NodeManagerHostname"], shares(machine["Resources"], self.device, self.workers)
            if not wanted:
                self._bar(name, f"{host}: it has no {'GPU' if self.device == 'cuda' else 'processor'} for workers")
            for share in wanted[there[name] :] if name not in self._barred else []:
                self._start(share, name, host)
        if not (self._served or members or self.starting):
            raise ValueError("; ".join(self._barred.values()))

    def _start(self, share: Share, node: str, host: str) -> None:
        where: Any = NodeAffinitySchedulingStrategy(node, soft=False)
        begin: Any = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, scheduling_strategy=where)(Worker)
        actor = begin.remote()
        self.starting[actor.begin.remote(self.work, share.device, share.threads)] = Member(actor, node, host)
