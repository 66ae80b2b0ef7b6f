"""From lowered stages to one verified artifact."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact import container, trust
from gsvexport.artifact.manifest import REPORT, Manifest, StageEntry, Weights
from gsvexport.artifact.proof import Proof, told
from gsvexport.artifact.tools import tool_version
from gsvexport.backends import carriage, declared, emulation, finished
from gsvexport.backends import compiler as compilers
from gsvexport.backends.carried import unproven
from gsvexport.compiler.inputs import Opened
from gsvexport.compiler.plan import Plan
from gsvexport.compiler.store import Store
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import canonical_json, link, sha256_once
from gsvexport.progress import Progress, note, recognised, within
from gsvexport.stages import VERSIONS
from gsvexport.target.machine import check_machine, mismatch
from gsvexport.verify.depth import Depth, insist
from gsvexport.voice.profile import NOTICE

if TYPE_CHECKING:
    from gsvexport.artifact.trust import Key
    from gsvexport.compiler.source import Source
    from gsvexport.runtime.pipeline import LoadedVoice
    from gsvexport.verify.report import Check, Report
    from gsvexport.voice.reference import Reference

LOWERED = "lowered.json"  # what a lowering says about its stages and weights, beside its files
ENGINES = "engines.json"  # what is said about engines that were built ahead of time, beside their files


def pack_and_verify(plan: Plan, opened: Opened, parts: list[Path], work: Path, say: Progress) -> Report:
    """Write `artifact.gsv` with its report into `work`.

    What is verified is what a device will unpack: the container is written and unpacked again first. The report is then
    added beside the verified members, which `Manifest.digest` (it leaves the report out) shows to be the same.
    """
    manifest = _assemble(plan, opened, parts, work / "files")
    depth = Depth(**plan.step("verify").params["depth"])
    references = reference_feeds(opened.exported, opened.voice.reference if opened.voice else None)
    teacher = opened.teacher.exported.path if opened.teacher else None
    return prove(
        manifest, work, opened.exported.path, references, depth, say, teacher=teacher, untaught=opened.untaught
    )


def prove(
    manifest: Manifest,
    work: Path,
    source: Path | LoadedVoice,
    references: list[dict[str, Any]] | None,
    depth: Depth,
    say: Progress,
    **beside: Any,
) -> Report:
    """Pack what is in `work`/files, unpack it, verify it, and write `work`/artifact.gsv with the report.

    `source` is a folder, or open. `beside` is what `verify_artifact` is told of a student's teacher.
    """
    say("packing")
    files = work / "files"
    manifest = container.with_members(manifest, files)
    container.write(manifest, files, work / "unverified.gsv")
    container.unpack(work / "unverified.gsv", work / "unpacked")
    (work / "unverified.gsv").unlink()
    elsewhere = mismatch(manifest.target)
    say(f"verifying on {elsewhere}, which is no {manifest.target['name']}" if elsewhere else "verifying")
    report = _verified(work / "unpacked", manifest, say, source=source, references=references, depth=depth, **beside)
    report = _proven(replace(report, elsewhere=elsewhere), manifest)
    shutil.rmtree(work / "unpacked")
    (files / REPORT).write_bytes(canonical_json(report.to_json()).encode())
    final = container.with_members(manifest, files)
    if final.digest != manifest.digest:
        raise EnvironmentProblem("files changed while they were verified", fix="build again")
    container.write(final, files, work / "artifact.gsv")
    shutil.rmtree(files)
    return report


def verify_packed(
    path: Path,
    *,
    source: Path | None = None,
    teacher: Path | None = None,
    any_machine: bool = False,
    depth: Depth | None = None,
    key: Key | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify an artifact as it is on this machine: every byte, then every stage against its golden vectors.

    `source`, a source folder, adds the comparison with the source, and `teacher` that of a student with the source of
    its teacher. `any_machine` takes an artifact that was made for
    another machine, and the report says so. `depth` says how far to go, and what has to run; `key` who has to have
    signed it.

    Raises:
        ArtifactError: the artifact or the source is damaged (names the files), or it was made for another machine.
    """
    folder, manifest = intact(path, key=key, progress=progress)
    if not any_machine:
        check_machine(manifest.target, path)
    untaught = "no teacher was given to compare with" if teacher is None and _slim(source) else ""
    report = _verified(
        folder,
        manifest,
        progress or (lambda _: None),
        source=source,
        depth=depth,
        teacher=teacher,
        untaught=untaught,
    )
    report = insist(report, depth.required if depth else ())
    return _proven(replace(report, elsewhere=mismatch(manifest.target)), manifest)


def _proven(report: Report, manifest: Manifest) -> Report:
    """The report with how strongly it proves each stage.

    What our own arithmetic stood in for has not run: a compiler has taken its graphs, or it was built. A device is one
    where nothing stands in, the machine is the target's, and the target has no accelerator that only its own tool sees.
    """
    # A stage that could not even be opened fails to be valid, and nothing of it has run.
    ran = {
        check.stage
        for check in report.checks
        if check.level > 0 and (check.status == "pass" or (check.status == "fail" and check.metric != "valid"))
    }
    rungs, device = {}, manifest.target.get("device", {})
    for stage, entry in manifest.stages.items():
        backend = declared(entry.backend)
        if stage not in ran or (report.emulated and backend.emulation):
            rungs[stage] = Proof.COMPILED if report.compiled or manifest.engines else Proof.BUILT
        elif report.emulated or report.elsewhere or device.get("tpu") or device.get("npu"):
            rungs[stage] = backend.proves(device)
        else:
            rungs[stage] = Proof.DEVICE
    return replace(report, proof=told(rungs))


def _slim(source: Path | None) -> bool:
    """Whether a source is a student's."""
    from gsvexport.compiler.source import open_source

    return source is not None and "slim" in open_source(source).meta.get("provenance", {})


def _verified(folder: Path, manifest: Manifest, say: Progress, **what: Any) -> Report:
    """`verify_artifact` as often as it takes: once, or in each mode of what stands in for a backend's device."""
    from gsvexport.verify import verify_artifact
    from gsvexport.verify.report import Check, Report

    precisions = {stage: entry.precision for stage, entry in manifest.stages.items()}
    judged, compiler_name = _compiled(folder, manifest, say)
    run = partial(verify_artifact, folder, gates=manifest.target.get("gates"), precision=precisions, **what)
    backends = {entry.backend for entry in manifest.stages.values()}
    stand_ins = {name: found for name in sorted(backends) if (found := emulation(name)) and not finished(name, folder)}
    if not stand_ins:
        report = run(progress=say)
        return replace(report, checks=(*report.checks, *judged), compiled=compiler_name)
    checks: list[Check] = []
    for name, stand_in in stand_ins.items():
        doubt = getattr(stand_in, "UNPROVEN", "")
        real = {stage for stage, entry in manifest.stages.items() if entry.backend != name} | {"baked"}
        for mode in stand_in.MODES:
            report = run(progress=within(mode, say), opener=stand_in.opener(mode))
            checks += [_stood_in(check, mode, doubt, real) for check in report.checks]
        checks.append(Check(4, "engine", "valid", "device", None, None, "min", 0, "not_run", reason=stand_in.REMAINS))
    modes = " and ".join(mode for stand_in in stand_ins.values() for mode in stand_in.MODES)
    return Report((*judged, *checks), report.environment, emulated=modes, compiled=compiler_name)


def _stood_in(check: Check, mode: str, doubt: str, real: set[str]) -> Check:
    """A check of a run in which something stood in. With a `doubt` that proves nothing: what it has a part in may fail
    and has not passed, and what is of `real` stages ran as it is."""
    if doubt and (check.level == 0 or check.stage in real):
        return check
    found = replace(check, against=f"{check.against}; {mode}")
    if not doubt or check.status != "pass":
        return found
    return replace(found, status="not_run", value=None, baseline=None, low=None, high=None, reason=doubt)


def _compiled(folder: Path, manifest: Manifest, say: Progress) -> tuple[list[Check], str | None]:
    """What the vendors' own compilers say of the graphs, and which they were; kept by content, for other targets."""
    from gsvexport.verify.gates import judge, not_run, resolve

    store, checks, names = Store(note=say), [], []
    gates = resolve({stage: entry.precision for stage, entry in manifest.stages.items()}, manifest.target.get("gates"))
    for backend in sorted({entry.backend for entry in manifest.stages.values()}):
        if (compiler := compilers(backend)) is None:
            continue
        against = compiler.name() or "the vendor's compiler"
        names += [compiler.name()] if compiler.name() else []
        for stage, metric, value, count, reason, form in compiler.judge(
            folder, manifest, store.obtain, recognised(say)
        ):
            where = f"{against}; {form}" if form else against
            row = None if value is None else judge(gates, stage, metric, where, value, count, reason=reason)
            checks.append(row or not_run(gates, stage, metric, where, reason))
    return checks, "; ".join(names) or None


def intact(path: Path, *, key: Key | None = None, progress: Progress | None = None) -> tuple[Path, Manifest]:
    """The folder and the manifest of an artifact, unpacked where need be, after every byte was checked, and its
    signature and the code that it carries, too; with `key` this one has to have signed it.

    Raises:
        ArtifactError: it is damaged (names the files), wrongly signed, not signed by `key`, or carries other code.
    """
    say = progress or (lambda _: None)
    proven = trust.prove(path, key)
    manifest = proven.manifest
    say("checking every byte")
    if not path.is_dir() and (problems := container.damage(path)):
        raise ArtifactError(f"{path} is damaged", problems=problems, fix="get the artifact again, or build it again")
    if reason := unproven(manifest, str(path)):
        say(note(f"warning: {reason}"))
    folder = path if path.is_dir() else container.unpacked(path, proven.text)
    if problems := container.differences(folder, manifest, hashes=sha256_once):
        fix = "get the artifact again" if path.is_dir() else f"remove {folder}; it is unpacked again"
        raise ArtifactError(f"{path}: its files in {folder} are damaged", problems=problems, fix=fix)
    return folder, manifest


def _assemble(plan: Plan, opened: Opened, parts: list[Path], files: Path) -> Manifest:
    """Collect an artifact's files in `files`; returns its manifest, still without members."""
    files.mkdir()
    stages: dict[str, StageEntry] = {}
    weights: list[Weights] = []
    engines: dict[str, Any] | None = None
    source, model = opened.exported, opened.exported.model
    for part in parts:
        if (part / LOWERED).is_file():
            lowered = json.loads((part / LOWERED).read_text(encoding="utf-8"))
            stages |= {stage: StageEntry.from_json(entry) for stage, entry in lowered["stages"].items()}
            weights += [Weights(tuple(one["stages"]), one["kind"], one["bytes"]) for one in lowered["weights"]]
            _link_tree(part / "files", files)
        elif (part / ENGINES).is_file():
            engines = json.loads((part / ENGINES).read_text(encoding="utf-8"))
            _link_tree(part / "files", files)
        else:
            _link_tree(part, files)
    kept = model.vocabulary if "bert" in stages else None
    for file in (*model.baked.values(), *([kept] if kept else ())):
        link(source.path / file, files / file)
    for backend in plan.lowerings:
        if offered := carriage(backend):
            for name, path in offered.carried().items():
                (files / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, files / name)
    if opened.notice:
        (files / NOTICE).write_bytes(opened.notice)
    model = replace(model, files={stage: entry.file for stage, entry in stages.items()}, vocabulary=kept)
    (files / "model.json").write_bytes(canonical_json(model.to_json()).encode())
    tools = {tool: tool_version(tool) for tool in ("gsvexport", "numpy", "onnxruntime")}
    for backend in plan.lowerings:
        tools |= {tool: tool_version(tool) for tool in declared(backend).tools}
    return Manifest(
        name=model.name,
        version=model.version,
        target=plan.target.to_json(),
        source=source.digest,
        baked_key=model.baked_key,
        tools=tools,
        stages=stages,
        members={},
        weights=tuple(weights),
        engines=engines,
    )


def reference_feeds(source: Source, reference: Reference | None) -> list[dict[str, Any]] | None:
    """What stage `reference` is fed for each recording of a reference, or what stage `speaker` is fed where that makes
    the embedding; None without one."""
    if reference is None:
        return None
    from gsvexport.signal.audio import decode, read_audio, spectrogram
    from gsvexport.signal.cloning import speaker_fbank

    parameters, feeds = source.model.spectrogram, []
    for index, path in enumerate(reference.audio):
        feed = {"spectrogram": spectrogram(read_audio(path, parameters.rate), parameters)}
        if reference.speaker:
            feed["speaker"] = reference.speaker[index].reshape(1, -1)
        elif VERSIONS[source.model.version].speaker:
            samples, rate = decode(path)
            feed["fbank"] = speaker_fbank(samples.mean(axis=1, dtype="float64"), rate)
        feeds.append(feed)
    return feeds


def _link_tree(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            link(path, target / path.relative_to(source))
