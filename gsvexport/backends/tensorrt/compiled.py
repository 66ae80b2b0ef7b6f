"""NVIDIA's own parser and builder judge the graphs of an artifact, on a machine without a GPU (see `rtx.py`).

Every form of every graph goes through `builder.build`, the code that builds on a device, with the artifact's own
profiles. That proves what the parser takes, that types and profiles fit, and which memory a compiler plans. It proves
no numbers and no speed, and it is the compiler of TensorRT for RTX: one of TensorRT proper has kernels of its own.

What a graph was judged to be is kept by its content: targets whose graphs are equal are judged once. A builder that was
killed, or had no room to work, judged nothing, and nothing is kept of that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.tensorrt import building, plans, rtx
from gsvexport.backends.tensorrt.told import BUILD, GRAPH
from gsvexport.errors import BackendError
from gsvexport.files import canonical_json, sha256_bytes, sha256_file
from gsvexport.model import read_model

METRIC, PARSED, KERNELS, SCRATCH = "compiled", "parsed", "kernels", "scratch_mb"
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0")  # what the package builds for and our targets have
OPTIONAL = "7.5"  # it has no FP32 products for this one, where TensorRT has
ALL = "engine"  # as a report calls what all engines of an artifact have in common
HALF_OF = 0.5  # of the graph's FP16 share, as `finalize` asks of an engine
MEMORY_SHARE = 0.5  # of a device's memory for weights, scratch and cache: a system and Python live there, too
VERDICT = "verdict.json"
_SCHEMA = 1
_CODE = ("builder.py", "building.py", "compiled.py", "rtx.py", "told.py")
_MB = 1e6

Keep = Callable[[str, Callable[[Path], None], str], Path]
Say = Callable[[str], None]
Row = tuple[str, str, "float | None", int, str, str]


@dataclass(frozen=True)
class Form:
    """One graph of an engine: what it is called in reports, and the entry of `tensorrt.json` that it is built from.
    Of a `weak` one only the parser is asked: its types are for releases that take them as advice."""

    name: str
    graph: str
    entry: Mapping[str, Any]
    stages: tuple[str, ...]
    weak: bool = False


def name() -> str:
    """What judges, as a report calls it; empty where the package is absent or too old."""
    found, problem = rtx.installed()
    return "" if problem else f"tensorrt-rtx {found}, no GPU"


def judge(folder: Path, manifest: Manifest, keep: Keep, say: Say) -> Iterator[Row]:
    """(stage, metric, value, how many, reason, form) for the unpacked artifact in `folder`; a value is None where
    nothing was judged, and 0 for `METRIC` where a graph is refused, or does not fit the device.

    `keep(key, make, label)` gives the folder that `make` filled before or fills now.
    """
    recipe = plans.read_recipe(folder)
    found, problem = rtx.installed()
    if problem:
        for entry in recipe["engines"].values():
            yield from ((stage, METRIC, None, 0, problem, "") for stage in entry["stages"])
        return
    verdicts: dict[str, dict[str, Any]] = {}
    for form in forms(recipe):
        hashes = {name: one.sha256 for name, one in manifest.members.items()}
        try:
            verdicts[form.graph] = verdict = verdict_of(folder, form, hashes, found, keep, say)
        except BackendError as error:
            text = " ".join(str(error).split())
            metric = PARSED if form.weak else METRIC
            yield from ((stage, metric, None, 0, text, form.name) for stage in form.stages)
            continue
        yield from _rows(form, verdict, manifest.target)
    yield from _together(folder, recipe, verdicts, manifest.target)


def forms(recipe: Mapping[str, Any]) -> Iterator[Form]:
    """Every graph of `tensorrt.json`."""
    for entry in recipe["engines"].values():
        stages = tuple(entry["stages"])
        yield Form("", str(entry["graph"]), entry, stages)
        if entry.get("in_place"):
            yield Form(plans.IN_PLACE, str(entry["in_place"]["graph"]), {**entry, **entry["in_place"]}, stages)
        if entry["weak"]:
            yield Form("for TensorRT 8", str(entry["weak"]), entry, stages, weak=True)


def verdict_of(
    folder: Path, form: Form, hashes: Mapping[str, str], version: str, keep: Keep, say: Say
) -> dict[str, Any]:
    """What the builder says of one graph: `refused` (empty where it takes it), what it told of the engine, the
    capabilities that it was built for, and those that it was refused for.

    Raises:
        BackendError: nothing was judged: the builder was killed, or the machine had no room for it.
    """
    key = {
        "schema": _SCHEMA,
        "version": version,
        "code": [sha256_file(Path(__file__).parent / one) for one in _CODE],
        "graph": hashes[form.graph],
        "weights": {name: digest for name, digest in hashes.items() if name.endswith(".safetensors")},
        "profiles": form.entry["profiles"],
        "weak": form.weak,
    }

    def make(work: Path) -> None:
        found = _judged(folder, form, work, say)
        (work / VERDICT).write_bytes(canonical_json(found).encode())

    place = keep(sha256_bytes(canonical_json(key).encode()), make, f"what NVIDIA's builder says of {form.graph}")
    return plans.read_json(place / VERDICT)


def _judged(folder: Path, form: Form, work: Path, say: Say) -> dict[str, Any]:
    """Build one graph for all capabilities, or without the optional one."""
    answer = _asked(folder, form, CAPABILITIES, work, say)
    without: dict[str, str] = {}
    if "refused" in answer:
        others = tuple(one for one in CAPABILITIES if one != OPTIONAL)
        again = _asked(folder, form, others, work, say) if "SM75" in answer["refused"] else answer
        if "refused" not in again:
            answer, without = again, {OPTIONAL: answer["refused"]}
    built = [one for one in CAPABILITIES if one not in without] if "refused" not in answer else []
    return {"refused": "", **answer, "capabilities": built, "without": without}


def request(
    graph: Path, profiles: Sequence[Mapping[str, Any]], plan: Path, capabilities: Sequence[str]
) -> dict[str, Any]:
    """What `building.child` is asked to build one graph, with its types as they are, for GPUs that are not here."""
    return {
        "graph": str(graph.resolve()),
        "strong": True,
        "half": True,
        "single": [],
        "profiles": list(profiles),
        "plan": str(plan.resolve()),
        "timing_cache": "",  # to read one asks for a GPU
        "workspace": 0,  # no limit but the library's own
        "level": None,
        "detailed": True,
        "module": {"capabilities": list(capabilities)},
    }


def _asked(folder: Path, form: Form, capabilities: tuple[str, ...], work: Path, say: Say) -> dict[str, Any]:
    plan = work / "engine.plan"
    asked = {**request(folder / form.graph, form.entry["profiles"], plan, capabilities), "parse_only": form.weak}
    answer = building.child(asked, work / "builder.log", form.graph, lambda text: say(f"NVIDIA's builder: {text}"))
    if answer.get("failed") in (GRAPH, BUILD):
        return {"refused": "; ".join(answer["problems"])}
    if "failed" in answer:
        raise BackendError(f"NVIDIA's builder did not finish {form.graph}", problems=answer["problems"])
    done: dict[str, Any] = answer["done"]
    size = 0
    if not form.weak:
        size = plan.stat().st_size
        plan.unlink()
        if not done.get("engine"):
            raise BackendError(f"NVIDIA's builder tells nothing of {form.graph}: another form of its log than 1.7's")
        say(f"NVIDIA's builder takes {form.graph}: {done['cpu']:.1f} s of processor time, {done['peak_mb']:.0f} MB")
    return {**done, "plan": size}


def _rows(form: Form, verdict: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[Row]:
    wanted = str((target["device"].get("gpu") or {}).get("compute_capability", ""))
    problems, said = _problems(form, verdict), _words(form, verdict, wanted)
    if verdict["refused"] or problems:
        said = verdict["refused"] or f"{'; '.join(problems)}; {said}"
    missing = wanted in verdict["without"] and not verdict["refused"]
    value = None if missing else 0.0 if verdict["refused"] or problems else 1.0
    for stage in form.stages:
        yield stage, PARSED if form.weak else METRIC, value, len(verdict["capabilities"]), said, form.name
    told = verdict.get("engine")
    if not told:
        return
    for stage in form.stages:
        scratch = {name: size for name, size in told["scratch"].items() if _is_of(stage, name)}
        if scratch:
            yield stage, SCRATCH, max(scratch.values()) / _MB, len(scratch), "the largest profile", form.name
        kernels = {name: count for name, count in told["kernels"].items() if _is_of(stage, name)}
        if kernels:
            yield stage, KERNELS, float(max(kernels.values())), len(kernels), "the profile with the most", form.name


def _is_of(stage: str, profile: str) -> bool:
    """Whether a profile serves a stage: those of T2S's engine serve one of its two."""
    return stage not in ("prefill", "step") or profile.startswith(stage)


def _problems(form: Form, verdict: Mapping[str, Any]) -> list[str]:
    """What is wrong with an engine that was built."""
    told = verdict.get("engine")
    return faults(told, form.entry["half"]) if told else []


def faults(told: Mapping[str, Any], half: float) -> list[str]:
    """What is wrong with an engine from what its builder `told`; `half` is the FP16 share of its graph's operators."""
    found = [f"{name} lies on the host" for name in told["host_ports"]]
    if told["half_share"] < HALF_OF * half:
        found.append(f"FP16 in {told['half_share']:g} of its kernels, in {half:g} of the graph's operators")
    return found


def _words(form: Form, verdict: Mapping[str, Any], wanted: str) -> str:
    if form.weak:
        return f"parsed: {verdict.get('layers', 0)} layers; nothing was built"
    told = verdict.get("engine") or {}
    said = [
        f"{verdict.get('layers', 0)} layers",
        f"{told.get('kernels_of_all', 0)} kernels in {len(told.get('scratch', ()))} profiles",
        f"weights {told.get('weights', 0) / _MB:.0f} MB, plan {verdict.get('plan', 0) / _MB:.0f} MB",
        f"FP16 in {told.get('half_share', 0):g} of them",
        f"{told.get('ports', 0)} ports on the device",
        f"for {', '.join(verdict['capabilities'])}",
        *(f"not for {one}: {text}" for one, text in verdict["without"].items()),
    ]
    if wanted not in (*verdict["capabilities"], *verdict["without"]):
        said.append(f"it does not know {wanted}")
    return "; ".join(said)


def _together(
    folder: Path, recipe: Mapping[str, Any], verdicts: Mapping[str, Mapping[str, Any]], target: Mapping[str, Any]
) -> Iterator[Row]:
    """Whether all engines fit the device at once; of T2S the form that takes more."""
    needs: list[tuple[int, int]] = []
    for entry in recipe["engines"].values():
        graphs = [entry["graph"], (entry.get("in_place") or {}).get("graph")]
        told = [verdicts[one]["engine"] for one in graphs if one in verdicts and verdicts[one].get("engine")]
        if not told:
            return  # what was not built has no size
        needs.append((max(one["weights"] for one in told), max(max(one["scratch"].values()) for one in told)))
    device, dims = target["device"], read_model(folder).dims
    has = (device.get("gpu") or {}).get("memory_mb") or device.get("memory_mb")
    limits = target["limits"]
    rows = limits["phones"] + limits["tokens"]
    parts = {
        "weights": sum(weights for weights, _ in needs) / _MB,
        "scratch": max(scratch for _, scratch in needs) / _MB,
        "cache": 2 * dims.L * dims.D * rows * 2 / _MB,
    }
    total = sum(parts.values())
    text = " + ".join(f"{name} {size:.0f}" for name, size in parts.items()) + f" = {total:.0f} MB"
    if has is None:
        yield ALL, METRIC, None, 0, f"{text}; the profile does not say what the device has", ""
        return
    text += f" of {has} MB; at most {MEMORY_SHARE:g} of it"
    yield ALL, METRIC, float(total <= MEMORY_SHARE * has), len(needs), text, ""


def dumped(verdict: Mapping[str, Any]) -> str:
    """A verdict as text for a person."""
    return json.dumps(verdict, indent=1, sort_keys=True)
