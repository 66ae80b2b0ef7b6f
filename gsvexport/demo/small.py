"""The small demo voice inside the wheel: a v2 voice of this project's own, unpacked on first use into the cache."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from gsvexport.demo import cached
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import sha256_file, sha256_once

ARCHIVE = Path(__file__).parent / "demo-voice.tar.xz"
NOTICE = Path(__file__).parent / "NOTICE"
SHA256 = "e9178f68eee930a4d92114482c29f16d638b2ea9b9a37c09223072d7a451600d"
FILES = {
    "gpt.ckpt": "0a1d5ad44542c578881b96eee12815c9dc0de10901749837c6634fd66ebbb651",
    "reference.json": "54f12f8647351b614b88d85db06a47c7ce8d438e19e3873d97a77fd0a9044d54",
    "reference.wav": "902e305d559dcbe82dfb4a88cb207b9a9d3f29f2b1b78267ff1f432759bbc9af",
    "reference_codes.npy": "1614e4116615169087d4a91b177b4ddf48b88cde6ac2a5c58395f35aedddf431",
    "sovits.pth": "84c626aa8aa6eeb7fac7e6dbc9951a893ff1147a6d86cf359b66914337688615",
    "tests.json": "aaef2f842be3f7113419564af12f97e770e29dde80203622e4cd1e2a632a8319",
}
_TOML = "fb0cde9ec7a018430769c26c9cceda8f96f8687d6a5747aab653297c19c9434b"
_LARGEST = 64 << 20  # bytes of all files together


def folder() -> Path:
    """The folder of the voice, with its `voice.toml` and notice.

    Raises:
        EnvironmentProblem: the bundled archive is damaged, or the cache cannot be written.
    """
    known = {**FILES, "voice.toml": _TOML, NOTICE.name: sha256_once(NOTICE)}
    return cached.folder(SHA256[:16], tuple(known), write, known)


def write(where: Path) -> None:
    """Unpack the archive, whose hash is known, into an empty folder, and add what makes it a voice.

    Raises: as `folder`.
    """
    if not ARCHIVE.is_file() or sha256_file(ARCHIVE) != SHA256:
        raise EnvironmentProblem(f"the demo voice {ARCHIVE} is absent or damaged", fix="install gsvexport again")
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        for name, data in cached.members(archive, tuple(FILES), _LARGEST).items():
            (where / name).write_bytes(data)
    (where / NOTICE.name).write_bytes(NOTICE.read_bytes())
    (where / "voice.toml").write_bytes(cached.toml(json.loads((where / "reference.json").read_bytes())))
