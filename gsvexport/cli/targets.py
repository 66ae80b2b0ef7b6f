"""Text pages about targets: the registry, and one profile with its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from gsvexport.artifact.proof import Proof, told
from gsvexport.backends import declared, emulated
from gsvexport.cli.show import table
from gsvexport.compiler.plan import check, make_plan, missing_backends
from gsvexport.errors import EnvironmentProblem, TargetError
from gsvexport.stages import VERSIONS, stages
from gsvexport.target.target import Target, read_target, registry, target_names, tiers

BUILDS, FINISHED_THERE = "builds", "builds; engines are made on the device"
_HEADER = ("TARGET", "DEVICE", "PROCESSOR", "T2S / ACOUSTIC / VOCODER", "STATUS")


def target_list() -> str:
    """Every device of the registry: what it is, its precisions, and whether it can be built; those that can first."""
    rows: list[tuple[str, ...]] = []
    for name in target_names():
        try:
            target = read_target(name)
        except TargetError as error:
            rows.append((name, "-", "-", "-", f"unusable: {error.problems[0] if error.problems else error.what}"))
            continue
        rows.append((name, target.title, processor(target), precisions(target), status(target)))
    devices = table([_HEADER, *sorted(rows, key=lambda row: (row[-1] not in (BUILDS, FINISHED_THERE), row[0]))])
    return (
        f"{devices}\nAny of them takes a tier (--target {target_names()[-1]}+{next(iter(tiers()))}):\n\n{_tier_list()}"
    )


def _tier_list() -> str:
    return table([("TIER", "WHAT IT CHANGES"), *tiers().items()])


def status(target: Target) -> str:
    """Whether a target can be built, and if not, why."""
    if missing := missing_backends(target):
        return "not buildable yet: no backend " + ", ".join(f"'{name}'" for name in missing) + " in this release"
    try:
        check(target)
    except TargetError as error:
        return f"not buildable: {error.problems[0]}"
    except EnvironmentProblem as problem:
        return f"not here: {problem.what}"
    return _built(target)


def _built(target: Target) -> str:
    return FINISHED_THERE if target.portability == "build_on_device" else BUILDS


def proof(target: Target) -> str:
    """What a build on another machine proves of each backend's stages, in the words of `gsvexport.artifact.proof`."""
    rungs: dict[str, Proof] = {}
    for name in dict.fromkeys(target.place(stage).backend for stage in ("step", "acoustic", "vocoder")):
        if name in missing_backends(target):
            continue
        backend = declared(name)
        stood_in = Proof.COMPILED if backend.compiler else Proof.BUILT
        rungs[name] = backend.proves(asdict(target.device)) if not emulated(name) else stood_in
    return f"{told(rungs)}, where it is built" if rungs else "none"


def processor(target: Target) -> str:
    """Architecture and core, and the accelerator beside it."""
    device = target.device
    parts = [f"{device.arch} {device.core or ''}".strip()]
    parts += [f"CUDA {device.gpu.compute_capability}"] if device.gpu else []
    parts += [f"Edge TPU ({device.tpu.link})"] if device.tpu else []
    parts += [f"NPU ({device.npu.chip})"] if device.npu else []
    return " + ".join(parts)


def precisions(target: Target) -> str:
    """One precision, or those of T2S, of the acoustic stage and of the vocoder."""
    found = [target.place(stage).precision for stage in ("step", "acoustic", "vocoder")]
    return found[0] if len(set(found)) == 1 else " / ".join(found)


def markdown_table() -> str:
    """The table of targets that docs/targets.md shows."""
    lines = ["| target | device | processor | T2S / acoustic / vocoder | status |", "|---|---|---|---|---|"]
    for target in sorted(map(read_target, target_names()), key=lambda one: (missing_backends(one), one.name)):
        missing = ", ".join(f"`{name}`" for name in missing_backends(target))
        state = f"no backend {missing} yet" if missing else _built(target)
        cells = (f"`{target.name}`", target.title, processor(target), precisions(target), state)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def target_page(name: str) -> str:
    """One profile, each value with its origin, and its plan for a baked full-size v2 voice with the reasons."""
    from gsvexport.compiler.explain import FULL_V2, explain
    from gsvexport.compiler.plan import Subject

    target = read_target(name)
    rows = [("KEY", "VALUE", "FROM"), ("name", target.name, ""), *_values(target)]
    head = table(rows) + f"\nstatus: {status(target)}\nproof: {proof(target)}\n"
    if status(target) != BUILDS:
        return head
    plan = make_plan(target, Subject("voice", "VOICE", "v2", True, "0" * 64))
    return f"{head}\n{plan.text()}{explain(plan, FULL_V2)}"


def _values(target: Target) -> Iterator[tuple[str, str, str]]:
    """(dotted key, value, file:line) of everything that is set; defaults say so, stages come with where they run."""
    value = target.to_json()
    del value["name"], value["placement"]
    placed = {name: target.place(name) for release in VERSIONS for name in stages(release)}
    for key, item in _flat(value):
        if item not in (None, {}, []) and not key.startswith("device.confidence"):
            yield key, _text(target, key, item), _origin(target, key)
    for name, place in placed.items():
        key = f"placement.{target.placed_by(name)}"
        origins = dict.fromkeys(
            _origin(target, f"{key}.{part}", "placement.default") for part in ("backend", "precision")
        )
        yield name, f"{place.precision} on {place.backend}", ", ".join(origins)


def _flat(value: object, above: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value and above != "gates":
        for name, item in value.items():
            yield from _flat(item, f"{above}.{name}".lstrip("."))
    elif isinstance(value, dict):
        yield from ((f"{above}.{name}", item) for name, item in value.items())
    else:
        yield above, value


def _text(target: Target, key: str, item: object) -> str:
    words = (
        " ".join(map(str, item))
        if isinstance(item, (list, tuple))
        else f"{item:g}"
        if isinstance(item, float)
        else str(item)
    )
    confidence = target.device.confidence.get(key.removeprefix("device.").partition(".")[0])
    return f"{words} ({confidence})" if confidence else words


def _origin(target: Target, *keys: str) -> str:
    """File and line, relative to the registry where that holds it, else "default"."""
    for key in keys:
        while key and key not in target.where and key.startswith("placement."):
            key = key.rpartition(".")[0]
        if key in target.where:
            return target.where[key].removeprefix(f"{registry()}/")
    return "default"
