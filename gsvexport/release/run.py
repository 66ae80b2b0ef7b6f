"""Build a release: voices times targets, each in a process of its own, several at a time.

    OUT/VOICE-TARGET.gsv   the artifacts
    OUT/SHA256SUMS         for sha256sum --check
    OUT/release.json       what they are, and how their verification went
    OUT/overview.html      the same for a person
    OUT/measured.json      with `measure`: how fast they are on this machine

Artifacts come into the folder when all of them are built and have passed; otherwise only the overview is written anew.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gsvexport.errors import EnvironmentProblem, GateFailed, GsvError, InputError, VoiceError
from gsvexport.files import TEMPORARY_PREFIX, atomic_file, disk_errors, sha256_file
from gsvexport.progress import Progress, Step, counted, heard, note
from gsvexport.release.index import RELEASE, SUMS, Row, row_of, write_index
from gsvexport.release.overview import OVERVIEW, overview
from gsvexport.system import disk
from gsvexport.system.locks import FOREVER, acquire
from gsvexport.target.target import read_targets
from gsvexport.voice.profile import read_profile

_MEMORY_OF_A_BUILD = 3e9  # bytes; a full-size voice takes 1.7 to 2.3 GB
ATTEMPTS_LEFT = "*.report.json"


@dataclass(frozen=True)
class Job:
    """One voice for one target; `voice` is None for the built-in demo voice."""

    voice: str | None
    target: str

    @property
    def who(self) -> str:
        """The voice, as a person calls it."""
        return Path(self.voice).name if self.voice else "demo"

    @property
    def label(self) -> str:
        """What a person calls all of it."""
        return f"{self.who} for {Path(self.target).name.replace('.toml', '')}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended: the artifact in the staging folder, or its error's exit code and text."""

    job: Job
    artifact: Path | None
    code: int = 0
    message: str = ""


Builder = Callable[[Sequence[Job], Path, int | None, list[str], Progress], list[Outcome]]


def release(
    voices: Sequence[str],
    targets: Sequence[str],
    out: Path,
    *,
    jobs: int | None = None,
    level: int = 2,
    strict: bool = False,
    compress: str = "release",
    measure: bool = False,
    progress: Progress | None = None,
    builder: Builder | None = None,
) -> list[Row]:
    """Build each of `voices` (none: the demo voice) for each of `targets` into the folder `out`; what it holds then.

    `jobs` builds run at once, by default as many as processors and free memory allow; a `builder` has them run
    elsewhere. `level`, `strict` and `compress` are those of `gsvexport.compiler.build`. What has not changed since the
    last time comes from the store.

    Raises:
        InputError: two voices have one name, or `out` is no folder.
        TargetError: a target cannot be used; before anything is built.
        GateFailed: artifacts missed a limit. Any other error of a build comes first, with its own exit code.
    """
    say = progress or (lambda _: None)
    options = ["--level", str(level), "--compress", compress, *["--strict"] * strict]
    read_targets(targets)
    todo = [Job(voice, target) for voice in dict.fromkeys(voices or (None,)) for target in dict.fromkeys(targets)]
    if out.exists() and not out.is_dir():
        raise InputError(f"the output {out} is not a folder", fix="choose another with -o")
    with _alone(out, say), disk_errors(out):
        for left in out.glob(f"{TEMPORARY_PREFIX}release-*"):  # of a release that was killed
            disk.remove_tree(left)
        staging = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}release-", dir=out))
        try:
            outcomes = (builder or _build)(todo, staging, jobs, options, say)
            outcomes = _once(outcomes)
            _refuse_collisions(outcomes)
            rows = [row_of(one.artifact) for one in outcomes if one.artifact]
            failed = [one for one in outcomes if one.artifact is None]
            if failed:
                _keep_reports(staging, out)
                _write_overview(out, rows, failed, {})
                raise _failure(failed, len(outcomes), out)
            measured = _measure([one.artifact for one in outcomes if one.artifact], say) if measure else {}
            for row in rows:
                _place(next(staging.glob(f"*/{row.file}")), out / row.file)
            for path in out.glob(ATTEMPTS_LEFT):  # of an attempt that failed
                disk.remove(path)
            write_index(out, rows, measured)
            _write_overview(out, rows, (), measured, _families(outcomes))
        finally:
            disk.remove_tree(staging)
    return rows


@contextlib.contextmanager
def _alone(out: Path, say: Progress) -> Iterator[None]:
    """One release at a time in a folder."""
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        path = out / ".release.lock"
        if not (lock := acquire(path)):
            say(f"waiting for another release in {out}")
            lock = acquire(path, FOREVER)
            assert lock is not None
    try:
        yield
    finally:
        lock.release()


def _at_once() -> int:
    cores = os.cpu_count() or 1
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return max(1, cores // 2)
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):  # a system that does not tell
        return max(1, cores // 2)
    return max(1, min(cores, int(free / _MEMORY_OF_A_BUILD)))


def _build(todo: Sequence[Job], staging: Path, jobs: int | None, options: list[str], say: Progress) -> list[Outcome]:
    """Every job's outcome, in the order of `todo`; an interruption ends the processes that run."""
    running: set[subprocess.Popen[str]] = set()
    count = jobs or _at_once()
    phase = f"{len(todo)} artifacts, {min(count, len(todo))} at a time"
    say(Step(phase, phase, 0, len(todo), unit="done"))
    with ThreadPoolExecutor(count) as pool:
        try:
            found = [
                pool.submit(build_one, job, staging / str(number), options, running, say)
                for number, job in enumerate(todo)
            ]
            for one in found:
                one.add_done_callback(
                    lambda _: say(Step("", phase, sum(it.done() for it in found), len(todo), unit="done"))
                )
            return [one.result() for one in found]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in [*running]:
                process.terminate()
            raise


def build_one(
    job: Job, folder: Path, options: list[str], running: set[subprocess.Popen[str]], say: Progress
) -> Outcome:
    """Build one artifact into `folder`, in a process of its own, which is in `running` meanwhile."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "gsvexport", "build", "--json-progress", "--target", job.target]
    process = subprocess.Popen(
        [*command, "--out", str(folder), *options, *([job.voice] if job.voice else [])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONUTF8": "1"},  # what it says is UTF-8 under Windows, too
    )
    running.add(process)
    said: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        text = line.rstrip("\n")
        if (doing := heard(text)) is not None:
            say(doing.within(job.who, ", ", lane=job.label))
        else:
            said.append(text)
    code = process.wait()
    running.discard(process)
    artifact = next(folder.glob("*.gsv"), None)
    word = "done" if artifact else f"failed with exit code {code}"
    say(note(f"{job.label}: {word} after {time.monotonic() - begin:.0f} s", lane=job.label))
    if code == 0 and artifact:
        return Outcome(job, artifact)
    return Outcome(job, None, code, "\n".join(said).strip() or f"ended with exit code {code}")


def _once(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The outcomes without what is there twice: a target that takes students makes one artifact of a voice and of its
    student, and the student's own job is its origin."""
    made: dict[tuple[str, str], list[Outcome]] = {}
    for one in outcomes:
        if one.artifact:
            made.setdefault((one.artifact.name, sha256_file(one.artifact)), []).append(one)
    twice = {id(one) for same in made.values() for one in sorted(same, key=_is_student)[:-1]}
    return [one for one in outcomes if id(one) not in twice]


def _is_student(one: Outcome) -> bool:
    with contextlib.suppress(VoiceError):
        return one.job.voice is not None and read_profile(Path(one.job.voice)).slim is not None
    return False


def _refuse_collisions(outcomes: Sequence[Outcome]) -> None:
    made: dict[str, list[str]] = {}
    for one in outcomes:
        if one.artifact:
            made.setdefault(one.artifact.name, []).append(one.job.voice or "the demo voice")
    if twice := [f"{name}: {' and '.join(of)}" for name, of in made.items() if len(of) > 1]:
        raise InputError(
            "several voices make an artifact of one name", problems=twice, fix="give them different names in voice.toml"
        )


def _failure(failed: Sequence[Outcome], count: int, out: Path) -> GsvError:
    """One error for all that failed, of the kind that is worst: what is no matter of gates comes first."""
    kinds = {kind.exit_code: kind for kind in GsvError.__subclasses__()}
    code = next((one.code for one in failed if one.code != GateFailed.exit_code), GateFailed.exit_code)
    kind = kinds.get(code, EnvironmentProblem)
    return kind(
        f"{len(failed)} of {count} artifacts failed; the release in {out} was not touched",
        problems=[f"{one.job.label}: {one.message.removeprefix('gsvexport: ')}" for one in failed],
        fix=f"read {out / OVERVIEW}",
    )


def _keep_reports(staging: Path, out: Path) -> None:
    for path in staging.glob(f"*/{ATTEMPTS_LEFT}"):
        disk.replace(path, out / path.name)


def _place(made: Path, path: Path) -> None:
    """Move an artifact into the release; one that is the same already keeps its time."""
    if path.is_file() and path.stat().st_size == made.stat().st_size and sha256_file(path) == sha256_file(made):
        return
    disk.replace(made, path)


def _measure(paths: Sequence[Path], say: Progress) -> dict[str, dict[str, float | str]]:
    """What `bench` finds for each artifact that this machine can run: RTF, first audio in seconds, peak in MB."""
    from gsvexport.bench import bench

    found: dict[str, dict[str, float | str]] = {}
    for number, path in enumerate(paths, 1):
        say(counted(f"measuring {path.name}", "measuring", number, len(paths)))
        try:
            figures = bench(path, runs=3).subjects[0].figures
        except GsvError as error:
            found[path.name] = {"not_run": error.what}
            continue
        wanted = ("rtf", "first_audio_s", "sentence_s", "load_s", "peak_mb")
        found[path.name] = {name: figures[name].median for name in wanted if name in figures}
    return found


def _families(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The artifact of each student's teacher for the same target, where the release holds both; by the student's."""
    made: dict[tuple[Path, str], str] = {}
    taught: dict[str, tuple[Path, str]] = {}
    for one in outcomes:
        if one.artifact is None or one.job.voice is None:
            continue
        with contextlib.suppress(VoiceError):  # a source says nothing of a teacher
            profile = read_profile(Path(one.job.voice))
            folder = profile.path.parent.resolve()
            made[folder, one.job.target] = one.artifact.name
            if profile.slim:
                taught[one.artifact.name] = ((folder / profile.slim.teacher).resolve(), one.job.target)
    return {name: made[teacher] for name, teacher in taught.items() if teacher in made}


def _write_overview(
    out: Path,
    rows: Sequence[Row],
    failed: Sequence[Outcome],
    measured: dict[str, dict[str, float | str]],
    families: Mapping[str, str] | None = None,
) -> None:
    missing = [(one.job.label, one.code, one.message) for one in failed]
    with atomic_file(out / OVERVIEW, force=True) as work:
        work.write_bytes(overview(rows, missing, measured, families or {}).encode())


__all__ = ["OVERVIEW", "RELEASE", "SUMS", "Job", "Row", "release"]
