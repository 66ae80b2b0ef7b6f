"""Carry out plans: from a voice to one verified `.gsv` for each target.

Everything that takes time happens in the store, step by step; a build that is killed goes on from its last finished
step. An artifact reaches the output folder whole, verified and by a rename, or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.encoding import QUALITIES
from gsvexport.artifact.manifest import StageEntry
from gsvexport.backends import ahead, declared, lowering, refuse_unready
from gsvexport.backends import verdicts as backend_verdicts
from gsvexport.compiler.compress import shrink
from gsvexport.compiler.inputs import Opened, open_voice
from gsvexport.compiler.pack import ENGINES, LOWERED, pack_and_verify
from gsvexport.compiler.plan import Plan, Step, artifact_name, make_plan
from gsvexport.compiler.store import Store
from gsvexport.compiler.student import of_targets
from gsvexport.errors import GateFailed, GsvError, InputError, VoiceError
from gsvexport.files import atomic_file, canonical_json, disk_errors, sha256_bytes
from gsvexport.progress import Progress, note, within
from gsvexport.target.target import Target, read_targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.calibrate import Calibrated
    from gsvexport.compiler.source import Source
    from gsvexport.verify.report import Report
    from gsvexport.verify.ruler import Ruler
    from gsvexport.voice.profile import ReferenceTable

    Array = NDArray[Any]

RULER = "ruler.json"
_COMPRESS = "GSVEXPORT_COMPRESS"
CALIBRATION = "calibration.json"  # the member that says what an integer stage was calibrated with


def build(
    voice: str | Path | None = None,
    targets: str | Sequence[str] = (),
    out: str | Path = ".",
    *,
    force: bool = False,
    strict: bool = False,
    level: int = 2,
    compress: str | None = None,
    engine: str | None = None,
    reference: ReferenceTable | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Build one artifact for each target into the folder `out`, verify it, and return their paths.

    `voice` is a folder with `voice.toml`, a `voice.toml`, an exported source, or None for the built-in demo voice;
    `targets` are names from the registry or TOML files. Files that exist are replaced only with `force`. `strict`
    refuses a calibration set that lacks phones or has one speaking rate only; without it such a set is warned of.
    Each is verified up to `level` of proof, 2 or 3. `compress` is "none", "fast", or "release", which takes about ten
    times as long as the rest of a build (and is kept); None leaves it to GSVEXPORT_COMPRESS, or is "fast". `engine`
    says where engines are built, "on-device" or "ahead-of-time"; None leaves it to each target (see `plan.make_plan`).
    `reference` (see `voice.profile.given_reference`) takes the place of the voice's own. `progress` is told in words
    what is being done (see `gsvexport.progress`).

    Raises:
        InputError: an output exists (before anything is done), or no target is given.
        TargetError, VoiceError: what is wrong with the arguments, all of it.
        GateFailed: an artifact missed a limit; it is not kept, its report is, as NAME.report.json.
        EnvironmentProblem: the disk is full, or a package of the extra `compile` is missing, or the compiler of engines
            that `engine` asks for.
    """
    say = progress or (lambda _: None)
    chosen = read_targets([targets] if isinstance(targets, str) else targets)
    if not chosen:
        raise InputError("no target was named", fix="gsvexport targets lists them")
    compress = compress or os.environ.get(_COMPRESS) or "fast"
    if compress not in QUALITIES:
        raise InputError(f"compress (or {_COMPRESS}) takes {', '.join(QUALITIES)}, not {compress!r}")
    opened = open_voice(voice, reference=reference, progress=say)
    each = of_targets(opened, chosen, reference=reference, progress=say)
    return _build(each, chosen, Path(out), force, strict, level, compress, engine, say)


def build_opened(opened: Opened, target: str, out: Path, progress: Progress) -> Path:
    """`build` for one target of a voice that is open, without compression; of that very voice.

    Raises: as `build`.
    """
    return _build([opened], read_targets([target]), out, False, False, 2, "none", None, progress)[0]


def _build(
    voices: Sequence[Opened],
    chosen: Sequence[Target],
    folder: Path,
    force: bool,
    strict: bool,
    level: int,
    compress: str,
    engine: str | None,
    say: Progress,
) -> list[Path]:
    """What `build` does, of the voice in `voices` that each target is built of."""
    plans = [
        make_plan(target, opened.subject, level=level, engine=engine)
        for target, opened in zip(chosen, voices, strict=True)
    ]
    _refuse_without_reference(plans)
    outputs = [folder / artifact_name(plan.subject, plan.target) for plan in plans]
    _refuse_outputs(folder, outputs, force=force)
    store = Store(note=say)
    exported: dict[Path, Opened] = {}
    for plan, opened in zip(plans, voices, strict=True):
        if opened.path not in exported:
            exported[opened.path] = _exported(opened, plan, store, say)
    errors: list[GsvError] = []
    for plan, path, opened in zip(plans, outputs, voices, strict=True):
        own = within(plan.target.name, say)
        try:
            done = _build_one(_Job(plan, exported[opened.path], store, path, strict, own))
            _deliver(done, path, compress, store, force=force, say=own)
        except GsvError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        summary = f"{len(errors)} of {len(plans)} targets failed"
        raise type(errors[0])(summary, problems=[str(error) for error in errors])
    return outputs


def _exported(opened: Opened, plan: Plan, store: Store, say: Progress) -> Opened:
    """The same with its source, and its teacher with its own."""
    opened = replace(opened, source=obtain_source(opened, plan, store, say))
    if (teacher := opened.teacher) is not None:
        plan = make_plan(plan.target, teacher.subject)  # the step `source` is the same for all
        opened = replace(opened, teacher=replace(teacher, source=obtain_source(teacher, plan, store, say)))
    return opened


def obtain_source(opened: Opened, plan: Plan, store: Store, progress: Progress) -> Source:
    """The ONE ONNX source of what was opened, from the store unless it is a source itself."""
    from gsvexport.compiler.source import open_source, write_source

    if opened.source is not None:
        return opened.source
    voice = opened.voice
    assert voice is not None

    def make(work: Path) -> None:
        write_source(voice, work / "source", progress=within("source", progress))

    folder = store.obtain(plan.step("source").key, make, label=f"source of {voice.name}")
    return open_source(folder / "source")


def source_of(given: Path | Opened, store: Store, progress: Progress) -> Source:
    """The ONE ONNX source of a voice, or of a source."""
    from gsvexport.target.target import target_names

    opened = given if isinstance(given, Opened) else open_voice(given, progress=progress)
    some = read_targets([target_names()[0]])[0]  # the step `source` is the same for all
    return obtain_source(opened, make_plan(some, opened.subject), store, progress)


def verdicts(plan: Plan, opened: Opened, progress: Progress | None = None) -> str:
    """What the compilers on the device would say to the graphs of a plan, by release; empty where nobody has to ask."""
    asked = [(offer, step) for name, step in plan.lowerings.items() if (offer := backend_verdicts(name))]
    if not asked:
        return ""
    say = progress or (lambda _: None)
    source = obtain_source(opened, plan, Store(note=say), say)
    pages = [
        offer.verdicts(source.path, source.model, step.params["stages"], step.params["device"]) for offer, step in asked
    ]
    return "".join(f"{page}\n" for page in pages)


@dataclass(frozen=True, eq=False)
class _Job:
    """One artifact to build: how (`plan`), of what (`opened`, its source in it), and where it will be delivered."""

    plan: Plan
    opened: Opened
    store: Store
    path: Path
    strict: bool
    say: Progress

    @property
    def source(self) -> Source:
        """What is lowered."""
        return self.opened.exported

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.plan.subject.name} for {self.plan.target.name}"


def _build_one(job: _Job) -> Path:
    """Lower, pack, verify; returns the plain artifact in the store."""
    plan, store, path, say, name = job.plan, job.store, job.path, job.say, job.name
    for backend, step in plan.lowerings.items():
        if not store.holds(step.key):
            refuse_unready(backend)
    ruler = _ruler(job)
    make_golden = partial(_golden, job.source, ruler, say)
    parts = [store.obtain(plan.step("golden").key, make_golden, f"golden vectors of {job.source.model.name}")]
    calibration = _calibration(job, ruler)
    for backend, step in plan.lowerings.items():
        make = partial(_lower, step, job.source, calibration, say)
        parts.append(store.obtain(step.key, make, f"{name}, lowered for {backend}"))
    for backend, step in plan.engines.items():
        lowered = parts[1 + list(plan.lowerings).index(backend)] / "files"
        build_engines = partial(_engines, backend, lowered, say)
        parts.append(store.obtain(step.key, build_engines, f"{name}, engines of {backend}"))
    failed: list[Report] = []

    def finish(work: Path) -> bool:
        report = pack_and_verify(plan, job.opened, parts, work, say)
        if not report.passed:
            failed.append(report)
            raise GateFailed(
                f"{name} does not pass its verification",
                problems=[
                    f"{c.stage}.{c.metric} = {c.worst} (limit {c.limit}) {c.reason}".rstrip() for c in report.failures
                ],
                fix=f"read {report_path(path)}",
            )
        return any(store.passing(step.key) for step in plan.lowerings.values())

    try:
        done = store.obtain(plan.step("verify").key, finish, label=name)
    except GateFailed:
        with atomic_file(report_path(path), force=True) as work:
            work.write_bytes(canonical_json(failed[0].to_json()).encode())
        raise
    report_path(path).unlink(missing_ok=True)  # of an earlier build that failed
    return done / "artifact.gsv"


def report_path(artifact: Path) -> Path:
    """Where the report of an artifact that failed its verification is left."""
    return artifact.with_suffix(".report.json")


def _ruler(job: _Job) -> Ruler:
    """How far the source moves by itself; measured once for all targets."""
    from gsvexport.verify.ruler import Ruler, of_source

    def make(work: Path) -> None:
        (work / RULER).write_bytes(canonical_json(of_source(job.source.path, job.say).to_json()).encode())

    path = job.store.obtain(job.plan.step("ruler").key, make, f"ruler of {job.source.model.name}") / RULER
    return Ruler.from_json(json.loads(path.read_text(encoding="utf-8")), str(path))


def _golden(source: Source, ruler: Ruler, say: Progress, work: Path) -> None:
    from gsvexport.verify import golden

    say("computing golden vectors")
    golden.make(source.path, work / golden.FOLDER, ruler)


def _calibration(job: _Job, ruler: Ruler) -> Calibrated | None:
    """What the stages of the source really see, for plans that need to know; spoken once for all targets.

    What the calibration set lacks is told, also when it was spoken before; `strict` refuses it, before it is spoken.
    """
    plan, source, say = job.plan, job.source, job.say
    step = next((step for step in plan.steps if step.name == "calibrate"), None)
    if step is None:
        return None
    from gsvexport.calibrate import Calibrated, Settings, Vocoded, calibrate, read_result, refuse_findings
    from gsvexport.verify.gates import SPOKEN, share_of_gates

    def make(work: Path) -> None:
        calibrate(source.path, Settings.from_json(step.params["settings"]), strict=job.strict, progress=say).write(work)

    result = read_result(job.store.obtain(step.key, make, f"calibration of {job.name}"))
    for finding in result.coverage.findings:
        say(note(f"warning ({finding.name}): {finding.text}"))
    if job.strict:
        refuse_findings(source.model.name, result.coverage.findings)
    which = "absolute" if ruler.unit is None else "ruled"
    gates = {stage: both[which] for step in plan.lowerings.values() for stage, both in step.params["gates"].items()}
    vocoded = Vocoded(source.path)

    def damage(stage: str, pairs: Sequence[tuple[Array, Array]]) -> float:
        limits = dict(gates[stage])
        heard = {"sound_share": limits.pop("sound_share")} if stage in SPOKEN and "sound_share" in limits else {}
        whole = share_of_gates(pairs, source.model.rate, limits, ruler.unit)
        return (
            max(whole, share_of_gates(vocoded.pairs(pairs), source.model.rate, heard, ruler.unit)) if heard else whole
        )

    return Calibrated(result, damage)


def _lower(step: Step, source: Source, calibration: Calibrated | None, say: Progress, work: Path) -> bool:
    backend, placement = step.params["backend"], step.params["stages"]
    say(f"lowering {', '.join(placement)} for {backend}")
    files = work / "files"
    files.mkdir()
    more = {"say": say} if declared(backend).tells else {}
    done = lowering(backend).lower(
        source.path,
        source.model,
        placement,
        files,
        device=step.params["device"],
        calibration=calibration,
        **more,
    )
    if calibration is not None:
        (files / CALIBRATION).write_bytes(canonical_json(calibration.result.to_json()).encode())
    stages = {
        stage: StageEntry(
            done.files.get(stage, source.model.files[stage]),
            backend,
            placement[stage],
            done.notes[stage],
            done.decisions.get(stage),
        ).to_json()
        for stage in placement
    }
    value = {"stages": stages, "weights": [asdict(one) for one in done.weights]}
    (work / LOWERED).write_bytes(canonical_json(value).encode())
    if done.again:
        say(note("a tool from outside failed; the next build tries again"))
    return done.again


def _engines(backend: str, lowered: Path, say: Progress, work: Path) -> None:
    """Build the engines of lowered graphs; see the backend's `ahead.py`."""
    say(f"building engines of {backend} ahead of time")
    module = ahead(backend)
    assert module is not None
    files = work / "files"
    files.mkdir()
    (work / ENGINES).write_bytes(canonical_json(module.build(lowered, files, say)).encode())


def _deliver(stored: Path, path: Path, compress: str, store: Store, *, force: bool, say: Progress) -> None:
    """Write a finished artifact of the store to where it is wanted, one process at a time."""
    with disk_errors(path), store.locked(sha256_bytes(str(path.absolute()).encode())):
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_outputs(path.parent, [path], force=force)
        shrink(stored, path, compress, store, force=force, progress=say)


def _refuse_outputs(folder: Path, outputs: Iterable[Path], *, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"the output {folder} is not a folder", fix="choose another with -o")
    if existing := [str(path) for path in outputs if path.exists() and not force]:
        raise InputError(
            "outputs exist already",
            problems=existing,
            fix="choose another folder with -o, or replace them with --force",
        )


def _refuse_without_reference(plans: Sequence[Plan]) -> None:
    """Calibration speaks, and a voice without a baked reference cannot: said before any work."""
    calibrated = [plan for plan in plans if any(step.name == "calibrate" for step in plan.steps)]
    silent = [plan.target.name for plan in calibrated if not plan.subject.baked]
    if silent:
        raise VoiceError(
            f"{plans[0].subject.name} has no baked reference; these targets must hear it speak: {', '.join(silent)}",
            fix="give its voice.toml a [reference] table, or choose a target without integer stages (x86-64)",
        )
