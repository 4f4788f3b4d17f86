"""How machines are shared out, and what becomes of photographs whose workers are lost; a cluster of plain objects."""

from collections import Counter
from functools import partial

import pytest

pytest.importorskip("ray")

from exposurediffusion.cluster import crew as module
from exposurediffusion.cluster.crew import MOST_LOSSES, Crew, Share, shares
from exposurediffusion.cluster.items import Item
from exposurediffusion.cluster.worker import Work, versions
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions

GB = 1e9


@pytest.mark.parametrize(
    ("resources", "device", "workers", "shared"),
    [
        ({"CPU": 4, "memory": 64 * GB}, "auto", None, [Share(1, 0, "cpu")] * 4),
        ({"CPU": 16, "memory": 13 * GB}, "auto", None, [Share(4, 0, "cpu")] * 4),
        ({"CPU": 4, "memory": 1 * GB}, "cpu", None, [Share(4, 0, "cpu")]),
        ({"CPU": 4, "memory": 64 * GB}, "cpu", 2, [Share(2, 0, "cpu")] * 2),
        ({"CPU": 4, "memory": 64 * GB}, "cpu", 9, [Share(1, 0, "cpu")] * 4),
        ({"CPU": 16, "GPU": 2, "memory": 64 * GB}, "auto", None, [Share(4, 0.5, "cuda")] * 4),
        ({"CPU": 2, "GPU": 2}, "cuda", None, [Share(0.5, 0.5, "cuda")] * 4),
        ({"CPU": 16, "GPU": 2, "memory": 64 * GB}, "cuda", 2, [Share(8, 1, "cuda")] * 2),
        ({"CPU": 2, "GPU": 2, "memory": 64 * GB}, "cpu", None, [Share(1, 0, "cpu")] * 2),
        ({"CPU": 8, "memory": 64 * GB}, "cuda", None, []),
        ({"GPU": 0}, "auto", None, []),
        ({"CPU": 8, "memory": 64 * GB}, "mps", None, [Share(8, 0, "mps")]),
    ],
)
def test_shares(resources, device, workers, shared):
    assert shares(resources, device, workers) == shared
    assert sum(share.cpus for share in shared) <= resources.get("CPU", 0)
    assert sum(share.gpus for share in shared) <= resources.get("GPU", 0)
    assert all(share.threads >= 1 for share in shared)


class Cluster:
    """Ray as far as a crew needs it: calls are kept, and end one by one when somebody waits.

    Attributes:
        machines: names, with the processors of each.
        deadly: sources over which each worker is lost.
        faults: what `begin` raises, by machine.
    """

    class Actor:
        def __init__(self, cluster, machine):
            self.cluster, self.machine, self.lost = cluster, machine, False
            for name in ("begin", "enhance", "ratio"):
                setattr(self, name, self.Method(self, name))

        class Method:
            def __init__(self, actor, name):
                self.actor, self.name = actor, name

            def remote(self, *arguments):
                reference = object()
                self.actor.cluster.calls[reference] = self.actor, self.name, arguments
                return reference

    def __init__(self, **machines):
        self.machines, self.calls = machines, {}
        self.deadly, self.faults, self.most = set(), {}, 0

    def put(self, value):
        return value

    def nodes(self):
        return [
            {
                "NodeID": name.encode().ljust(28, b"0").hex(),
                "Alive": cpus > 0,
                "NodeManagerHostname": name,
                "Resources": {"CPU": cpus, "memory": 1e12},
            }
            for name, cpus in self.machines.items()
        ]

    def remote(self, *, num_cpus, num_gpus, scheduling_strategy):
        machine = bytes.fromhex(scheduling_strategy.node_id).decode().rstrip("0")
        return lambda _: type("Begin", (), {"remote": lambda _: self.Actor(self, machine)})()

    def wait(self, references, timeout):
        self.most = max(self.most, sum(self.calls[each][1] != "begin" for each in references))
        return [min(references, key=list(self.calls).index)], []

    def get(self, reference):
        actor, name, (first, *_) = self.calls.pop(reference)
        if name == "begin" and actor.machine in self.faults:
            raise self.faults[actor.machine]
        if not self.machines[actor.machine] or (name != "begin" and first.source in self.deadly):
            raise module.RayError("the worker died")
        return name if name == "begin" else {"by": actor.machine}


@pytest.fixture
def cluster(monkeypatch):
    made = Cluster(one=2, two=1)
    for name in ("put", "nodes", "remote", "wait", "get"):
        monkeypatch.setattr(module.ray, name, getattr(made, name))
    clock = iter(range(0, 10**9, 2))
    monkeypatch.setattr(module, "monotonic", lambda: next(clock))
    monkeypatch.setattr(module, "sleep", lambda seconds: made.machines.update(late=1))
    return made


@pytest.fixture
def begin(tiny_model):
    work = Work(Enhancer(tiny_model, EnhanceOptions(), ResultOptions()), "dng", versions(), ())
    return partial(Crew, work)


def items(number):
    return [Item(f"{n}.dng", "") for n in range(number)]


def test_all_machines_are_at_work_and_each_photograph_is_done_once(cluster, begin):
    crew = begin("auto", None, pytest.fail)
    done = list(crew.enhance(items(30), None))
    assert Counter(item.source for item, _ in done) == Counter(item.source for item in items(30))
    assert {outcome["by"] for _, outcome in done} == {"one", "two"}
    assert crew.members() == {"one": 2, "two": 1}


def test_who_takes_slowly_slows_the_workers_down(cluster, begin):
    crew = begin("auto", None, pytest.fail)
    for _ in crew.enhance(items(30), None):
        assert len(crew.busy) <= 3
    assert cluster.most == 3


def test_a_deadly_photograph_is_given_up_and_the_others_are_done(cluster, begin):
    cluster.deadly = {"4.dng"}
    notes = []
    done = {item.source: outcome for item, outcome in begin("auto", None, notes.append).enhance(items(9), None)}
    assert len(done) == 9
    assert [source for source, outcome in done.items() if "error" in outcome] == ["4.dng"]
    assert done["4.dng"]["error"].startswith(f"4.dng: given up, {MOST_LOSSES} workers were lost over it")
    assert len(notes) == MOST_LOSSES - 1
    assert list(begin("auto", None, notes.append).ratios([Item("4.dng", "")])) == [None]


def test_a_machine_that_goes_away_loses_nothing_and_one_that_comes_helps(cluster, begin):
    notes, done = [], []
    for item, outcome in begin("auto", None, notes.append).enhance(items(40), None):
        done.append((item.source, outcome["by"]))
        if len(done) == 10:
            cluster.machines["one"] = 0
        if len(done) == 20:
            cluster.machines["three"] = 1
    assert sorted(source for source, _ in done) == sorted(item.source for item in items(40))
    assert "one" in {by for _, by in done[:10]}
    assert "one" not in {by for _, by in done[13:]}
    assert "three" in {by for _, by in done[20:]}


def test_without_any_machine_it_waits_for_one(cluster, begin):
    done = []
    for _, outcome in begin("auto", None, lambda _: None).enhance(items(20), None):
        done.append(outcome["by"])
        if len(done) == 5:
            cluster.machines.update(one=0, two=0)
    assert len(done) == 20
    assert done[-1] == "late"


def test_a_machine_that_cannot_serve_is_left_out(cluster, begin):
    cluster.faults["two"] = module.RayTaskError("begin", "", ValueError("two has another version"))
    notes = []
    done = list(begin("auto", None, notes.append).enhance(items(9), None))
    assert {outcome["by"] for _, outcome in done} == {"one"}
    assert notes == ["left out: two has another version"]


def test_where_none_can_serve_it_ends(cluster, begin):
    cluster.faults = {
        "one": module.RayTaskError("begin", "", ValueError("one does not see it")),
        "two": module.RayError("no module\nnamed so"),
    }
    with pytest.raises(ValueError, match=r"one does not see it; two: workers end as they begin \(named so\)"):
        list(begin("auto", None, pytest.fail).enhance(items(3), None))
    with pytest.raises(ValueError, match="one: it has no GPU for workers"):
        list(begin("cuda", None, pytest.fail).enhance(items(3), None))
