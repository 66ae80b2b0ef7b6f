"""What `verify` does beside a plain verification: on an emulated core, and on itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gsvexport.cli.echo import echo
from gsvexport.errors import GateFailed, InputError
from gsvexport.verify.depth import Depth, insist
from gsvexport.verify.report import Report

Progress = Callable[[str], None]


def emulated(
    artifact: Path, core: str | None, source: Path | None, depth: Depth, progress: Progress, key: str | None = None
) -> Report:
    """Verify on an emulated core, up to level 2.

    Raises: as `gsvexport.emulate.verify.verify_emulated`, and
        InputError: level 3 was asked for.
    """
    from gsvexport.emulate.verify import verify_emulated

    if depth.deep:
        raise InputError("level 3 is not emulated: it would take hours", fix="leave --emulate or --level 3 out")
    return insist(verify_emulated(artifact, core, source=source, key=key, progress=progress), depth.required)


def self_test(
    artifact: Path, source: Path | None, depth: Depth, emulate: str | None, against: Path | None, progress: Progress
) -> int:
    """Damage the source in known ways and show which of the artifact's gates fire; returns the exit code.

    Raises: as `gsvexport.verify.selftest.self_test`, and
        InputError: no source was given, or options that have no meaning here.
    """
    from gsvexport.artifact.container import read_manifest
    from gsvexport.verify.gates import resolve
    from gsvexport.verify.ruler import of_source
    from gsvexport.verify.selftest import self_test as run
    from gsvexport.verify.selftest import table

    if source is None:
        raise InputError("--self-test damages a source, and none was given", fix="add --source DIR")
    if emulate is not None or against is not None:
        raise InputError("--self-test runs here and alone", fix="leave --emulate and --against out")
    manifest = read_manifest(artifact)
    precision = {stage: entry.precision for stage, entry in manifest.stages.items()}
    rows = run(source, resolve(precision, manifest.target.get("gates"), of_source(source)), depth, progress=progress)
    echo(table(rows))
    return 0 if all(row.passed for row in rows) else GateFailed.exit_code
