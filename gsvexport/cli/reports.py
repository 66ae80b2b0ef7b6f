"""What `verify --against`, `compare` and `inspect` print, and the exit code that says how it went."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from gsvexport.cli.echo import echo
from gsvexport.cli.keys import signed_by
from gsvexport.errors import GateFailed, InputError
from gsvexport.files import canonical_json
from gsvexport.report.overview import artifact_page
from gsvexport.report.rule import Comparison, Tolerance
from gsvexport.report.stored import read_stored
from gsvexport.report.terminal import comparison_page, report_page, wants_colour
from gsvexport.verify.report import Report

Progress = Callable[[str], None]


def show_report(report: Report, *, as_json: bool) -> None:
    """Print a report."""
    told = canonical_json(report.to_json()) if as_json else report_page(report, colour=wants_colour(sys.stdout))
    echo(told, nl=False, color=True)


def taught_by(teacher: Path, source: Path | None, progress: Progress) -> Path:
    """The source of a student's teacher, a voice or a source; exported to the cache where need be.

    Raises:
        InputError: the student's `source` says that it was made of another voice.
    """
    from gsvexport.compiler.build import source_of
    from gsvexport.compiler.source import open_source
    from gsvexport.compiler.store import Store
    from gsvexport.verify.student import refuse_another

    found = source_of(teacher, Store(note=progress), progress)
    if source is not None:
        refuse_another(open_source(source).meta["provenance"], found.meta["provenance"], str(teacher))
    return found.path


def judged_by(report: Report, path: Path, heard: Path | None) -> Report:
    """The report of an artifact with what people heard, where there are scores of theirs.

    Raises: as `gsvexport.report.panel.heard.judged`.
    """
    from gsvexport.report.panel.heard import judged

    return judged(report, read_stored(path).manifest.digest, heard) if heard else report


def show_artifact(path: Path, *, as_json: bool, heard: Path | None = None) -> None:
    """Print what an artifact says of itself and who signed it, or its manifest. `heard` are scores of people.

    Raises: as `gsvexport.report.stored.read_stored`, and
        ArtifactError: a signature is wrong.
    """
    stored = read_stored(path)
    if heard is not None:
        stored = replace(stored, report=judged_by(stored.report or Report(()), path, heard))
    if as_json:
        echo(canonical_json(stored.manifest.to_json()), nl=False)
    else:
        echo(artifact_page(stored, colour=wants_colour(sys.stdout)), nl=False, color=True)
        echo(signed_by(path))


def compare(
    baseline: Path,
    candidate: Path,
    tolerance: Tolerance,
    *,
    other_voice: bool,
    everything: bool,
    as_json: bool,
    heard: Path | None = None,
) -> int:
    """Compare two artifacts by their stored reports; returns the exit code.

    Raises: as `gsvexport.report.compare.compare_artifacts`.
    """
    from gsvexport.report.compare import compare_artifacts

    found = compare_artifacts(baseline, candidate, tolerance, other_voice=other_voice, heard=heard)
    if as_json:
        echo(canonical_json(found.to_json()), nl=False)
    else:
        _show(found, everything=everything)
    return 0 if found.passed else GateFailed.exit_code


def verify_against(
    candidate: Path,
    baseline: Path,
    tolerance: Tolerance,
    verify: Callable[..., Report],
    *,
    as_json: bool,
    progress: Progress,
) -> int:
    """Verify both with `verify`, compare what came out, print both; returns the exit code.

    Raises: as `gsvexport.report.compare.verify_against`.
    """
    from gsvexport.report.compare import verify_against as run_both

    report, found = run_both(candidate, baseline, verify, tolerance, progress=progress)
    if as_json:
        echo(canonical_json({"report": report.to_json(), "comparison": found.to_json()}), nl=False)
    else:
        show_report(report, as_json=False)
        echo("")
        _show(found, everything=False)
    return 0 if report.passed and found.passed else GateFailed.exit_code


def write_html(
    artifact: Path, out: Path, source: Path | None, *, force: bool, progress: Progress, heard: Path | None = None
) -> str:
    """Write the page with pictures and sound; returns a line that says what came of it.

    Raises: as `gsvexport.report.render.write_page`.
    """
    from gsvexport.report.render import write_page

    word = write_page(artifact, out, source=source, force=force, progress=progress, heard=heard)
    return f"{out}  {out.stat().st_size / 1e6:.1f} MB  {word}"


def needs_html(source: Path | None, *, force: bool) -> None:
    """Refuse options that only `--html` uses.

    Raises:
        InputError: one was given.
    """
    if source is not None or force:
        raise InputError("--source and --force are for the page that --html writes", fix="add --html OUT.html")


def _show(found: Comparison, *, everything: bool) -> None:
    page = comparison_page(found, colour=wants_colour(sys.stdout), everything=everything)
    echo(page, nl=False, color=True)
