"""Another reference on weights that are exported, or compiled, already.

Nothing is lowered again: graphs and weights are taken as they are. What depends on the reference (the baked constants,
the golden vectors, the report) is made anew, and the result is verified against a source with the same reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.manifest import REPORT, Manifest
from gsvexport.backends import declared
from gsvexport.compiler.build import report_path, source_of
from gsvexport.compiler.compress import shrink
from gsvexport.compiler.pack import intact, prove, reference_feeds
from gsvexport.compiler.source import Source, open_source, rebake
from gsvexport.compiler.store import Store
from gsvexport.errors import GateFailed, InputError
from gsvexport.files import (
    atomic_file,
    canonical_json,
    link,
    refuse_existing,
    sha256_bytes,
    sha256_file,
    temporary_directory,
)
from gsvexport.model import read_model
from gsvexport.progress import Progress, note
from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.verify import golden
from gsvexport.verify.beside import Beside
from gsvexport.verify.cases import Case
from gsvexport.verify.depth import Depth
from gsvexport.verify.ruler import measure
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.reference import Reference, read_reference

if TYPE_CHECKING:
    from gsvexport.voice.profile import ReferenceTable

STALE_RANGES = "the ranges of its integers were measured with an earlier reference"
_ANEW = ("baked/", f"{golden.FOLDER}/", REPORT, "model.json")


def rebake_source(path: Path, table: ReferenceTable, out: Path, *, progress: Progress | None = None) -> Source:
    """Write the source in `path` with another reference to the folder `out`.

    Raises:
        InputError: `out` exists, or a recording that cannot be used.
        VoiceError, ArtifactError: what is wrong with the reference or the source.
    """
    refuse_existing(out, force=False)
    source = open_source(path, verify=True)
    return rebake(source, _reference(source, table, progress), out, progress=progress)


def rebake_artifact(
    path: Path,
    table: ReferenceTable,
    out: Path,
    *,
    source: Path | Source | None = None,
    name: str | None = None,
    force: bool = False,
    own: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write the artifact `path` with another reference to `out`, verified; with `name` as a voice of that name.

    `source` is the source that it was built from, open or where it lies, or its voice; without it the source is looked
    for in the cache. `own` says that it was built here just now: its golden vectors are believed then, where no
    reference changes them.

    Raises:
        InputError: `out` exists, no or another source, an artifact without a baked reference, or one that its reference
            was compiled into.
        GateFailed: with this reference it misses a limit; its report is left beside `out`.
        VoiceError, ArtifactError: what is wrong with the reference, the artifact or the source.
    """
    say = progress or (lambda _: None)
    refuse_existing(out, force=force)
    folder, manifest = intact(path, progress=say)
    if manifest.baked_key is None:
        raise InputError(
            f"{path} has no reference: it clones by itself",
            fix="voice.clone(samples, rate, text) in Python speaks like one",
        )
    if kept := [stage for stage, entry in manifest.stages.items() if declared(entry.backend).keeps_reference]:
        raise InputError(
            f"{path} was compiled for one reference, which is a part of its stage {', '.join(kept)}",
            fix=f"build it with the other one: gsvexport --target {manifest.target['name']} VOICE --reference FILE",
        )
    store = Store(note=say)
    origin = _origin(path, manifest, source, store, say)
    reference = _reference(origin, table, say)
    made = _with_reference(origin, reference, table, store, say)
    if manifest.engines is not None:
        say("engines that were built ahead of time are taken as they are: no graph of theirs depends on a reference")
    with temporary_directory(out) as work:
        files = work / "files"
        for file in manifest.files:
            if not file.startswith(_ANEW):
                link(folder / file, files / file)
        model = replace(read_model(folder), baked=made.model.baked, baked_key=made.model.baked_key)
        model = replace(model, name=name or model.name)
        (files / "model.json").write_bytes(canonical_json(model.to_json()).encode())
        for file in model.baked.values():
            link(made.path / file, files / file)
        with load(made.path, threads=1) as voice:  # as golden vectors want it
            _measure(voice, golden.read(folder / golden.FOLDER) if own else (), files / golden.FOLDER, say)
            manifest = replace(_noted(manifest), name=model.name, source=made.digest, baked_key=model.baked_key)
            report = prove(manifest, work, voice, reference_feeds(made, reference), Depth(), say)
        if not report.passed:
            with atomic_file(report_path(out), force=True) as place:
                place.write_bytes(canonical_json(report.to_json()).encode())
            raise GateFailed(
                f"{path} with this reference does not pass its verification",
                problems=[f"{one.stage}.{one.metric} = {one.worst} (limit {one.limit})" for one in report.failures],
                fix=f"read {report_path(out)}; build it anew with this reference, which measures its integers' ranges",
            )
        shrink(work / "artifact.gsv", out, "fast", store, force=force, progress=say)
    return out


def _measure(voice: LoadedVoice, known: Sequence[Case], folder: Path, say: Progress) -> None:
    """Write the golden vectors of an open source to `folder`, with its ruler, which is measured beside them; `known`
    are those of the source before, which has the same T2S network."""
    say("computing golden vectors")
    with Beside() as beside:
        ruler = beside.start(measure, voice, say)
        golden.write(golden.of(voice, known), folder, ruler.result())


def _origin(path: Path, manifest: Manifest, given: Path | Source | None, store: Store, say: Progress) -> Source:
    """The source that an artifact was built from."""
    if given is not None:
        found = given if isinstance(given, Source) else source_of(given, store, say)
        if found.digest == manifest.source:
            return found
        raise InputError(
            f"{given} is not what {path} was built from",
            found=f"source {found.digest[:12]}",
            limit=f"source {manifest.source[:12]}",
            fix="give the voice or source that it was built from, by the same release of gsvexport, or build it anew",
        )
    for entry in store.entries():
        folder = store.root / entry.key / "content" / "source"
        if (folder / "source.json").is_file() and open_source(folder).digest == manifest.source:
            return open_source(folder, verify=True)
    raise InputError(
        f"the source of {path} is not in the cache",
        found=f"source {manifest.source[:12]}",
        fix="--source VOICE names the voice (or the source) that it was built from",
    )


def _reference(source: Source, table: ReferenceTable, progress: Progress | None) -> Reference:
    # What is nested belongs to flow matching alone, which no reference depends on.
    values: dict[str, Any] = source.meta["hyperparameters"]["acoustics"]
    sizes: dict[str, Any] = {name: None if isinstance(value, dict) else value for name, value in values.items()}
    reference, notes = read_reference(table, source.model.language, SovitsDims(**sizes), source.model.files)
    for word in notes:
        (progress or (lambda _: None))(note(word))
    return reference


def _with_reference(source: Source, reference: Reference, table: ReferenceTable, store: Store, say: Progress) -> Source:
    """The source with this reference, kept: an artifact that is made of it can be given another one later."""
    key = canonical_json(
        {
            "step": "bake",
            "source": source.digest,
            "audio": [sha256_file(path) for path in reference.audio],
            "said": [table.text, reference.language, list(reference.phones or ())],
        }
    )
    label = f"source of {source.model.name} with another reference"
    made = store.obtain(sha256_bytes(key.encode()), lambda work: _rebaked(source, reference, work, say), label=label)
    return open_source(made / "source")


def _rebaked(source: Source, reference: Reference, work: Path, say: Progress) -> None:
    rebake(source, reference, work / "source", progress=say)


def _noted(manifest: Manifest) -> Manifest:
    """The stages that were calibrated say that their ranges are those of an earlier reference."""
    stages = {
        name: replace(entry, notes=(*entry.notes, STALE_RANGES))
        if entry.precision in declared(entry.backend).calibrated and STALE_RANGES not in entry.notes
        else entry
        for name, entry in manifest.stages.items()
    }
    return replace(manifest, stages=stages)
