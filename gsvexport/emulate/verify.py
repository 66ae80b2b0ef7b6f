"""Verification of an artifact on an emulated core: what `verify` asks, and how far this machine's own kernels are.

Stages run in the guest; sampling, metrics and, where it is given, the source run here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import Manifest
from gsvexport.artifact.trust import Key
from gsvexport.compiler.pack import intact
from gsvexport.emulate.guest import TIMEOUT, EmulatedVoice, Guest
from gsvexport.emulate.install import Emulator, find
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.target.tables import nearest
from gsvexport.verify import GOLDEN, checks, golden, package, verify_voice
from gsvexport.verify.cases import Case
from gsvexport.verify.gates import Gates, not_run, resolve
from gsvexport.verify.report import Check, Report

Progress = Callable[[str], None]

EMULATOR = "qemu-aarch64"  # what a target calls it
MEASURED = Gates({})  # measured without limits: that kernels differ is no failure, and may be this machine's doing


def verify_emulated(
    path: Path,
    core: str | None = None,
    *,
    source: Path | None = None,
    emulator: Callable[[], Emulator] = find,
    timeout: float = TIMEOUT,
    key: Key | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify an artifact on an emulated `core`, by default the one that its target names, with one thread.

    The report names the core as `emulated`. Where nothing could be emulated, because there is no emulator, it does not
    play this core, or an answer took longer than `timeout` seconds, every check is "not run", and the report says why.

    Raises:
        InputError: `core` is not known, or none is given and the target names none.
        ArtifactError: the artifact or the source is damaged; names the files.
    """
    say = progress or (lambda _: None)
    folder, manifest = intact(path, key=key, progress=say)
    asked = core or target_core(manifest.target)
    precision = {stage: entry.precision for stage, entry in manifest.stages.items()}
    gates = resolve(precision, manifest.target.get("gates"))
    try:
        machine = emulator()
        known = machine.cores()
        if asked not in known:
            if core is not None:
                raise InputError(f"qemu plays no core called '{core}'{nearest(core, known)}", limit=", ".join(known))
            raise EnvironmentProblem(
                f"this machine's qemu plays no {asked}", limit=", ".join(known), fix="name another core: --emulate max"
            )
        say(f"starting an emulated {asked}")
        with Guest(machine, asked, timeout=timeout) as guest:
            environment = guest.machine()
            report = _verify(folder, manifest, gates, guest, source, say)
            if guest.timed_out:
                raise EnvironmentProblem(f"emulated {asked}: no answer within {timeout:g} s")
    except EnvironmentProblem as problem:
        return _not_run(manifest, gates, asked, problem)
    return Report(report, environment, emulated=asked)


def compare_kernels(
    voice: LoadedVoice, emulated: LoadedVoice, cases: Sequence[Case] = (), progress: Progress | None = None
) -> list[Check]:
    """How far the emulated kernels' outputs are from this machine's, for one artifact: measurements without limits.

    Both get the inputs of `cases` (without any: the golden inputs, with the codes that this machine's kernels choose).
    Error, top-1, top-15 and divergence of teacher-forced logits; error and signal-to-noise of latents and sound.
    """
    here = [_here(voice, case) for case in cases] or golden.cases(voice, golden.GOLDEN)
    return checks.compare(emulated, here, MEASURED, f"{platform.machine()} kernels", progress or (lambda _: None))


def _here(voice: LoadedVoice, case: Case) -> Case:
    """A case with what this machine's kernels make of its inputs."""
    if case.stage != golden.TEACHER:
        return replace(case, outputs=voice.run(case.stage, case.inputs))
    outputs = golden.teacher_forced(voice, **case.inputs, count=len(case.inputs["tokens"]))
    return replace(case, outputs={name: outputs[name] for name in case.outputs})


def target_core(target: Mapping[str, Any]) -> str:
    """The core that an artifact's resolved target wants to be emulated.

    Raises:
        InputError: it names none, or is of another architecture.
    """
    device = target.get("device", {})
    if target.get("emulator") == EMULATOR or device.get("arch") == "aarch64":
        return str(device.get("core") or "max")
    raise InputError(
        f"target {target.get('name')} names no aarch64 core to emulate",
        found=device.get("arch"),
        fix="name one, for example --emulate cortex-a76",
    )


def _verify(
    folder: Path, manifest: Manifest, gates: Gates, guest: Guest, source: Path | None, say: Progress
) -> tuple[Check, ...]:
    backends = {stage: entry.backend for stage, entry in manifest.stages.items()}
    cases = golden.read(folder / golden.FOLDER) if (folder / golden.FOLDER).is_dir() else ()
    with EmulatedVoice(folder, guest, backends=backends) as voice:
        if source is None:
            found = verify_voice(voice, gates, cases, progress=say)
        else:
            with load(source) as original:
                found = verify_voice(voice, gates, cases, original, progress=say)
        with load(folder, threads=1, any_machine=True) as here:
            held = package.vectors(here.model, cases, gates)
            return (*held, *found.checks, *compare_kernels(here, voice, cases, say))


def _not_run(manifest: Manifest, gates: Gates, core: str, problem: EnvironmentProblem) -> Report:
    reason = f"{core} was not emulated: {' '.join(str(problem).split())}"
    found = [not_run(gates, stage, "valid", GOLDEN, reason) for stage in manifest.stages]
    return Report(tuple(found), {"emulator": reason})
