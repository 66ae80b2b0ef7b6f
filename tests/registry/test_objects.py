"""The same repository on an S3 server, and on whatever fsspec has."""

import json
import multiprocessing
import os
import sys

import pytest
from published import SHARED, make_artifact

from gsvexport.artifact import container
from gsvexport.cli import run
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.registry.collect import collect
from gsvexport.registry.index import published
from gsvexport.registry.places import open_place
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull

pytestmark = pytest.mark.slow

pytest.importorskip("fsspec")


@pytest.fixture(scope="module")
def server():
    moto = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    import boto3
    import botocore.config

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"voices-{os.urandom(4).hex()}"
    client = boto3.client("s3", config=botocore.config.Config(retries={"max_attempts": 1}))
    client.create_bucket(Bucket=name)
    return f"s3://{name}/team"


@pytest.fixture(params=["s3", "memory"])
def url(request):
    if request.param == "s3":
        yield request.getfixturevalue("bucket")
        return
    import fsspec

    yield "memory://voices/team"
    fsspec.filesystem("memory").store.clear()


def test_a_repository_on_an_object_store_does_what_a_folder_does(url, alice, key, tmp_path):
    place = open_place(url)
    assert published(place) == []
    [done] = publish([alice], place)
    assert done.new
    assert not publish([alice], open_place(url))[0].new
    other = make_artifact(tmp_path / "other", own=b"other")
    with pytest.raises(InputError, match="published already"):
        publish([other], place, version="1")
    [second] = publish([other], place)
    assert (second.entry.version, second.sent < len(SHARED)) == ("2", True)
    first, latest = published(place)
    assert first.entry == done.entry
    assert len(json.loads(place.read("index.json", 1 << 20))["entries"]) == 2
    pull(place, first, tmp_path / "one.gsv", (key,))
    assert (tmp_path / "one.gsv").read_bytes() == alice.read_bytes()
    assert pull(place, latest, tmp_path / "two.gsv", (key,)).reused > len(SHARED)
    assert collect(place).files == 0
    kept = collect(place, keep=1)
    assert kept.versions == 1
    assert kept.files >= 3
    assert [item.entry.version for item in published(open_place(url))] == ["2"]
    pull(place, latest, tmp_path / "three.gsv", (key,))


def test_a_beginning_is_gone_on_with(url, alice, key, tmp_path):
    from gsvexport.files import cache_directory, sha256_bytes

    place = open_place(url)
    publish([alice], place)
    part = cache_directory() / "members" / sha256_bytes(SHARED)[:2] / f"{sha256_bytes(SHARED)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(SHARED[:70_000])
    [item] = published(place)
    done = pull(place, item, tmp_path / "out.gsv", (key,))
    assert done.received < item.entry.size - 65_000
    assert not container.damage(tmp_path / "out.gsv")


def publish_one(url, path, barrier):
    barrier.wait()
    publish([path], open_place(url))


@pytest.mark.skipif(sys.platform == "win32", reason="a server that this process runs")
def test_publishers_at_once_lose_nothing_on_s3(bucket, tmp_path):
    paths = [make_artifact(tmp_path / str(number), own=b"%d" % number) for number in range(3)]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(paths))
    processes = [context.Process(target=publish_one, args=(bucket, path, barrier)) for path in paths]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(paths)
    place = open_place(bucket)
    assert [item.entry.version for item in published(place)] == ["1", "2", "3"]
    assert len({item.entry.manifest for item in published(place)}) == 3
    assert len(json.loads(place.read("index.json", 1 << 20))["entries"]) == 3


def test_a_bucket_that_is_not_there_or_refuses_is_an_error_of_the_machine(bucket, alice, monkeypatch, capfd):
    with pytest.raises(EnvironmentProblem):
        publish([alice], open_place("s3://no-such-bucket-here/x"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert run(["publish", str(alice), bucket, "-q"]) == 7
    assert "Traceback" not in capfd.readouterr().err


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(EnvironmentProblem, match="fsspec") as caught:
        open_place("s3://voices/team")
    assert "gsvexport[registry]" in str(caught.value)
