"""Nothing is lost and nothing is done twice, whatever is killed: two machines (two raylets on this one), 500 files."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("ray")

from exposurediffusion.dng.writer import write_dng
from tests.frames import capture

SOUND, DISTINCT = 480, 8
BAD = {
    "empty": b"",
    "text": b"this is no raw file",
    "zeros": bytes(5000),
    "header": None,  # the beginning of a sound file, and no more
}


@pytest.fixture
def album(tmp_path) -> Path:
    """480 sound files of eight captures, and 20 bad ones of four kinds among them."""
    (tmp_path / "in").mkdir()
    sound = [
        write_dng(tmp_path / f"{n}.dng", capture(ratio=20.0 + 20 * n), compression="none").read_bytes()
        for n in range(DISTINCT)
    ]
    for number in range(SOUND):
        (tmp_path / "in" / f"{number:03}.dng").write_bytes(sound[number % DISTINCT])
    for number in range(20):
        content = list(BAD.values())[number % len(BAD)]
        (tmp_path / "in" / f"{24 * number:03}-bad.dng").write_bytes(sound[0][:4000] if content is None else content)
    return tmp_path / "in"


@pytest.fixture
def cluster():
    """Two machines with a processor each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


class Driver:
    """`expose batch` in a process of its own."""

    def __init__(self, *words):
        command = [sys.executable, "-m", "exposurediffusion", "batch", *map(str, words)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for(self, journal: Path, number: int) -> dict:
        """Until that many photographs came to an end; the line of the last."""
        while True:
            lines = journal.read_bytes().split(b"\n") if journal.exists() else []
            if len(lines) - 2 >= number:
                return json.loads(lines[-2])
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def end(self):
        """Its exit code, and what it said."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.mark.slow
@pytest.mark.cluster
def test_nothing_is_lost_and_nothing_is_done_twice(album, cluster, tiny_weights, tmp_path, capsys):
    second = cluster.add_node(num_cpus=1)
    out = tmp_path / "out"
    journal = out / "batch.jsonl"
    words = (album, "-o", out, "--weights", tiny_weights, "--address", cluster.address)
    began = time.monotonic()

    driver = Driver(*words)
    os.kill(driver.wait_for(journal, 60)["process"], signal.SIGKILL)  # a worker
    driver.wait_for(journal, 150)
    cluster.remove_node(second, allow_graceful=False)  # a machine
    driver.wait_for(journal, 200)
    cluster.add_node(num_cpus=1)  # another one
    driver.wait_for(journal, 300)
    driver.process.kill()
    _, _, said = driver.end()
    losses = re.findall(r"a worker was lost; (\S+) is done once more", said)
    assert len(losses) == len(set(losses)) == 2, said
    with open(journal, "ab") as stream:
        stream.write(b'{"input": "torn')
    ended = len(journal.read_bytes().splitlines()) - 2

    code, told, said = Driver(*words).end()
    seconds = time.monotonic() - began
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()][1:]
    with capsys.disabled():
        print(f"\n500 files, {seconds:.0f} s; {ended} before the driver was killed; lost: {losses}")
    assert code == 1
    assert f"{SOUND - sum(line['state'] == 'done' for line in lines[:ended])} done, " in told
    assert told.split(";")[0].endswith("20 failed")

    assert Counter(line["input"] for line in lines) == Counter(map(str, album.iterdir()))  # one end each
    failed = {line["input"]: line["error"] for line in lines if line["state"] == "failed"}
    assert sorted(failed) == sorted(str(path) for path in album.glob("*-bad.dng"))
    assert all(source in error for source, error in failed.items())

    results = {path.name: path.read_bytes() for path in out.iterdir() if path != journal}
    assert len(results) == SOUND
    some = [str(album / name) for name in sorted(results)[::12]]
    enhance = [sys.executable, "-m", "exposurediffusion", "enhance", *some, "-o", str(tmp_path / "ours")]
    subprocess.run([*enhance, "--weights", str(tiny_weights)], check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}.items() <= results.items()

    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    code, told, said = Driver(*words).end()
    assert (code, told.split(";")[0]) == (1, "0 done, 480 done before, 20 failed")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.slow
@pytest.mark.cluster
def test_nobody_else_gets_in():
    alone = "from exposurediffusion.cluster.token import draw\ndraw()\n"
    alone += "from exposurediffusion.cluster.crew import connected, ray\nwith connected(None):\n"
    alone += " print(ray.get_runtime_context().gcs_address, flush=True)\n input()"
    other = "import ray, sys\nray.init(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", alone], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        address = process.stdout.readline().decode().strip()
        strangers = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        told = subprocess.run([sys.executable, "-c", other, address], env=strangers, capture_output=True, text=True)
        process.communicate(b"\n")
    assert ":" in address
    assert told.returncode == 1
    assert "InvalidAuthToken" in told.stderr
