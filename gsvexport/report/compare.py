"""Two artifacts side by side, from what they say of themselves or from running both here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gsvexport.artifact.manifest import Manifest
from gsvexport.errors import ArtifactError, InputError
from gsvexport.progress import Progress, within
from gsvexport.report.margins import mos_basis, people_decide
from gsvexport.report.markup import plain
from gsvexport.report.panel.heard import judged, without_objective
from gsvexport.report.rule import Amount, Comparison, Row, Tolerance, compare_checks, grown, unproven
from gsvexport.report.stored import Stored, members, read_stored, weights
from gsvexport.verify.report import Report

_SAME = 1e-3  # scaled error between the FP32 references of one voice: exporters differ by 1e-5, voices by more than 0.1


def compare_artifacts(
    baseline: Path,
    candidate: Path,
    tolerance: Tolerance | None = None,
    *,
    other_voice: bool = False,
    heard: Path | None = None,
) -> Comparison:
    """Compare manifests and stored reports; nothing is run, so it takes no time and no device.

    `other_voice` allows two voices on one target. `heard` are scores of people who heard the candidate: where they
    decide on its MOS, objective scores of both are left out.

    Raises:
        InputError: two voices, or, with `other_voice`, two voices on two targets.
        ArtifactError: one is damaged, of an unknown schema, or holds no report.
    """
    before, after = read_stored(baseline), read_stored(candidate)
    notes = _voices(before, after, other_voice=other_voice)
    missing = [str(one.path) for one in (before, after) if one.report is None]
    if before.report is None or after.report is None:
        raise ArtifactError(
            "nothing can be compared without a report of the verification",
            problems=[f"{path} holds no report" for path in missing],
            fix="build it again, or run both here: gsvexport verify B.gsv --against A.gsv",
        )
    old, new = before.report, judged(after.report, after.manifest.digest, heard)
    if people_decide(new):
        old, new = without_objective((old, new))
        notes = (*notes, f"objective scores of the MOS are left out: {mos_basis(new)}")
    elif basis := mos_basis(new):
        notes = (*notes, basis)
    return _compared(before, after, old, new, tolerance or Tolerance(), notes)


def verify_against(
    candidate: Path,
    baseline: Path,
    verify: Callable[..., Report],
    tolerance: Tolerance | None = None,
    *,
    progress: Progress | None = None,
) -> tuple[Report, Comparison]:
    """Verify both artifacts, on the same inputs, and compare what came out: (the candidate's report, the comparison).

    `verify(path, progress=…)` gives the report of one: `gsvexport.compiler.pack.verify_packed` with its options, say.

    Raises:
        InputError: two different voices.
        ArtifactError: an artifact is damaged, or what `verify` raises.
    """
    say = progress or (lambda _: None)
    before, after = read_stored(baseline), read_stored(candidate)
    notes = _voices(before, after)
    if before.manifest.source != after.manifest.source:
        _refuse_other_references(before, after)
    new, old = (verify(one.path, progress=within(one.path.name, say)) for one in (after, before))
    return new, _compared(before, after, old, new, tolerance or Tolerance(), notes)


def _compared(
    before: Stored, after: Stored, old: Report, new: Report, tolerance: Tolerance, notes: tuple[str, ...]
) -> Comparison:
    rows = compare_checks(old, new, tolerance)
    sizes = _sizes(before, after)
    worse = (*unproven(rows), *grown(_alike_in_kind(before, after), tolerance))
    notes = (*notes, *_engines(before, after), *_notes(rows, old, new))
    return Comparison(_about(before, after), rows, sizes, tolerance, worse, notes)


def _voices(before: Stored, after: Stored, *, other_voice: bool = False) -> tuple[str, ...]:
    """A note where two voices are compared on purpose."""
    if before.voice == after.voice:
        return ()
    if other_voice and before.target == after.target:
        return (f"two voices, {before.voice} and {after.voice}, on one target",)
    on_one = before.target == after.target
    raise InputError(
        "these are artifacts of different voices",
        problems=[f"{one.path}: {one.voice} for {one.target}" for one in (before, after)],
        fix="compare artifacts of one voice"
        + ("; to compare two voices on one target: gsvexport compare --other-voice" if on_one else ""),
    )


def _refuse_other_references(before: Stored, after: Stored) -> None:
    """Two sources may be one voice exported by two releases: then the FP32 references inside the artifacts agree.

    Raises:
        InputError: they do not agree, or have no inputs in common.
        ArtifactError: golden vectors are damaged.
    """
    import numpy as np

    from gsvexport.artifact.container import unpacked
    from gsvexport.verify import golden, tensors

    old, new = (
        {(case.name, case.stage): case for case in golden.read(folder / golden.FOLDER)}
        if (folder / golden.FOLDER).is_dir()
        else {}
        for folder in (one.path if one.path.is_dir() else unpacked(one.path, one.text) for one in (before, after))
    )
    problems, alike = [], 0
    for key in old.keys() & new.keys():
        a, b = old[key], new[key]
        names = sorted({*a.outputs} & {*b.outputs})
        if not _alike(a.inputs, b.inputs, np.array_equal):
            problems.append(f"case {key[0]} of {key[1]}: the inputs differ")
        elif _alike(a.outputs, b.outputs, lambda r, x: r.shape == x.shape and tensors.scaled_error(r, x) <= _SAME):
            alike += 1
        else:
            problems.append(f"case {key[0]} of {key[1]}: the FP32 references differ ({', '.join(names)})")
    if problems or not alike:
        raise InputError(
            f"{before.path} and {after.path} are called {after.voice}, but are not the same voice",
            problems=sorted(problems) or ["they have no golden vectors in common"],
            fix="build both from the same checkpoint; compare retrained voices with gsvexport compare",
        )


def _alike(a: Mapping[str, object], b: Mapping[str, object], test: Callable[..., bool]) -> bool:
    return a.keys() == b.keys() and all(test(a[name], b[name]) for name in a)


def _about(before: Stored, after: Stored) -> tuple[tuple[str, str, str], ...]:
    """What each artifact is, line by line."""

    def lines(one: Stored) -> dict[str, str]:
        manifest = one.manifest
        told = {
            "file": one.path.name,
            "voice": one.voice,
            "target": one.target,
            "digest": manifest.digest[:16],
            "source": manifest.source[:16],
        }
        told |= {"digest without engines": manifest.repeatable.digest[:16]} if manifest.engines else {}
        told |= {"engines built by": _builder(manifest)} if manifest.engines else {}
        told |= {f"{stage} precision": entry.precision for stage, entry in sorted(manifest.stages.items())}
        return told | {f"{tool} version": version for tool, version in sorted(manifest.tools.items())}

    old, new = lines(before), lines(after)
    names = [*new, *(name for name in old if name not in new)]
    return tuple((name, old.get(name, "-"), new.get(name, "-")) for name in names)


def _alike_in_kind(before: Stored, after: Stored) -> Amount:
    """The sizes that growth is judged by: where only one of two has engines that were built ahead of time, it is judged
    without them, as nothing else grew by them."""
    without = (before.manifest.engines is None) != (after.manifest.engines is None)
    sizes = []
    for one in (before, after):
        files = one.manifest.members
        engines = sum(files[name].payload_size for name in (one.manifest.engines or {"plans": ()})["plans"])
        sizes.append(one.size - engines if without else one.size)
    return Amount("whole artifact without engines" if without else "whole artifact", *sizes)


def _builder(manifest: Manifest) -> str:
    told = manifest.engines or {}
    return plain(f"{told['library']} {told['version']} for {', '.join(told['capabilities'])}")


def _engines(before: Stored, after: Stored) -> tuple[str, ...]:
    """What to know where one of them has engines that were built ahead of time."""
    old, new = before.manifest, after.manifest
    if (old.engines is None) != (new.engines is None):
        who = "baseline" if old.engines else "candidate"
        names = ", ".join(map(plain, (old.engines or new.engines or {})["plans"]))
        return (f"only the {who} has engines that were built ahead of time: {names}",)
    if old.unrepeatable and new.unrepeatable and old.digest != new.digest:
        same = old.repeatable.digest == new.repeatable.digest
        rest = "everything else is the same" if same else "other members differ, too"
        return (f"engines that were built ahead of time have other bytes in every build; {rest}",)
    return ()


def _sizes(before: Stored, after: Stored) -> tuple[Amount, ...]:
    """The whole first, then kinds of members, then weights by stages and kinds."""

    def amounts(one: Stored) -> dict[str, int]:
        found = {"whole artifact": one.size, **members(one.manifest)}
        for stages, kinds in weights(one.manifest).items():
            found |= {f"{stages}, {kind}": size for kind, size in kinds.items()}
        return found

    old, new = amounts(before), amounts(after)
    return tuple(Amount(name, old.get(name), new.get(name)) for name in dict.fromkeys((*old, *new)))


def _notes(rows: tuple[Row, ...], old: Report, new: Report) -> tuple[str, ...]:
    """What the verdict does not rest on."""
    notes = []
    if idle := sum(row.outcome == "not_run" for row in rows):
        notes.append(f"{idle} checks ran in neither")
    loosened = [row.name for row in rows if _looser(row)]
    if loosened:
        notes.append(f"limits that are looser than they were (the old ones count here): {', '.join(loosened)}")
    for name, report in (("baseline", old), ("candidate", new)):
        where = report.emulated or report.elsewhere
        if where:
            notes.append(f"the {name} ran on {plain_place(report)}, not on what it was made for")
    return tuple(notes)


def plain_place(report: Report) -> str:
    """Where an artifact ran, where that is not what it was made for."""
    return f"an emulated {report.emulated}" if report.emulated else str(report.elsewhere)


def _looser(row: Row) -> bool:
    if row.before is None or row.after is None or row.before.limit is None or row.after.limit is None:
        return False
    rise = row.after.limit - row.before.limit
    return rise > 0 if row.after.direction == "max" else rise < 0
