"""On a host with a device's own compiler: put into an artifact what that compiler makes of it.

The artifact runs without it, too, on the device's processor. What comes out is another artifact: the same members, and
the compiled ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import MANIFEST, Manifest
from gsvexport.artifact.trust import Key
from gsvexport.backends import completion
from gsvexport.backends.declaration import Completion
from gsvexport.compiler.pack import intact
from gsvexport.errors import GateFailed
from gsvexport.files import canonical_json, refuse_existing, temporary_directory
from gsvexport.progress import recognised
from gsvexport.verify.gates import resolve
from gsvexport.verify.package import audit


def completing(path: Path) -> Completion | None:
    """The backend whose compiler can add to an artifact; None where there is nothing to add.

    Raises:
        ArtifactError: no artifact.
    """
    return completion(entry.backend for entry in container.read_manifest(path).stages.values())


def complete(
    path: Path,
    offer: Completion,
    *,
    out: Path | None = None,
    compiled: Path | None = None,
    key: Key | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], Path]:
    """Write the artifact `path` with its compiled members to `out`, by default beside it, without a signature.

    `compiled` is a file that the compiler wrote elsewhere; without it the compiler runs here. Returns what the backend
    reports, and where the artifact is.

    Raises:
        InputError: the output exists.
        ArtifactError: the artifact is damaged.
        EnvironmentProblem, BackendError: see the backend's `completion`.
        GateFailed: compiled, it misses a limit of its target.
    """
    say = progress or (lambda _: None)
    name = path.name.removesuffix(container.SUFFIX)
    place = out or path.absolute().with_name(f"{name}-compiled{container.SUFFIX}")
    refuse_existing(place, force=False)
    folder, manifest = intact(path, key=key, progress=progress)
    with temporary_directory(place) as work:
        made, files = work / "made", work / "files"
        made.mkdir()
        report: dict[str, Any] = offer.complete(folder, made, compiled, recognised(say))
        for member in manifest.files:
            (files / member).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / member, files / member)
        shutil.copytree(made, files, dirs_exist_ok=True)
        final = container.with_members(manifest, files)
        (files / MANIFEST).write_bytes(canonical_json(final.to_json()).encode())
        _refuse_missed(files, final, place)
        container.write(final, files, place)
    return report, place


def _refuse_missed(folder: Path, manifest: Manifest, place: Path) -> None:
    precisions = {stage: entry.precision for stage, entry in manifest.stages.items()}
    checks = audit(folder, resolve(precisions, manifest.target.get("gates")))
    missed = [one for one in checks if one.status == "fail"]
    if missed:
        raise GateFailed(
            f"{place.name} is not written: compiled, the artifact does not pass its verification",
            problems=[f"{one.stage}.{one.metric} = {one.value} (limit {one.limit}) {one.reason}" for one in missed],
            fix="keep the artifact as it is, which runs on the processor, or lower the target's gate",
        )
