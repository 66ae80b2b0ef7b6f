"""A budget of memory, measured in a process of its own: what the first speech brings is no voice's, and what a long
sentence took comes back."""

import json
import os
import subprocess
import sys

import pytest
from shelved import make

from gsvexport.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from Linux' /proc")

# Two voices that share no graph, in turn, a long text among them: growth after each.
CODE = """
import asyncio, io, json, sys
from gsvexport.serve.app import Service
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.logs import Log
from gsvexport.serve.settings import Settings
from gsvexport.serve.speech import Wish

async def main():
    settings = Settings(voices=(sys.argv[1],), threads=1, memory=int(sys.argv[2]), watch=0)
    service, log = None, io.StringIO()
    service = Service(settings, Gatherer(settings), Log(log))
    before = service.desk.pool.growth
    await service.start()
    begun, most = service.desk.pool.growth, 0
    for number in range(6):
        offer = list(service.catalogue.offers.values())[number % 2]
        async with service.desk.speech(Wish(offer, "Good morning to you. " * (12 if number == 2 else 1))) as speech:
            while await speech.next() is not None:
                pass
        await asyncio.sleep(0.2)  # what is over the budget is looked at now
        most = max(most, service.desk.pool.growth)
    opened = [json.loads(line) for line in log.getvalue().splitlines()]
    await service.stop()
    await service.desk.close()
    sizes = [one["grown"] for one in opened if one["event"] in ("opened", "warm") and one["grown"]]
    print(json.dumps({"begun": begun, "most": most, "largest": max(sizes), "left": service.desk.pool.growth}))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def two(parts, shelf, tmp_path_factory):
    """Two voices with graphs of their own."""
    files, _ = parts
    folder = tmp_path_factory.mktemp("two")
    make(parts, folder, "alice")
    own = tmp_path_factory.mktemp("own") / "files"
    own.mkdir()
    for path in files.rglob("*"):
        if path.is_file():
            (own / path.relative_to(files)).parent.mkdir(exist_ok=True)
            (own / path.relative_to(files)).write_bytes(path.read_bytes())
    (own / "NOTICE").write_text("Another voice.\n")  # so nothing is shared
    make((own, parts[1]), folder, "bob")
    return folder


def run(folder, home, memory):
    line = [sys.executable, "-c", CODE, str(folder), str(memory)]
    return subprocess.run(line, env={**os.environ, **home}, capture_output=True, text=True, check=False, timeout=240)


def test_a_small_budget_is_exceeded_by_one_voice_at_most(two, shelf):
    done = run(two, shelf[1], 80_000_000)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["begun"] < 1_000_000
    assert found["most"] <= 80_000_000 + found["largest"]
    assert found["left"] < 45_000_000, found  # with everything closed; a long sentence's memory is not among it


def test_a_budget_that_holds_no_voice_is_refused_with_the_figures(two, shelf, start):
    with pytest.raises(InputError, match="holds no voice") as error:
        start(voices=(str(two),), memory=100_000)
    text = str(error.value)
    assert "0.1 MB" in text
    assert "the smallest one here, took" in text
    assert "--memory " in text
