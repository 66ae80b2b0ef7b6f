"""Fetches an emulated aarch64 machine: qemu, a C library and Python from the distribution, wheels from pip.

Nothing is installed and no root is needed: packages are downloaded with apt settings of their own, which leave the
system's package database alone, and unpacked into a folder that appears whole or not at all. Where packages and wheels
come from is what apt and pip are set up to use. Debian and its descendants only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import gsvexport
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import TEMPORARY_PREFIX, cache_directory, canonical_json, disk_errors, sha256_bytes

Progress = Callable[[str], None]

RECIPE = 1  # raised when what `setup` makes of one lock list changes
SECONDS = 600.0
SOURCES = "GSVEXPORT_EMULATOR_SOURCES"  # a sources.list for arm64 packages, where the system's has none
HOW = "python -m gsvexport.emulate fetches it (make emulator in a checkout)"
# With what they depend on; qemu is the only one for this machine itself, the rest belongs to the guest.
_GUEST_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
_QEMU_PACKAGE = "qemu-user-static"
# Releases whose own qemu cannot even load today's ONNX Runtime (7.2 dies of SIGSEGV, 10.0 does not), and the package to
# take from their backports instead.
_BACKPORTS = {"bookworm": "qemu-user"}
_QEMU_MEMBERS = ("./usr/bin/qemu-aarch64-static", "./usr/bin/qemu-aarch64")
_SYSTEM_SOURCES = Path("/etc/apt/sources.list.d")
# Runs .tflite stages. 2.3.0 dies of SIGSEGV under qemu 7.2; integers are the same in both.
_LITERT = "ai-edge-litert==2.1.2"
_TOOLS = ("apt-get", "dpkg", "dpkg-deb")
_LOCK, _QEMU, _ROOT, _SITE = "lock.json", "qemu-aarch64", "rootfs", "site"
_LAST_WORDS = 800  # characters of a tool's output in a message


@dataclass(frozen=True)
class Emulator:
    """An emulated machine on disk."""

    folder: Path

    def command(self, core: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Command line and environment that run the guest's Python on an emulated core, with gsvexport importable.

        Nothing of this machine's own environment reaches the guest but its PATH, temporary folder and gsvexport cache.
        """
        root = self.folder / _ROOT
        python = next((root / "usr" / "bin").glob("python3.[0-9]*"))
        environment = {
            "QEMU_CPU": core,
            "PYTHONPATH": os.pathsep.join([str(self._package()), str(self.folder / _SITE)]),
            "PYTHONPYCACHEPREFIX": str(self.folder / "pycache"),
            "PYTHONUTF8": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": tempfile.gettempdir(),
            "TMPDIR": tempfile.gettempdir(),
            "PATH": os.defpath,
            "GSVEXPORT_CACHE": str(cache_directory()),
        }
        # -S: no site-packages but those named above. -L: the guest's libraries, before this machine's.
        return [str(self.folder / _QEMU), "-L", str(root), str(python), "-S", *arguments], environment

    def cores(self) -> tuple[str, ...]:
        """The aarch64 cores that this qemu plays."""
        listed = subprocess.run(
            [self.folder / _QEMU, "-cpu", "help"], capture_output=True, encoding="utf-8", check=False
        )
        return tuple(line.split()[0] for line in listed.stdout.splitlines() if line.startswith(" ") and line.strip())

    def contents(self) -> dict[str, list[str]]:
        """The packages and wheels that it was made of, with their versions."""
        found: dict[str, list[str]] = json.loads((self.folder / _LOCK).read_text(encoding="utf-8"))
        return found

    def _package(self) -> Path:
        """A folder that holds this very gsvexport and nothing else: its neighbours are of another architecture."""
        package = Path(gsvexport.__file__).resolve().parent
        folder = self.folder / "packages" / sha256_bytes(str(package).encode())[:16]
        with disk_errors(folder), contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "gsvexport").symlink_to(package, target_is_directory=True)
        return folder


def find(folder: Path | None = None) -> Emulator:
    """The emulator that `setup` has made; nothing is downloaded.

    Raises:
        EnvironmentProblem: there is none, or none can be had on this system; says why and what to type.
    """
    path = _place(folder)
    if (path / _LOCK).is_file():
        return Emulator(path)
    _check_system()
    raise EnvironmentProblem("the aarch64 emulator is not set up", found=f"nothing at {path}", fix=HOW)


def setup(folder: Path | None = None, *, seconds: float = SECONDS, progress: Progress | None = None) -> Emulator:
    """Make the emulator, once for each lock list, below `folder` (default: gsvexport's cache), and try it.

    The lock list names the distribution's release, its packages, and the wheels: this machine's own version of ONNX
    Runtime, so that both sides differ in their processor alone. `seconds` bounds all of it together.

    Raises:
        EnvironmentProblem: not available here, or something could not be fetched, unpacked or started in time.
    """
    path = _place(folder)
    if (path / _LOCK).is_file():
        return Emulator(path)
    _check_system()
    say = progress or (lambda _: None)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
        try:
            _fill(work, _Steps(work, time.monotonic() + seconds, say))
            with contextlib.suppress(OSError):  # another process has finished the same one meanwhile
                work.rename(path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return find(folder)


@dataclass(frozen=True)
class _Steps:
    """Runs tools one after another until a deadline, a moment of `time.monotonic`."""

    work: Path
    deadline: float
    say: Progress

    def run(self, what: str, command: Sequence[str], environment: dict[str, str] | None = None) -> str:
        """The standard output of one tool; `what` is shown, and names the step in errors."""
        self.say(f"emulator: {what}")
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=max(0.1, self.deadline - time.monotonic()),
            )
        except subprocess.TimeoutExpired:
            raise EnvironmentProblem(
                f"the aarch64 emulator is not available: {what} did not end in time",
                fix=f"try again where the package sources can be reached: {HOW}",
            ) from None
        except OSError as error:
            raise EnvironmentProblem(f"the aarch64 emulator is not available: {what}: {error}", fix=HOW) from error
        if done.returncode:
            raise EnvironmentProblem(
                f"the aarch64 emulator is not available: {what} failed",
                problems=[(done.stderr.strip() or done.stdout.strip())[-_LAST_WORDS:]],
                found=f"{command[0]}: exit code {done.returncode}",
                fix=f"make the package sources reachable (arm64 packages: {SOURCES} names a sources.list), then: {HOW}",
            )
        return done.stdout


def lock_list() -> list[str]:
    """What an emulator is made of, as far as it is chosen beforehand; its hash names the emulator's folder."""
    release = _release()
    host = f"host {platform.machine()}"
    distribution = f"{release.get('ID', '?')} {release.get('VERSION_ID', release.get('VERSION_CODENAME', '?'))}"
    qemu = _BACKPORTS.get(release.get("VERSION_CODENAME", ""), _QEMU_PACKAGE)
    return [f"recipe {RECIPE}", host, distribution, qemu, *_GUEST_PACKAGES, *_wheels()]


def _fill(work: Path, steps: _Steps) -> None:
    """Everything that an emulator is, from download to its first words."""
    archives = _packages(work, steps)
    root = work / _ROOT
    root.mkdir()
    for archive in archives:
        if archive.name.startswith("qemu-user"):
            steps.say(f"emulator: unpacking {archive.name}")
            _extract_qemu(archive, work / _QEMU)
        elif archive.name.endswith(("_arm64.deb", "_all.deb")):
            steps.run(f"unpacking {archive.name}", ["dpkg-deb", "-x", str(archive), str(root)])
    for name in ("lib", "bin"):  # one folder with /usr's in newer releases; made so by a package that is not needed
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    pythons = sorted(path.name for path in (root / "usr" / "bin").glob("python3.[0-9]*"))
    if not (work / _QEMU).is_file() or not pythons:
        problem = "no qemu for aarch64" if pythons else "no Python"
        raise EnvironmentProblem(f"the aarch64 emulator is not available: the packages hold {problem}", fix=HOW)
    wheels = _download_wheels(work, pythons[0].removeprefix("python"), _libc(archives), steps)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as content:
            content.extractall(work / _SITE)
    lock = {"packages": [path.name for path in archives], "wheels": [path.name for path in wheels]}
    for folder in ("apt", "wheels"):
        shutil.rmtree(work / folder)
    program = "import numpy, onnxruntime, click, brotli, ai_edge_litert.interpreter"
    command, environment = Emulator(work).command("max", ["-c", program])
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # compiled files name the folder they were made in
    steps.run("trying it", command, environment)
    shutil.rmtree(work / "packages", ignore_errors=True)
    (work / _LOCK).write_bytes(canonical_json({**lock, "asked": lock_list()}).encode())


def _packages(work: Path, steps: _Steps) -> list[Path]:
    """Download the packages with all that they depend on; returns the archives."""
    host = steps.run("asking for this machine's architecture", ["dpkg", "--print-architecture"]).strip()
    apt = work / "apt"
    (apt / "state/lists/partial").mkdir(parents=True)
    (apt / "cache/archives/partial").mkdir(parents=True)
    (apt / "status").touch()
    # Read last, so that it also takes back the system's hooks, which clean its own download folder.
    settings = f"""\
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; "{host}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
"""
    sources = os.environ.get(SOURCES)
    if sources:
        settings += f'Dir::Etc::SourceList "{Path(sources).resolve()}";\nDir::Etc::SourceParts "-";\n'
    (apt / "apt.conf").write_bytes(settings.encode())
    get = ["apt-get", "-c", str(apt / "apt.conf"), "-q", "-y"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    qemu, options = f"{_QEMU_PACKAGE}:{host}", list[str]()
    codename = _release().get("VERSION_CODENAME", "")
    if codename in _BACKPORTS:
        qemu = f"{_BACKPORTS[codename]}:{host}/{codename}-backports"
        form = ["--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages"]
        listed = steps.run(
            "asking where packages come from", [*get, "indextargets", "--no-release-info", *form], environment
        )
        parts = apt / "sources"
        parts.mkdir()
        for path in _SYSTEM_SOURCES.glob("*") if not sources else ():
            (parts / path.name).symlink_to(path)
        (parts / "gsvexport-backports.list").write_bytes(_backports(listed, codename).encode())
        options = ["-o", f"Dir::Etc::SourceParts={parts}"]
    steps.run("reading the package lists", [*get, *options, "update"], environment)
    wanted = [*(f"{name}:arm64" for name in _GUEST_PACKAGES), qemu]
    steps.run("downloading packages", [*get, *options, "--download-only", "install", *wanted], environment)
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def _backports(listed: str, codename: str) -> str:
    """The sources.list line of a release's backports, which lie where the release itself does.

    `listed` holds "release address" lines of what is in use.
    """
    found = [line.split() for line in listed.splitlines()]
    names = (codename, "stable", "oldstable")
    address = next((words[1] for words in found if len(words) == 2 and words[0] in names), None)
    if address is None:
        raise EnvironmentProblem(
            f"the aarch64 emulator is not available: apt has no package source of {codename}",
            found=", ".join(dict.fromkeys(words[0] for words in found if words)) or "none",
            fix=f"name one in a file and its path in {SOURCES}, then: {HOW}",
        )
    return f"deb {address} {codename}-backports main\n"


def _extract_qemu(archive: Path, out: Path) -> None:
    """The one program of a package that holds some forty of them; a package without it leaves nothing."""
    process = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, tarfile.open(fileobj=process.stdout, mode="r|") as members:
        for member in members:
            if member.name in _QEMU_MEMBERS and member.isreg():
                stream = members.extractfile(member)
                assert stream is not None
                with open(out, "wb") as target:
                    shutil.copyfileobj(stream, target)
                out.chmod(0o755)
                break
        process.kill()  # the rest is not needed


def _download_wheels(work: Path, python: str, libc: int, steps: _Steps) -> list[Path]:
    """Download wheels for the guest's Python ("3.11") and C library (36 for 2.36)."""
    folder = work / "wheels"
    options = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), "--implementation", "cp"]
    options += ["--python-version", python, "--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    for name in ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, libc + 1))):
        options += ["--platform", f"{name}_aarch64"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    steps.run("downloading wheels", [*pip, *options, *_wheels()])
    return sorted(folder.glob("*.whl"))


def _wheels() -> list[str]:
    try:
        runtime = f"onnxruntime=={version('onnxruntime')}"
    except PackageNotFoundError:
        runtime = "onnxruntime>=1.23,<2"
    return [runtime, _LITERT, "numpy>=1.26,<3", "click>=8.1", "brotli>=1.2,<2"]


def _libc(archives: Sequence[Path]) -> int:
    """The minor version of the C library, from its package's file name: libc6_2.36-9_arm64.deb."""
    name = next(path.name for path in archives if path.name.startswith("libc6_"))
    return int(name.removeprefix("libc6_2.").partition("-")[0])


def _place(folder: Path | None) -> Path:
    return (folder or cache_directory() / "emulator") / sha256_bytes("\n".join(lock_list()).encode())[:32]


def _check_system() -> None:
    """Raise `EnvironmentProblem` where there is nothing to make an emulator of."""
    release = _release()
    family = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if sys.platform != "linux" or not family & {"debian", "ubuntu"}:
        raise EnvironmentProblem(
            "the aarch64 emulator is not available on this system",
            found=release.get("PRETTY_NAME", sys.platform),
            limit="Debian, Ubuntu and their descendants",
            fix="verify on such a machine, in a container of one, or on the device itself",
        )
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise EnvironmentProblem(f"the aarch64 emulator is not available: {', '.join(missing)} not found", fix=HOW)


def _release() -> dict[str, str]:
    """What /etc/os-release says; empty where there is none."""
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}
