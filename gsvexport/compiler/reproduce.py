"""Build a voice twice, in surroundings that differ in whatever should not matter, and compare the bytes.

    python -m gsvexport.compiler.reproduce --target x86-64-int8 [VOICE]

Each build has a cache, a folder, a home, a time zone, a umask, a hash seed, a locale and a number of processor cores of
its own, and its copy of the voice lies elsewhere and has other times. Engines that were built ahead of time differ from
build to build, which the manifest says: they are named, and everything else is compared (`--engine on-device` leaves
them out).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.errors import BackendError
from gsvexport.files import sha256_file
from gsvexport.target.target import ENGINES

_SURROUNDINGS = (
    {"TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "1", "LC_ALL": "C", "umask": "022", "cores": ""},
    {"TZ": "Pacific/Niue", "PYTHONHASHSEED": "4242", "LC_ALL": "C.UTF-8", "umask": "077", "cores": "1"},
)


@dataclass(frozen=True)
class Built:
    """One build: SHA-256 of the file, the artifact's digest, SHA-256 of each member's content, and seconds; the members
    that the manifest says no second build repeats, and the digest without them."""

    sha256: str
    digest: str
    members: dict[str, str]
    seconds: float
    unrepeatable: tuple[str, ...] = ()
    repeatable: str = ""


def build_in(place: Path, voice: Path | None, target: str, surroundings: dict[str, str], *options: str) -> Built:
    """Build below the folder `place`, in a process of its own.

    Raises:
        BackendError: the build failed; with what it said.
    """
    environment = {**os.environ, **surroundings, "HOME": str(place), "GSVEXPORT_CACHE": str(place / "cache")}
    del environment["umask"], environment["cores"]
    environment["PYTHONUTF8"] = "1"
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    if voice is not None:
        copied = Path(shutil.copytree(voice, place / "voice" / voice.name, copy_function=shutil.copyfile))
        for path in copied.rglob("*"):
            os.utime(path, (86400, 86400 * len(place.name)))

    def surround() -> None:
        os.umask(int(surroundings["umask"], 8))
        if surroundings["cores"] and sys.platform == "linux":
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(surroundings["cores"])])

    line = [sys.executable, "-m", "gsvexport", "--target", target, "-o", str(place / "out"), "-q", *options]
    line += [str(copied)] if voice is not None else []
    start = time.monotonic()
    before = surround if os.name == "posix" else None
    done = subprocess.run(
        line, env=environment, cwd=place, capture_output=True, encoding="utf-8", check=False, preexec_fn=before
    )
    if done.returncode:
        raise BackendError(f"the build in {place} failed", found=done.stderr.strip())
    (path,) = (place / "out").glob("*.gsv")
    manifest = container.read_manifest(path)
    members = {name: member.sha256 for name, member in manifest.files.items()}
    seconds, rest = time.monotonic() - start, manifest.repeatable.digest
    return Built(sha256_file(path), manifest.digest, members, seconds, manifest.unrepeatable, rest)


def differing(one: Built, other: Built) -> list[str]:
    """The members whose content is not the same in both."""
    names = sorted({*one.members, *other.members})
    return [name for name in names if one.members.get(name) != other.members.get(name)]


def verdict(first: Built, second: Built) -> tuple[bool, str]:
    """Whether two builds gave the same, as far as their manifests promise it, and that in words."""
    if first.sha256 == second.sha256:
        return True, "equal bytes"
    known = set(first.unrepeatable) & set(second.unrepeatable)
    changed = differing(first, second)
    others = [name for name in changed if name not in known]
    if others:
        return False, f"{len(others)} members differ: {', '.join(others)}"
    if first.repeatable != second.repeatable or not changed:
        return False, "the manifests differ"
    told = (
        f"equal bytes but for {', '.join(changed)}: their compiler writes other bytes each time, as the manifest says"
    )
    return True, told


def twice(voice: Path | None, target: str, *options: str) -> list[Built]:
    """Both builds, one after the other."""
    found = []
    for number, surroundings in enumerate(_SURROUNDINGS):
        with tempfile.TemporaryDirectory(prefix=f"gsvexport-{'-elsewhere' * number}") as place:
            found.append(build_in(Path(place), voice, target, dict(surroundings), *options))
    return found


def main(arguments: Sequence[str]) -> int:
    """Print both digests; 1 when anything differs that has to be the same."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m gsvexport.compiler.reproduce", description=__doc__)
    parser.add_argument("voice", nargs="?", type=Path)
    parser.add_argument("--target", default="x86-64-int8")
    parser.add_argument("--engine", choices=ENGINES, help="as of a build")
    chosen = parser.parse_args(arguments)
    options = ["--engine", chosen.engine] if chosen.engine else []
    first, second = twice(chosen.voice and chosen.voice.resolve(), chosen.target, *options)
    for title, built in (("first", first), ("second", second)):
        print(f"{title:<7} SHA-256 {built.sha256}  digest {built.digest[:16]}  {built.seconds:.0f} s")  # noqa: T201
    same, told = verdict(first, second)
    print(told)  # noqa: T201
    return int(not same)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
