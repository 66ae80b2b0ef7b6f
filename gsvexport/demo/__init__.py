"""The built-in demo voice: a small English v2 voice that speaks. Unpacked on first use into the user's cache."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import cache_directory, disk_errors, remove_dead, sha256_file, sha256_once, temporary_directory
from gsvexport.system import disk
from gsvexport.untrusted.reading import inside, read_bytes

ARCHIVE = Path(__file__).parent / "demo-voice.tar.xz"
NOTICE = Path(__file__).parent / "NOTICE"
SHA256 = "0ba51aba74ec2dd0d4b333fc89f27e159c83a5d4563a72692c27b29ae5ebe432"
FILES = {  # SHA-256 and size
    "gpt.ckpt": ("88f80e942fa2787d529896c4161e40072013c40efad13a1f124963b2861b876c", 5038580),
    "reference.json": ("54f12f8647351b614b88d85db06a47c7ce8d438e19e3873d97a77fd0a9044d54", 766),
    "reference.wav": ("902e305d559dcbe82dfb4a88cb207b9a9d3f29f2b1b78267ff1f432759bbc9af", 194604),
    "reference_codes.npy": ("1614e4116615169087d4a91b177b4ddf48b88cde6ac2a5c58395f35aedddf431", 736),
    "sovits.pth": ("84c626aa8aa6eeb7fac7e6dbc9951a893ff1147a6d86cf359b66914337688615", 41169583),
    "tests.json": ("aaef2f842be3f7113419564af12f97e770e29dde80203622e4cd1e2a632a8319", 8404),
}
SIZES = {name: size for name, (_, size) in FILES.items()}
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


@dataclass(frozen=True)
class Sentence:
    """A sentence that the demo voice was not trained on: its text and its phone ids [X]."""

    text: str
    phones: tuple[int, ...]


def demo_voice() -> Path:
    """The folder of the demo voice, with its `voice.toml` and notice.

    Raises:
        EnvironmentProblem: the bundled archive is damaged, or the cache cannot be written.
    """
    folder = cache_directory("demo", SHA256[:16])
    if _complete(folder):
        return folder
    if not ARCHIVE.is_file() or sha256_file(ARCHIVE) != SHA256:
        raise EnvironmentProblem(f"the demo voice {ARCHIVE} is absent or damaged", fix="install gsvexport again")
    with disk_errors(folder), temporary_directory(folder) as work:
        remove_dead(folder.parent)
        _unpack(work / "new")
        if not _complete(folder):  # another process may have been faster
            disk.remove_tree(folder)
            with contextlib.suppress(OSError):
                disk.rename(work / "new", folder)
    if not _complete(folder):
        raise EnvironmentProblem(f"the demo voice cannot be unpacked to {folder}", fix="remove that folder")
    return folder


def sentences() -> list[Sentence]:
    """Sentences to try the demo voice with.

    Raises: as `demo_voice`.
    """
    entries = json.loads((demo_voice() / "tests.json").read_text(encoding="utf-8"))
    return [Sentence(entry["text"], tuple(entry["phone_ids"])) for entry in entries]


def _complete(folder: Path) -> bool:
    """Whether every byte of it is there; read once in a process."""
    wanted = {**{name: digest for name, (digest, _) in FILES.items()}, NOTICE.name: sha256_once(NOTICE)}
    try:
        same = all(sha256_once(inside(folder, name)) == digest for name, digest in wanted.items())
        return same and read_bytes(inside(folder, "voice.toml"), 1 << 16) == _toml(folder)
    except (OSError, ValueError):
        return False


def _unpack(folder: Path) -> None:
    """Unpack the archive, whose hash is known, and add what makes it a voice."""
    folder.mkdir()
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        found = {member.name: member for member in archive if member.isfile()}
        if {name: member.size for name, member in found.items()} != SIZES:
            raise EnvironmentProblem(f"{ARCHIVE} does not hold the demo voice", fix="install gsvexport again")
        for name, member in found.items():
            data = archive.extractfile(member)
            assert data is not None
            with data, open(folder / name, "wb") as out:
                shutil.copyfileobj(data, out)
    shutil.copyfile(NOTICE, folder / NOTICE.name)
    (folder / "voice.toml").write_bytes(_toml(folder))


def _toml(folder: Path) -> bytes:
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    return _TOML.format(text=json.dumps(reference["text"]), phones=reference["phone_ids"]).encode()
