"""A demo voice as a folder in the user's cache: made once, whole or not there, and read whole before it is believed."""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import (
    cache_directory,
    canonical_json,
    disk_errors,
    remove_dead,
    sha256_file,
    sha256_once,
    temporary_directory,
)
from gsvexport.system import disk
from gsvexport.untrusted.reading import inside, read_json

SUMS = "sums.json"
_TOML = """\
[voice]
name = "demo"
language = "en"
gpt = "gpt.ckpt"
sovits = "sovits.pth"

[reference]
audio = "reference.wav"
text = {text}
phones = {phones}
prompt_codes = "reference_codes.npy"
"""


def folder(
    name: str, files: Sequence[str], make: Callable[[Path], None], known: Mapping[str, str] | None = None
) -> Path:
    """The folder `name` among the demo voices of the cache, which holds `files`; `make` fills an empty one if need be.

    Its files are those of `known` (their SHA-256), or those whose sums were noted when it was made.

    Raises:
        EnvironmentProblem: the cache cannot be written, or what `make` raises.
    """
    where = cache_directory("demo", name)
    if complete(where, files, known):
        return where
    with disk_errors(where), temporary_directory(where) as work:
        remove_dead(where.parent)
        new = work / "new"
        new.mkdir()
        make(new)
        sums = {file: sha256_file(new / file) for file in files}
        (new / SUMS).write_bytes(canonical_json(sums).encode())
        if not complete(where, files, known):  # another process may have been faster
            disk.remove_tree(where)
            with contextlib.suppress(OSError):
                disk.rename(new, where)
    if not complete(where, files, known):
        raise EnvironmentProblem(f"the demo voice cannot be unpacked to {where}", fix="remove that folder")
    return where


def members(archive: tarfile.TarFile, names: Sequence[str], most: int) -> dict[str, bytes]:
    """The files of an archive, which are `names` and no others, of at most `most` bytes together.

    Raises:
        EnvironmentProblem: it holds other files.
    """
    found = {member.name: member for member in archive if member.isfile()}
    if set(found) != set(names) or sum(member.size for member in found.values()) > most:
        raise EnvironmentProblem(f"{archive.name!s} does not hold the demo voice", fix="install gsvexport again")
    data = {}
    for name, member in found.items():
        stream = archive.extractfile(member)
        assert stream is not None
        with stream:
            data[name] = stream.read()
    return data


def toml(reference: Mapping[str, Any]) -> bytes:
    """The `voice.toml` of a demo voice with this `reference.json`."""
    return _TOML.format(text=json.dumps(reference["text"]), phones=reference["phone_ids"]).encode()


def complete(where: Path, files: Sequence[str], known: Mapping[str, str] | None) -> bool:
    """Whether every byte of it is there; read once in a process."""
    try:
        sums = known if known is not None else read_json(inside(where, SUMS))
        return set(sums) == set(files) and all(sha256_once(inside(where, name)) == sums[name] for name in files)
    except (OSError, ValueError):
        return False
