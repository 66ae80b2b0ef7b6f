"""The referee: upstream's own numbers for tiny voices with random weights, one archive for each version.

Archives are looked for in `tests/data` (v2 is part of the repository) and in `shared/conformance` beside the checkout.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = (ROOT / "tests" / "data", ROOT.parent / "shared" / "conformance")


@dataclass(frozen=True, eq=False)
class Conformance:
    """One version: the folder with `gpt.ckpt`, `sovits.pth` and the rest, and every array of `io.npz` by name."""

    folder: Path
    arrays: dict[str, np.ndarray]


def conformance(version: str) -> Conformance:
    """The data of one version, unpacked once in a test run; skips the calling test where the archive is absent."""
    if not any((place / f"{version}.tar.xz").is_file() for place in PLACES):
        pytest.skip(f"no conformance archive {version}.tar.xz in {' or '.join(map(str, PLACES))}")
    return _unpacked(version)


@functools.cache
def _unpacked(version: str) -> Conformance:
    archive = next(path for place in PLACES if (path := place / f"{version}.tar.xz").is_file())
    target = Path(tempfile.mkdtemp(prefix=f"gsvexport-conformance-{version}-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    folder = target / version
    with np.load(folder / "io.npz", allow_pickle=False) as arrays:
        return Conformance(folder, dict(arrays))


def write_profile(data: Conformance, version: str, folder: Path, more: str = "") -> Path:
    """A folder with the version's files and a `voice.toml`, `more` at its end; v3 and v4 are a LoRA with its base."""
    lines = ["[voice]", 'name = "conformance"', 'language = "en"', 'gpt = "gpt.ckpt"', 'sovits = "sovits.pth"']
    names = ["gpt.ckpt", "sovits.pth"]
    if version in ("v3", "v4"):
        vocoder = {"v3": "bigvgan", "v4": "vocoder.pth"}[version]
        names += ["base.pth", vocoder]
        lines += ['base = "base.pth"', "[pretrained]", f'vocoder = "{vocoder}"']
    for name in names:
        (folder / name).symlink_to(data.folder / name)
    (folder / "voice.toml").write_text("\n".join([*lines, more]) + "\n")
    return folder
