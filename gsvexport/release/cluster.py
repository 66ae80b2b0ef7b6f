"""The builds of a release as tasks of Ray, wherever there is room; a repository is where their artifacts meet.

A task builds on its machine, from a voice's folder that all machines see, and publishes into the repository. From there
the release pulls exactly the artifact that the task named. A task whose machine dies is done again elsewhere.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.artifact.keys import trusted_keys
from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.progress import Progress, Step, note
from gsvexport.registry import index
from gsvexport.registry.places import Place, open_place
from gsvexport.registry.publish import publish
from gsvexport.registry.pull import pull
from gsvexport.release.run import ATTEMPTS_LEFT, Job, Outcome, build_one

_TRIES = 3
_LARGEST_REPORT = 1 << 24


@dataclass(frozen=True)
class Made:
    """What a task tells: the artifact's file name, and the name and manifest (SHA-256) that it was published under; or
    exit code and message, and the reports of checks that failed."""

    file: str = ""
    name: str = ""
    manifest: str = ""
    code: int = 0
    message: str = ""
    reports: dict[str, bytes] = field(default_factory=dict)


def build(
    todo: Sequence[Job], staging: Path, count: int | None, options: list[str], say: Progress, *, ray: Any, meet: str
) -> list[Outcome]:
    """Every job's outcome, in the order of `todo`, as the builder that `release` takes. At most `count` run at once;
    None leaves that to Ray. `ray` has joined the cluster; `meet` is a repository that all machines reach.

    Raises:
        InputError, EnvironmentProblem: the repository cannot be used.
    """
    place = open_place(meet)
    task = ray.remote(num_cpus=1, max_retries=_TRIES - 1)(made)
    phase = f"{len(todo)} artifacts on Ray"
    waiting, found = list(enumerate(todo)), dict[int, Outcome]()
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            say(Step("", phase, len(found), len(todo), unit="done"))
            while waiting and len(running) < (count or len(todo)):
                number, job = waiting.pop(0)
                running[task.remote(job, options, meet)] = number
            done, _ = ray.wait(list(running))
            number = running.pop(done[0])
            job = todo[number]
            try:
                found[number] = _brought(job, ray.get(done[0]), place, staging / str(number))
            except ray.exceptions.RayError as error:
                message = f"no machine finished it: {type(error).__name__}"
                found[number] = Outcome(job, None, EnvironmentProblem.exit_code, message)
            except GsvError as error:
                found[number] = Outcome(job, None, error.exit_code, str(error))
            word = "done" if found[number].artifact else f"failed with exit code {found[number].code}"
            say(note(f"{job.label}: {word}", lane=job.label))
    except BaseException:
        for one in running:
            ray.cancel(one)
        raise
    return [found[number] for number in range(len(todo))]


def made(job: Job, options: list[str], meet: str) -> Made:
    """In a task: build and publish."""
    running: set[subprocess.Popen[str]] = set()
    with tempfile.TemporaryDirectory(prefix="gsvexport-release-") as work:
        try:
            outcome = build_one(job, Path(work), options, running, lambda _: None)
        finally:  # the task was cancelled
            for process in running:
                process.terminate()
        if outcome.artifact is None:
            left = [path for path in Path(work).glob(ATTEMPTS_LEFT) if path.stat().st_size <= _LARGEST_REPORT]
            reports = {path.name: path.read_bytes() for path in left}
            return Made(code=outcome.code, message=f"on {socket.gethostname()}: {outcome.message}", reports=reports)
        try:
            (done,) = publish([outcome.artifact], open_place(meet))
        except GsvError as error:
            return Made(code=error.exit_code, message=f"on {socket.gethostname()}: {error}")
        return Made(outcome.artifact.name, done.entry.name, done.entry.manifest)


def _brought(job: Job, told: Made, place: Place, folder: Path) -> Outcome:
    """The artifact from the repository, in `folder`; it is the task's word that says which one it is, not a signature.

    Raises: as `pull`.
    """
    folder.mkdir()
    for name, data in told.reports.items():
        (folder / Path(name).name).write_bytes(data)
    if told.code:
        return Outcome(job, None, told.code, told.message)
    item = next((one for one in index.published(place, told.name) if one.entry.manifest == told.manifest), None)
    if item is None:
        what = f"{told.file} was published in {place.name}, and is not there"
        raise EnvironmentProblem(what, fix="name a repository that all machines reach")
    path = folder / Path(told.file).name
    pull(place, item, path, trusted_keys(), allow_unsigned=True, allow_older=True)
    return Outcome(job, path)
