#!/usr/bin/env python3
"""On the device: build an artifact's engines, prove them with its golden vectors, measure them, report.

    python3 finalize.py [--out REPORT] [--cache KIND]      in the folder of an unpacked artifact

It is what `gsvexport finalize` does.

The artifact carries this file and the modules it uses (`CARRIED`). They need Python 3.8, numpy, TensorRT and the CUDA
runtime. Engines are kept in the user's cache (`plans.py`); finished ones are used again after an interruption.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.dont_write_bytecode = True  # an unpacked artifact stays what its manifest lists

import numpy as np

from gsvexport.backends.tensorrt import chosen, plans, ready
from gsvexport.backends.tensorrt.building import build
from gsvexport.backends.tensorrt.cuda import Cuda, Unjudged
from gsvexport.backends.tensorrt.decoder import T2S
from gsvexport.backends.tensorrt.device import (
    Device,
    check_device,
    check_disk,
    host_memory_mb,
    import_tensorrt,
    this_device,
)
from gsvexport.backends.tensorrt.engine import Engine, NotItsGraph
from gsvexport.backends.tensorrt.measure import measure
from gsvexport.backends.tensorrt.prove import forced, prove, read_cases
from gsvexport.backends.tensorrt.space import Space
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem, GateFailed, GsvError, InputError
from gsvexport.files import atomic_file, canonical_json, disk_errors, sha256_bytes, sha256_file
from gsvexport.model import read_model
from gsvexport.system.locks import acquire

if TYPE_CHECKING:
    Say = Callable[[str], None]

SCHEMA = 1
SCRIPT = "finalize.py"
_HERE = "backends/tensorrt"
_MODULES = ("__init__", "buffers", "builder", "building", "cuda", "decoder", "device", "engine", "finalize", "measure")
_OTHERS = ("chosen", "kernels", "plans", "ports", "prove", "ready", "rtx", "space", "told")
CARRIED = (  # files of this package that an artifact holds, so that it can be finished without gsvexport
    *("__init__.py", "errors.py", "files.py", "model.py", "stages.py"),
    *("system/__init__.py", "system/disk.py", "system/locks.py", "system/names.py"),
    *("untrusted/__init__.py", "untrusted/engines.py", "untrusted/reading.py", "untrusted/schema.py"),
    *("backends/__init__.py", "backends/declaration.py", "signal/__init__.py", "signal/loudness.py"),
    *(f"{_HERE}/{name}.py" for name in (*_MODULES, *_OTHERS)),
)
# Of the FP16 share that the graph has, an engine must show this much: fused layers are counted once.
_HALF_OF = 0.5
_PACKAGE = Path(__file__).resolve().parent.parent.parent


def carried() -> dict[str, Path]:
    """Member name → file of this package, for everything that an artifact holds of it."""
    files = {f"gsvexport/{name}": _PACKAGE / name for name in CARRIED}
    return {SCRIPT: _PACKAGE / _HERE / SCRIPT, **files}


def reads(folder: Path) -> set[str]:
    """Members that are neither a stage's graph nor carried, and are needed to finish the artifact in `folder`."""
    recipe = plans.read_recipe(folder)
    forms = [
        one for entry in recipe["engines"].values() for one in (entry["weak"], chosen.other_form(entry).get("graph"))
    ]
    engines = plans.read_manifest(folder).get("engines") or {"plans": {}}
    return {plans.RECIPE, *engines["plans"], *filter(None, forms)}


def ports(folder: Path, graph: str) -> dict[str, dict[str, str]]:
    """The numpy type of each input and output that the device is told to expect of a graph."""
    for entry in plans.read_recipe(folder)["engines"].values():
        form = chosen.other_form(entry)
        if graph in (entry["graph"], entry["weak"], form.get("graph")):
            return dict(form["ports"] if graph == form.get("graph") else entry["ports"])
    return {}


def finalize(folder: Path, say: Say, cache: str = plans.AUTO, *, trusted: bool = True) -> dict[str, Any]:
    """Build, prove and measure the engines of the unpacked artifact in `folder`; returns the device report.

    `cache` is one of `plans.CACHES`: what is asked of T2S, which stays with a read-only cache where it has no other
    form for this TensorRT, and, unless that form was asked for, where it cannot be built. The last kind that passed is
    the one that `session.py` opens. Engines in the artifact are code; they are opened if it is `trusted`.
    The report's `passed` says whether every check did; engines that did not are not opened. What the machine is at
    fault for (an engine that it cannot open) judges no engine.

    Raises:
        EnvironmentProblem: no TensorRT, no CUDA, no room, or another finalize at work.
        ArtifactError: made for another device.
        BackendError: an engine that cannot be built or opened.
    """
    manifest, recipe = plans.read_manifest(folder), plans.read_recipe(folder)
    absent = {stage for entry in recipe["engines"].values() for stage in entry["stages"]} - manifest["stages"].keys()
    if absent:
        raise ArtifactError(f"{folder / plans.RECIPE} has stages that the manifest lacks", problems=sorted(absent))
    trt = import_tensorrt(ready.module(manifest), ready.wanted(manifest))
    cuda = Cuda()
    device = this_device(cuda, trt)
    half = {
        name: any(manifest["stages"][stage]["precision"] == "fp16" for stage in entry["stages"])
        for name, entry in recipe["engines"].items()
    }
    say(f"{device.gpu.name}, TensorRT {device.tensorrt}, CUDA {device.gpu.cuda}")
    also = ready.capabilities(manifest, device)
    check_device(device, manifest["target"], recipe, half=any(half.values()), also=also)
    offered = recipe["engines"]
    engines, told = chosen.with_cache(offered, device, cache)
    if told["reason"]:
        say(told["reason"])
    if trusted:
        given, unused = chosen.ready_made(folder, manifest, device, trt, cache)
    else:
        given, unused = {}, chosen.UNTRUSTED if manifest.get("engines") else ""
    engines.update({name: form for name, (form, _) in given.items()})
    if unused:
        say(f"engines that were built ahead of time are not used: {unused}")
    recipe = {**recipe, "engines": engines}
    keep = plans.plan_folder()
    with disk_errors(keep):
        keep.mkdir(parents=True, exist_ok=True)
    with _alone(keep):
        weights = sum(one["size"] for name, one in manifest["members"].items() if name.endswith(".safetensors"))
        built: dict[str, Any] = {}
        made: dict[str, plans.Plan] = {}
        for name, entry in list(engines.items()):
            if name in given:
                made[name] = given[name][1]
                plans.note(made[name])
                say(f"{name}: built ahead of time")
                built[name] = {"built": "ahead of time", "bytes": made[name].file.stat().st_size}
                continue
            made[name] = plans.plan_of(folder, entry, device)
            try:
                built[name] = _built(folder, entry, made[name], device, weights, half[name], say)
            except BackendError as error:
                if not chosen.writes(entry):
                    raise
                if cache == plans.IN_PLACE:
                    fix = f"{error.fix}; or run it without --cache in-place"
                    raise BackendError(error.what, found=error.found, problems=error.problems, fix=fix) from error
                engines[name] = offered[name]
                made[name] = plans.plan_of(folder, offered[name], device)
                told = {"asked": cache, "used": plans.READ_ONLY, "reason": f"a read-only cache is used: {error.what}"}
                say("; ".join((told["reason"], *error.problems[:1])))
                built[name] = _built(folder, offered[name], made[name], device, weights, half[name], say)
        report: dict[str, Any] = {
            "schema": SCHEMA,
            "artifact": _identity(folder, manifest),
            "device": device.to_json(),
            "engines": built,
            "cache": {**told, **({"used": plans.IN_PLACE} if any(map(chosen.writes, engines.values())) else {})},
            "ready_made": {"used": sorted(given), "reason": unused},
        }
        try:
            report.update(_checked(folder, recipe, made, cuda, trt, half, say))
        except (Unjudged, NotItsGraph):
            raise  # what is known about an engine is noted already
        except GsvError:
            for name in _blamed(engines, ()):
                plans.note(made[name], passed=False)
            raise
        for name in engines if report["passed"] else _blamed(engines, report["checks"]):
            plans.note(made[name], passed=report["passed"], recorded=report["recorded"])
        if report["passed"]:
            _discard_others(folder, offered.values(), device, {plan.file for plan in made.values()})
    return report


def reject(folder: Path) -> None:
    """Make the engines of an artifact ones that are not opened: a check outside this module failed."""
    recipe = plans.read_recipe(folder)
    device = this_device(Cuda(), import_tensorrt(ready.module(plans.read_manifest(folder))))
    for entry in recipe["engines"].values():
        plans.note(plans.current(folder, entry, device)[1], passed=False)


def write_report(report: Mapping[str, Any], path: Path, folder: Path) -> None:
    """Write a device report that names no folder of this machine."""
    text = canonical_json(dict(report))
    places = {"ARTIFACT": folder.resolve(), "CACHE": plans.plan_folder().resolve(), "HOME": Path.home()}
    for word, place in places.items():
        text = text.replace(str(place), word)
    with atomic_file(path, force=True) as work:
        work.write_bytes(text.encode())


def summary(report: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    lines = [report["cache"]["reason"]] if report["cache"]["reason"] else []
    if report["ready_made"]["used"]:
        lines.append(f"built ahead of time, run here: {', '.join(report['ready_made']['used'])}")
    if report["ready_made"]["reason"]:
        lines.append(f"built ahead of time and not used: {report['ready_made']['reason']}")
    for check in report["checks"]:
        if check["status"] in ("fail", "not_run"):
            limit = "" if check["limit"] is None else f", limit {check['limit']:g}"
            words = (f"{check['status']}:", check["stage"], check["metric"], f"{check['value']}{limit}")
            lines.append(" ".join([*words, check.get("reason", "")]).rstrip())
    speed = report["speed"]
    if "step_ms_plain" in speed:
        plain, graph = (speed[name]["host"]["median"] for name in ("step_ms_plain", "step_ms_graph"))
        word = "" if speed["step_ms_graph"]["recorded"] else " (it could not be recorded)"
        lines.append(f"one code: {plain:g} ms, as a CUDA graph {graph:g} ms{word}")
    if "rtf" in speed:
        lines.append(f"real-time factor {speed['rtf']:g} for {speed['codes'] / 25:g} s of speech")
    passed = sum(check["status"] == "pass" for check in report["checks"])
    lines.append(f"{'passed' if report['passed'] else 'FAILED'}: {passed} of {len(report['checks'])} checks pass")
    return "\n".join(lines)


def _blamed(engines: Mapping[str, Mapping[str, Any]], checks: Iterable[Mapping[str, Any]]) -> set[str]:
    """The engines that a failure makes ones that are not opened: all, unless one writes its cache in place. Then that
    one and those whose own checks failed, so that what worked before it was tried goes on working."""
    failed = {check["stage"] for check in checks if check["status"] == "fail"}
    own = {name for name, entry in engines.items() if failed & {name, *entry["stages"]}}
    return own | ({name for name, entry in engines.items() if chosen.writes(entry)} or set(engines))


def _discard_others(folder: Path, entries: Iterable[Mapping[str, Any]], device: Device, kept: set[Path]) -> None:
    """Remove engines with the other kind of cache, or built ahead of time: those that were just proven are the ones to
    open. That one of the latter failed is not forgotten, or it would be tried again."""
    for entry in entries:
        for _, other in plans.every(folder, entry, device):
            failed = other.ready and (plans.notes_of(other) or {}).get("passed") is False
            if other.file not in kept and not failed:
                plans.discard(other)


def _built(
    folder: Path, entry: Mapping[str, Any], plan: plans.Plan, device: Device, weights: int, half: bool, say: Say
) -> dict[str, Any]:
    """Build one engine unless it is there and passed or was never judged."""
    why = plans.stale(plan) or ("it failed its checks" if (plans.notes_of(plan) or {}).get("passed") is False else "")
    if not why:
        say(f"{plan.engine}: built before")
        return {"built": "before", "bytes": plan.file.stat().st_size}
    say(f"{plan.engine}: {why}")
    check_disk(plan.file.parent, weights)
    told = build(folder, entry, plan, device, half=half, say=say)
    superseded = plans.discard_superseded(plan)
    return {"built": "now", "bytes": plan.file.stat().st_size, "superseded": superseded, **told}


def _checked(
    folder: Path, recipe: Mapping[str, Any], made: Mapping[str, plans.Plan], cuda: Cuda, trt: Any, half: Any, say: Say
) -> dict[str, Any]:
    """Open the engines, run the golden vectors, measure."""
    model, before = read_model(folder), cuda.memory()[0]
    say("opening the engines")
    engines = _opened(recipe["engines"], made, Space(cuda), trt)
    t2s = T2S(engines["t2s"], model.dims) if "t2s" in engines else None
    recorded, reason = _same_when_recorded(t2s, folder) if t2s else (False, "no T2S")
    if t2s is not None:
        t2s.recorded = recorded  # what is proven is what will run
    checks = prove(engines, t2s, folder, model.dims, say)
    checks += [
        _half_check(name, engine, recipe["engines"][name]["half"]) for name, engine in engines.items() if half[name]
    ]
    speed: dict[str, Any] = {}
    failed = any(check["status"] == "fail" for check in checks)
    if t2s is not None and not failed:
        say("measuring")
        speed = measure(engines, t2s, _constants(folder), model.dims)
    for engine in engines.values():
        engine.keep_kernels()
    return {
        "checks": checks,
        "passed": not failed and any(check["status"] == "pass" for check in checks),
        "recorded": recorded,
        "recorded_reason": reason,
        "speed": speed,
        "scratch_mb": {name: _mb(engine.scratch()) for name, engine in engines.items()},
        "memory": {"device_mb": round((before - cuda.memory()[0]) / 2**20, 1), "host_peak_mb": host_memory_mb()},
    }


def _opened(
    entries: Mapping[str, Mapping[str, Any]], made: Mapping[str, plans.Plan], space: Space, trt: Any
) -> dict[str, Engine]:
    """The engines; one that is not what its graph says, or that no TensorRT will open again, is noted as failed."""
    engines: dict[str, Engine] = {}
    for name, entry in entries.items():
        try:
            engines[name] = Engine(made[name].file, entry, space, trt, made[name].kernels)
        except (Unjudged, NotItsGraph) as error:
            if not isinstance(error, Unjudged) or error.spoilt:
                plans.note(made[name], passed=False)
            raise
    return engines


def _half_check(name: str, engine: Engine, expected: float) -> dict[str, Any]:
    """Whether the engine computes in FP16 where its graph does: some builds quietly come out as FP32."""
    share, limit = engine.half_share(), round(_HALF_OF * expected, 4)
    row = {"stage": name, "metric": "half_share", "value": share, "limit": limit, "n": 1}
    if share is None:
        return {**row, "status": "not_run", "reason": "the engine inspector tells no types"}
    return {**row, "value": round(share, 4), "status": "pass" if share >= limit else "fail"}


def _mb(sizes: Mapping[str, int]) -> dict[str, float]:
    return {name: round(size / 2**20, 1) for name, size in sizes.items()}


def _same_when_recorded(t2s: T2S, folder: Path) -> tuple[bool, str]:
    """Whether a recorded step gives, bit for bit, what a plain one gives; and why not."""
    case = next((case for case in read_cases(folder) if case["stage"] == "teacher"), None)
    if case is None:
        return False, "no golden vectors"
    plain = forced(T2S(t2s.engine, t2s.dims, recorded=False).decoder(), case)
    again = T2S(t2s.engine, t2s.dims)
    repeated = forced(again.decoder(), case)
    if again.problem:
        return False, again.problem
    same = bool(np.array_equal(plain, repeated))
    return same, "" if same else "a recorded step gives other numbers than a plain one"


def _constants(folder: Path) -> dict[str, Any]:
    """The conditioning that golden vectors were made with."""
    inputs: dict[str, Any] = next((case["inputs"] for case in read_cases(folder) if case["stage"] == "acoustic"), {})
    return {name: array for name, array in inputs.items() if name.startswith("ge")}


def _identity(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    tools = manifest["tools"]
    return {
        "name": manifest["name"],
        "version": manifest["version"],
        "target": manifest["target"]["name"],
        "manifest": sha256_bytes((folder / "manifest.json").read_bytes()),
        "gsvexport": tools.get("gsvexport"),
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": np.__version__,
    }


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Only one process builds at a time: two would take each other's memory."""
    if not (held := acquire(folder / ".lock")):
        raise EnvironmentProblem("another gsvexport finalize is at work here", fix="wait for it")
    try:
        yield
    finally:
        held.release()


def _damage(folder: Path) -> list[str]:
    """Which members of an unpacked artifact are missing or changed."""
    members = plans.read_manifest(folder)["members"]
    problems = []
    for name, member in members.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != member["size"] or sha256_file(path) != member["sha256"]:
            problems.append(f"{name} is missing or has changed")
    return problems


def main() -> int:
    """The command line of the script; returns its exit code, those of gsvexport."""
    parser = argparse.ArgumentParser(description="Build and check this artifact's TensorRT engines on this device.")
    parser.add_argument("artifact", nargs="?", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("-o", "--out", type=Path, help="device report; default: beside the artifact's folder")
    parser.add_argument("--cache", choices=plans.CACHES, default=plans.AUTO, help="of T2S; default: auto")
    options = parser.parse_args()
    folder, started = options.artifact.resolve(), time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:7.1f} s  {text}\n")
        sys.stderr.flush()

    try:
        if not (folder / plans.RECIPE).is_file():
            raise InputError(f"{folder} is no unpacked artifact for TensorRT", fix="gsvexport unpack it first")
        say("checking every byte")
        if problems := _damage(folder):
            raise ArtifactError(f"{folder} is damaged", problems=problems, fix="get the artifact again")
        report = finalize(folder, say, options.cache)
        path = options.out or folder.parent / f"{folder.name}-device-report.json"
        write_report(report, path, folder)
        sys.stdout.write(f"{summary(report)}\n{how_to_send(path)}\n")
        return 0 if report["passed"] else GateFailed.exit_code
    except GsvError as error:
        sys.stderr.write(f"finalize: {error}\n")
        return error.exit_code


def how_to_send(path: Path) -> str:
    """What to do with a device report."""
    return (
        f"device report: {path}\n"
        "Please attach it to an issue of the gsvexport project, titled 'device report': it holds versions, speeds and\n"
        "check results, and no name of you or this machine. That is how a device gets from 'emulated' to 'proven'."
    )


if __name__ == "__main__":
    sys.exit(main())
