"""The server on Ray: two nodes on this machine, replicas and a node that are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from building import command

from gsvexport.artifact import container
from gsvexport.files import sha256_bytes
from gsvexport.registry.index import published
from gsvexport.registry.places import FolderPlace

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server runs under Linux")

BODY = {"model": "gsvexport", "voice": "alice", "input": "Hi.", "response_format": "wav"}


def children(pid, name):
    """Processes of a node's raylet whose title has `name` in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and name in (path / "cmdline").read_bytes().decode("utf-8", "replace"):
                found.append(int(path.name))
    return found


def raylet(node):
    return node.all_processes["raylet"][0].process.pid


@pytest.fixture(scope="module")
def cluster(shelf):
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # Ray's workers would stand behind everything else on a busy machine.
        own = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
        for name, value in {**shelf[1], **own}.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        made.add_node(num_cpus=2)
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def served(cluster, shelf, tmp_path_factory, pytestconfig):
    """`gsvexport serve --ray`: a client of it. Its replicas are two when there is time."""
    count = 2 if pytestconfig.getoption("--thorough") else 1
    work = tmp_path_factory.mktemp("ray")
    line, environment = command(work, "serve", shelf[0], "--ray", "--port", 0, "--most-replicas", count, "--rows", 2)
    environment |= shelf[1] | {"RAY_ADDRESS": cluster.address, "GSVEXPORT_SERVE_REPLICAS": str(count)}
    log = work / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=out, text=True) as process,
    ):
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), log.read_text()
        with httpx.Client(base_url=address, timeout=120) as client:
            yield client
        process.terminate()
        assert process.wait(60) == 0, log.read_text()


def test_the_same_application_answers(served, server):
    client = served
    here = server.say("Hi.").content
    assert client.post("/v1/audio/speech", json=BODY).content == here
    assert client.post("/v1/audio/speech", json={**BODY, "voice": "bob"}).status_code == 200
    wrong = client.post("/v1/audio/speech", json={**BODY, "voice": "nobody"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (404, "voice_not_found")
    wrong = client.post("/v1/audio/speech", json={**BODY, "input": "\u0e01"})  # the replica says so
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "cannot_be_spoken")
    with client.stream("POST", "/v1/audio/speech", json={**BODY, "stream": True}) as answer:
        pieces = [one for one in answer.iter_raw() if one]
    assert len(pieces) > 1
    assert client.get("/").headers["content-type"].startswith("text/html")
    assert [one["id"] for one in client.get("/voices").json()["voices"]] == ["alice", "bob", "carol"]


@pytest.fixture
def load(served, server):
    """Four callers who ask and ask; the function waits until so many more were answered. At the end nobody was lost."""
    expected = {seed: server.say("Hi.", seed=seed).content for seed in range(4)}
    found, errors, end = [], [], threading.Event()

    def caller(seed):
        try:
            with httpx.Client(base_url=served.base_url, timeout=120) as own:
                while not end.is_set():
                    answer = own.post("/v1/audio/speech", json={**BODY, "seed": seed})
                    found.append((answer.status_code, answer.content == expected[seed]))
        except httpx.HTTPError as error:
            errors.append(error)

    callers = [threading.Thread(target=caller, args=(seed,)) for seed in range(4)]
    for one in callers:
        one.start()

    def more(count):
        until, have = time.monotonic() + 120, len(found)
        while len(found) < have + count:
            assert time.monotonic() < until
            time.sleep(0.02)

    try:
        yield more
    finally:
        end.set()
        for one in callers:
            one.join()
    assert not errors
    assert {status for status, _ in found} <= {200, 503}
    assert all(same for status, same in found if status == 200)
    assert served.post("/v1/audio/speech", json=BODY).content == expected[0]


def test_a_replica_that_is_killed_under_load_loses_nobody(cluster, load):
    load(6)
    replica = next(pid for node in cluster.list_all_nodes() for pid in children(raylet(node), "gsvexport:Speaker"))
    os.kill(replica, signal.SIGKILL)
    load(6)


@pytest.mark.thorough
def test_the_builds_of_a_release_meet_in_a_repository(cluster, shelf, tmp_path):
    from gsvexport.synthetic import write_voice

    write_voice(tmp_path / "voice")
    (tmp_path / "meet").mkdir()

    def release(*voices):
        options = ("--ray", "--meet", tmp_path / "meet", "--compress", "fast", "-t", "x86-64", "-o", tmp_path / "out")
        line, environment = command(tmp_path, "release", *voices, *options)
        environment |= shelf[1] | {"RAY_ADDRESS": cluster.address}
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)

    done = release(tmp_path / "voice", tmp_path / "nowhere")
    assert done.returncode not in (0, 1, 5), done.stderr
    assert "nowhere for x86-64: on " in done.stderr
    assert not list((tmp_path / "out").glob("*.gsv"))
    done = release(tmp_path / "voice")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").glob("*.gsv")
    assert "SHA256SUMS" in os.listdir(tmp_path / "out")
    listed = published(FolderPlace(tmp_path / "meet"))
    assert [one.entry.manifest for one in listed] == [sha256_bytes(container.manifest_bytes(path))]


@pytest.mark.thorough
def test_a_node_that_is_killed_under_load_loses_nobody(cluster, load):
    (other,) = cluster.worker_nodes
    assert children(raylet(other), "gsvexport:Speaker")
    load(8)
    cluster.remove_node(other, allow_graceful=False)
    load(8)
