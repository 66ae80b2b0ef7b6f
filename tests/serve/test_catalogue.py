"""What is served, and what is not unless that was asked for."""

import shutil
import subprocess
import sys

import pytest
from building import left
from shelved import make

from gsvexport.artifact import container
from gsvexport.artifact.signature import add_signature, sign
from gsvexport.errors import ArtifactError, InputError
from gsvexport.registry.places import FolderPlace
from gsvexport.registry.publish import publish
from gsvexport.serve.catalogue import judged
from gsvexport.serve.gather import gather
from gsvexport.serve.pool import open_offer
from gsvexport.serve.settings import Settings

STRICT, LOOSE = Settings(), Settings(allow_unsigned=True, allow_unverified=True, any_machine=True)


@pytest.fixture(scope="module")
def bad(parts, tmp_path_factory):
    """A folder of artifacts that are not in order, each in its own way."""
    folder = tmp_path_factory.mktemp("bad")
    made = {
        "unsigned": make(parts, folder, "unsigned", signed=False),
        "failed": make(parts, folder, "failed", report="failed"),
        "nothing": make(parts, folder, "nothing", report="none"),
        "unreported": make(parts, folder, "unreported", report=None),
        "elsewhere": make(parts, folder, "elsewhere", arch="s390x"),
        "stranger": make(parts, folder, "stranger", signed=False),
    }
    add_signature(made["stranger"], lambda data: sign(bytes(range(1, 33)), data))
    return made


@pytest.mark.parametrize(
    ("name", "says", "allowed"),
    [
        ("unsigned", "not signed by a trusted key", "allow_unsigned"),
        ("stranger", "not trusted here", "allow_unsigned"),
        ("failed", "checks that failed", "allow_unverified"),
        ("nothing", "nothing was compared", "allow_unverified"),
        ("unreported", "nothing was compared", "allow_unverified"),
        ("elsewhere", "another machine", "any_machine"),
    ],
)
def test_what_is_not_in_order_is_served_only_when_asked_for(bad, home, name, says, allowed):
    others = {one: True for one in ("allow_unsigned", "allow_unverified", "any_machine") if one != allowed}
    with pytest.raises(ArtifactError, match=says):
        judged(bad[name], Settings(**others))
    offer = judged(bad[name], Settings(**{allowed: True}))
    assert offer.verified.state == {"failed": "failed", "nothing": "none", "unreported": "none"}.get(name, "passed")
    assert offer.trusted is (name not in ("unsigned", "stranger"))


def test_the_others_of_a_folder_are_served_and_the_reasons_told(bad, shelf, home):
    folder = bad["failed"].parent
    with pytest.raises(ArtifactError, match="there is no voice that may be served") as told:
        gather(Settings(voices=(str(folder),)))
    assert len(told.value.problems) == len(bad)
    found = gather(Settings(voices=(str(folder), str(shelf[0])), allow_unverified=True))
    assert set(found.offers) == {"alice", "bob", "carol", "failed", "nothing", "unreported"}
    assert len(found.refused) == 3
    assert gather(Settings(voices=(str(shelf[0]), str(shelf[0] / "alice.gsv")))).offers.keys() == {
        "alice",
        "bob",
        "carol",
    }
    assert found.find("../alice") is None


def test_names_that_lead_nowhere_are_refused(shelf, home, tmp_path):
    voices = (str(shelf[0]),)
    with pytest.raises(InputError, match="dave is pinned"):
        gather(Settings(voices=voices, pin=("dave",)))
    with pytest.raises(InputError, match="bob is a voice"):
        gather(Settings(voices=voices, aliases={"bob": "alice"}))
    for wrong in ((), (str(tmp_path),), (str(tmp_path / "none"),)):
        with pytest.raises(InputError):
            gather(Settings(voices=wrong))


def test_what_was_judged_is_what_is_opened(bad, shelf, home, tmp_path):
    path = tmp_path / "alice.gsv"
    shutil.copy(shelf[0] / "carol.gsv", path)
    offer = judged(path, STRICT)
    open_offer(offer, STRICT).close()  # unpacked and checked by now
    shutil.copy(bad["unsigned"], path)
    opened = open_offer(offer, STRICT)  # still what was judged
    assert container.manifest_bytes(opened.folder) == offer.text
    opened.close()
    shutil.copy(bad["failed"], path)
    other = judged(path, LOOSE)
    shutil.copy(bad["nothing"], path)
    with pytest.raises(ArtifactError, match="was replaced"):
        open_offer(other, LOOSE)


def test_a_repository_serves_its_latest_version_for_this_machine(bad, shelf, home, tmp_path):
    root = tmp_path / "repository"
    place = FolderPlace(root)
    publish([shelf[0] / "alice.gsv", bad["elsewhere"], bad["unsigned"]], place)
    found = gather(Settings(voices=(str(root),)))
    assert set(found.offers) == {"alice"}
    assert found.offers["alice"].trusted
    assert len(found.refused) == 2
    assert left(root / "entries") == ["alice", "elsewhere", "unsigned"]
    open_offer(found.offers["alice"], STRICT).close()


MEASURED = """
from gsvexport.serve.memory import give_back, resident

before = resident()
held = [bytearray(b"x" * 32_768) for _ in range(1600)]  # in pieces that come from the heap, as a graph's do
grown = resident() - before
last = held[-1]  # it lies above the others, so that freeing them alone gives nothing back
del held
give_back()
print(grown, resident() - before)
"""


def test_memory_is_measured():
    # In a process of its own: in this one other tests' memory comes and goes.
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    grown, left_over = map(int, done.stdout.split())
    assert 50e6 < grown < 70e6
    assert left_over < 10e6
