"""Engines for GPUs that are not here: what `engine = "ahead-of-time"` in a target, or `--engine`, asks for.

TensorRT for RTX builds them on any x86-64 machine, one file for all the GPUs of `CAPABILITIES`, and each device
compiles the kernels of its own GPU when it opens one. Two builds give different bytes. Nothing is run here.

An engine holds its weights anew for each of its profiles where their kernels want another layout, and the library fits
kernels to the lengths that it meets anyway: so each engine gets one profile, which serves all that `tensorrt.json`
lists. T2S is built in the form that writes its cache in place, where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt import building, compiled, plans, ready, rtx
from gsvexport.backends.tensorrt.device import RTX
from gsvexport.backends.tensorrt.told import GRAPH, MACHINE
from gsvexport.errors import BackendError, EnvironmentProblem
from gsvexport.files import sha256_file

BACKEND = "tensorrt"
CAPABILITIES = ("8.6", "8.9", "12.0")
TOOLS = (rtx.DISTRIBUTION,)
PARAMS: dict[str, Any] = {"capabilities": list(CAPABILITIES)}
FLAGS = ("strongly typed", "no TF32", "detailed profiling verbosity")
NOTICE = (
    "A .plan file is an engine: NVIDIA's TensorRT for RTX generated it from a graph of this artifact. It holds weights "
    "of this voice and code that NVIDIA's compiler generated, and no library of NVIDIA's. None is distributed with it: "
    "a device installs them (pip install {package}), under NVIDIA's licence. Read that licence before you pass a .plan "
    "file on."
)
_ELSEWHERE = "the device can build it: --engine on-device"
Say = Callable[[str], None]


def missing() -> str:
    """Why no engine can be built here; empty where it can."""
    return rtx.installed()[1]


def problems(device: Mapping[str, Any]) -> list[str]:
    """What about a target's device such engines cannot be for."""
    has = (device.get("gpu") or {}).get("compute_capability", "no GPU")
    found = [] if has in CAPABILITIES else [f"they are for compute capability {', '.join(CAPABILITIES)}; it has {has}"]
    return found + ([] if device.get("arch") == "x86-64" else [f"the library is for x86-64, not {device.get('arch')}"])


def lines() -> list[str]:
    """The step in words."""
    return [f"build them for compute capability {', '.join(CAPABILITIES)} with TensorRT for RTX: compiled, not run"]


def one_profile(profiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One profile for every length that several serve; it is tuned for what the second of them (or the only one) calls
    usual: of T2S a step in the middle of a sentence, elsewhere a sentence as most are."""
    usual = profiles[min(1, len(profiles) - 1)]["shapes"]
    shapes = {}
    for port in usual:
        lows, _, highs = zip(*(one["shapes"][port] for one in profiles), strict=True)
        low, high = ([pick(sizes) for sizes in zip(*ends, strict=True)] for pick, ends in ((min, lows), (max, highs)))
        shapes[port] = [low, list(usual[port][1]), high]
    return {"name": "all", "shapes": shapes}


def build(folder: Path, out: Path, say: Say) -> dict[str, Any]:
    """Build the engines of lowered graphs in `folder` (with `tensorrt.json`) into `out`, as ENGINE.plan; returns what
    the manifest says of them.

    Raises:
        BackendError: a graph is refused, or a builder did not finish.
        EnvironmentProblem: no library, or a full disk.
    """
    if why := missing():
        raise EnvironmentProblem("engines cannot be built ahead of time here", problems=[why], fix=_ELSEWHERE)
    version, made = rtx.installed()[0], {}
    for entry in plans.read_recipe(folder)["engines"].values():
        form = {**entry, **(entry.get("in_place") or {})}
        name = f"{entry['name']}{ready.SUFFIX}"
        made[name] = _built(folder, form, out / name, say)
    return {
        "backend": BACKEND,
        "library": RTX,
        "version": version,
        "portability": "portable",
        "capabilities": list(CAPABILITIES),
        "flags": list(FLAGS),
        "reproducible": False,
        "notice": NOTICE.format(package=f"{rtx.DISTRIBUTION}=={version}"),
        "plans": made,
    }


def _built(folder: Path, form: Mapping[str, Any], plan: Path, say: Say) -> dict[str, Any]:
    graph, profile = str(form["graph"]), one_profile(form["profiles"])
    request = compiled.request(folder / graph, [profile], plan, CAPABILITIES)
    answer = building.child(request, plan.with_suffix(".log"), graph, lambda text: say(f"NVIDIA's builder: {text}"))
    if "done" not in answer:
        kind, found = answer["failed"], answer["problems"]
        if kind == MACHINE:
            raise EnvironmentProblem(f"the engine of {graph} cannot be built on this machine", problems=found)
        what = "refuses" if kind == GRAPH else "did not finish"
        raise BackendError(f"TensorRT for RTX {what} {graph}", problems=found, fix=_ELSEWHERE)
    done = answer["done"]
    told = done.get("engine")
    if not told:
        raise BackendError(f"NVIDIA's builder tells nothing of {graph}: another form of its log than 1.7's")
    if faults := compiled.faults(told, form["half"]):
        raise BackendError(f"the engine of {graph} is not what its graph says", problems=faults, fix=_ELSEWHERE)
    size = plan.stat().st_size
    say(f"built {plan.name}: {size / 1e6:.1f} MB, {done['cpu']:.1f} s of processor time, {done['peak_mb']:.0f} MB")
    sources = [graph, *(path.name for path in sorted(folder.glob("*.safetensors")))]
    return {
        "engine": form["name"],
        "graph": graph,
        "made_from": {name: sha256_file(folder / name) for name in sources},
        "profiles": [profile],
        "serves": {one["name"]: 0 for one in form["profiles"]},
        "weights": told["weights"],
        "scratch": max(told["scratch"].values(), default=0),
        "kernels": told["kernels_of_all"],
    }
