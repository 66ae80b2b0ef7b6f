"""The built-in demo voice: a small English v2 voice that speaks. Unpacked on first use into the user's cache."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import TEMPORARY_PREFIX, cache_directory, disk_errors, sha256_file

ARCHIVE = Path(__file__).parent / "demo-voice.tar.xz"
NOTICE = Path(__file__).parent / "NOTICE"
SHA256 = "0ba51aba74ec2dd0d4b333fc89f27e159c83a5d4563a72692c27b29ae5ebe432"
SIZES = {
    "gpt.ckpt": 5038580,
    "reference.json": 766,
    "reference.wav": 194604,
    "reference_codes.npy": 736,
    "sovits.pth": 41169583,
    "tests.json": 8404,
}
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
    folder = cache_directory() / "demo" / SHA256[:16]
    if _complete(folder):
        return folder
    if not ARCHIVE.is_file() or sha256_file(ARCHIVE) != SHA256:
        raise EnvironmentProblem(f"the demo voice {ARCHIVE} is absent or damaged", fix="install gsvexport again")
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=folder.parent))
        try:
            _unpack(work / "new")
            if not _complete(folder):  # another process may have been faster
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(FileExistsError, OSError):
                    os.rename(work / "new", folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)
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
    sizes = {**SIZES, NOTICE.name: NOTICE.stat().st_size}
    return (folder / "voice.toml").is_file() and all(
        (folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items()
    )


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
    reference = json.loads((folder / "reference.json").read_text(encoding="utf-8"))
    text = _TOML.format(text=json.dumps(reference["text"]), phones=reference["phone_ids"])
    (folder / "voice.toml").write_text(text, encoding="utf-8")
