"""Built engines in the user's cache. What one is bound to names it, and is compared again before it is opened.

    engines/NAME-KEY.plan    the engine
    engines/NAME-KEY.kernels of TensorRT for RTX: what it compiled of the engine for this GPU
    engines/NAME-KEY.json    what it is bound to in full, SHA-256 and size of the plan, and whether its checks passed
    engines/timing-KEY.bin   what TensorRT measured on this device

Of an engine that was built ahead of time (`ready.py`) only the last two of the first three are here: it stays in its
artifact.

A plan without its `.json` was interrupted, one whose `.json` says something else is stale: both are built again.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt import ready
from gsvexport.backends.tensorrt.device import Device
from gsvexport.errors import ArtifactError
from gsvexport.files import atomic_file, cache_directory, canonical_json, sha256_bytes, sha256_file
from gsvexport.untrusted import reading, schema
from gsvexport.untrusted.engines import ENGINES, contradictions

FOLDER = "engines"
RECIPE = "tensorrt.json"
# What an engine does with the cache of T2S; by itself it writes it in place where TensorRT can.
AUTO, READ_ONLY, IN_PLACE = "auto", "read-only", "in-place"
CACHES = (AUTO, READ_ONLY, IN_PLACE)
_SCHEMA = 1
_RECIPE_SCHEMA = 1  # of `tensorrt.json`; see recipe.py
_AGAIN = "get the artifact again"
_T2S, _SPOKEN = "t2s", ("latent", "mel")  # the engine with a cache; what a vocoder speaks
_TEXT = schema.text(1000)
_NAME = schema.text(100, re.compile(r"[a-z0-9][a-z0-9_-]*"))  # part of a file's name in the cache
_GRAPH = schema.text(200, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.onnx"))
_SIZES = schema.rows(schema.whole(0, 1 << 30), 8)
_PROFILES = schema.rows(
    schema.record({"name": _NAME, "shapes": schema.table(schema.rows(_SIZES, 3, least=3), 64)}), 64, least=1
)
_TYPES = schema.table(schema.one_of("float32", "float16", "int32", "int64", "bool"), 1000)
_PORTS = schema.record({"inputs": _TYPES, "outputs": _TYPES})
_FORM = {"graph": _GRAPH, "profiles": _PROFILES, "ports": _PORTS, "half": schema.number(0, 1)}
_ENGINE = schema.record(
    {
        **_FORM,
        "name": _NAME,
        "stages": schema.rows(_NAME, 16, least=1),
        "weak": schema.text(200, re.compile(r"|[A-Za-z0-9_][A-Za-z0-9_.-]*\.onnx")),
        "single": schema.rows(_TEXT, 20_000),
    },
    {
        "in_place": schema.optional(schema.record({**_FORM, "aliases": schema.table(_TEXT, 1000)})),
        "context": schema.optional(schema.rows(schema.whole(0, 1 << 20), 2, least=2)),
        "trtexec": schema.table(schema.text(20_000), 64),
    },
)
_RECIPE = schema.record(
    {
        "schema": schema.one_of(_RECIPE_SCHEMA),
        "phones": schema.whole(0, 1 << 20),
        "engines": schema.table(_ENGINE, 16, _NAME),
    }
)


def _member(value: Any, where: str) -> Iterator[str]:
    """A member's name."""
    if not reading.safe_name(value):
        yield f"{where} is no name inside a folder"


# What the device needs of a manifest; all of it has its reader in `gsvexport.artifact`, which no artifact carries.
_RELEASES = schema.text(200)
_MANIFEST = schema.record(
    {
        "name": _TEXT,
        "version": _TEXT,
        "tools": schema.table(_TEXT, 64),
        "stages": schema.table(schema.record({"precision": _NAME}, more=True), 64),
        "members": schema.table(
            schema.record(
                {"size": schema.whole(), "sha256": schema.text(64, re.compile("[0-9a-f]{64}"))},
                more=True,
            ),
            100_000,
            _member,
        ),
        "target": schema.record(
            {
                "name": _TEXT,
                "device": schema.record(
                    {},
                    {
                        "runtimes": schema.table(_RELEASES, 16),
                        "memory_mb": schema.optional(schema.whole(0, 1 << 30)),
                        "gpu": schema.optional(
                            schema.record(
                                {"compute_capability": schema.text(8)},
                                {"memory_mb": schema.optional(schema.whole(0, 1 << 30))},
                                more=True,
                            )
                        ),
                    },
                    more=True,
                ),
            },
            {"title": _TEXT},
            more=True,
        ),
    },
    {"engines": schema.optional(ENGINES)},
    more=True,
)


@dataclass(frozen=True)
class Plan:
    """Where the engine of one graph is, or will be, on one device. `key` is all that it is bound to. One that was built
    ahead of time lies in its artifact, and what is known about it at `known`."""

    engine: str
    file: Path
    key: Mapping[str, Any]
    known: Path | None = None

    @property
    def ready(self) -> bool:
        """Whether it was built ahead of time: nothing here writes or removes its file."""
        return self.known is not None

    @property
    def notes(self) -> Path:
        """The `.json` beside it."""
        return (self.known or self.file).with_suffix(".json")

    @property
    def kernels(self) -> Path:
        """What TensorRT for RTX compiled of it on this GPU, which it does when an engine is opened."""
        return (self.known or self.file).with_suffix(".kernels")


def plan_folder() -> Path:
    """`engines` in the user's cache; it may not exist yet."""
    return cache_directory(FOLDER)


def read_recipe(folder: Path) -> dict[str, Any]:
    """`tensorrt.json` of an unpacked artifact: its engines. Whether a profile fits its graph the builder says.

    Raises:
        ArtifactError: absent, or nothing that a build writes.
    """
    value = _read(folder / RECIPE, _RECIPE)
    problems = [f"engine {name!a} calls itself {one['name']!a}" for name, one in value["engines"].items()
                if name != one["name"]]  # fmt: skip
    problems += [problem for one in value["engines"].values() for problem in _contradictions(one)]
    return _sound(folder / RECIPE, value, problems)


def read_manifest(folder: Path) -> dict[str, Any]:
    """`manifest.json` of an unpacked artifact, as far as the device needs it.

    Raises:
        ArtifactError: absent, or without the entries that are needed.
    """
    path = folder / "manifest.json"
    value = _read(path, _MANIFEST)
    found = {name: one["sha256"] for name, one in value["members"].items()}
    problems = list(contradictions(value["engines"], found)) if value.get("engines") else []
    return _sound(path, value, problems)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds a table.

    Raises:
        ArtifactError: absent or no JSON object.
    """
    return _read(path, schema.record({}, more=True))


def _read(path: Path, shape: schema.Shape) -> dict[str, Any]:
    try:
        value = reading.read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix=_AGAIN) from error
    return _sound(path, value, schema.findings(value, shape))


def _sound(path: Path, value: Any, problems: Sequence[str]) -> dict[str, Any]:
    if problems:
        raise ArtifactError(f"{path} cannot be right", problems=problems[: schema.MOST_FINDINGS], fix=_AGAIN)
    known: dict[str, Any] = value
    return known


def _contradictions(entry: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with an engine beyond types and ranges: what is looked up in its profiles has to be there."""
    for form in (entry, entry.get("in_place") or {}):
        profiles = form.get("profiles", ())
        if len({one["name"] for one in profiles}) != len(profiles):
            yield f"{entry['name']} has two profiles of one name"
        for one in profiles:
            ranks = {port: {len(sizes) for sizes in three} for port, three in one["shapes"].items()}
            cached = ranks.get("slots") == {1} or ranks.get("keys") == {4}
            if entry["name"] == _T2S and not (cached and ranks.get("ids") == {2}):
                yield f"{_T2S}, profile {one['name']}: no ids [1, N] beside a cache"
            if entry.get("context") and form is entry and not any(ranks.get(port) == {3} for port in _SPOKEN):
                yield f"{entry['name']}, profile {one['name']}: windows of what has no frames"


def in_place(entry: Mapping[str, Any], device: Device) -> dict[str, Any] | None:
    """An engine's entry in `tensorrt.json` as it is for the form that writes its cache; None where this TensorRT has no
    such form of it."""
    form = entry.get("in_place")
    if not form or not device.writes_in_place:
        return None
    return {**entry, **form, "in_place": None}


def forms(entry: Mapping[str, Any], device: Device) -> list[Mapping[str, Any]]:
    """Every entry that the engine may be built from on this device; the default is the first."""
    other = in_place(entry, device)
    return [entry] if other is None else [entry, other]


def ready_made(folder: Path, entry: Mapping[str, Any], device: Device) -> tuple[Mapping[str, Any], Plan] | None:
    """The engine of the artifact in `folder` that was built ahead of time and serves on this device, and its form."""
    manifest = read_manifest(folder)
    found = None if ready.refusal(manifest, device) else ready.listed(manifest, entry)
    if found is None:
        return None
    name, form = found
    member = manifest["members"][name]
    key = {
        "schema": _SCHEMA,
        **device.key(),
        "plan": member["sha256"],
        "size": member["size"],
        "recipe": sha256_bytes(canonical_json(dict(form)).encode()),
    }
    known = f"{entry['name']}-{sha256_bytes(canonical_json(key).encode())[:24]}"
    return form, Plan(str(entry["name"]), folder / name, key, plan_folder() / f"{known}.plan")


def every(folder: Path, entry: Mapping[str, Any], device: Device) -> list[tuple[Mapping[str, Any], Plan]]:
    """Every form that the engine may have on this device, and where it is: built ahead of time, or here."""
    found = [(form, plan_of(folder, form, device)) for form in forms(entry, device)]
    first = ready_made(folder, entry, device)
    return found if first is None else [first, *found]


def current(folder: Path, entry: Mapping[str, Any], device: Device) -> tuple[Mapping[str, Any], Plan]:
    """The form of an engine that is there and passed; the default where none did."""
    found = every(folder, entry, device)
    passed = [one for one in found if (notes_of(one[1]) or {}).get("passed") is True]
    return (*passed, *found)[0]


def graph_file(entry: Mapping[str, Any], device: Device) -> str:
    """The form of an engine's graph that this TensorRT takes; `entry` is the engine's in `tensorrt.json`."""
    return str(entry["graph"] if device.strong else entry["weak"])


def plan_of(folder: Path, entry: Mapping[str, Any], device: Device) -> Plan:
    """The plan of an engine of the unpacked artifact in `folder`; hashes come from its manifest."""
    members = read_manifest(folder)["members"]
    graph = graph_file(entry, device)
    weights = {name: one["sha256"] for name, one in members.items() if name.endswith(".safetensors")}
    key = {
        "schema": _SCHEMA,
        **device.key(),
        "graph": members[graph]["sha256"] if graph in members else None,
        "weights": weights,
        "recipe": sha256_bytes(canonical_json(dict(entry)).encode()),
    }
    name = f"{entry['name']}-{sha256_bytes(canonical_json(key).encode())[:24]}"
    return Plan(str(entry["name"]), plan_folder() / f"{name}.plan", key)


def timing_cache(device: Device) -> Path:
    """The file of TensorRT's own measurements on this device."""
    return plan_folder() / f"timing-{sha256_bytes(canonical_json(device.key()).encode())[:24]}.bin"


def stale(plan: Plan) -> str:
    """Why a plan cannot be opened, in words; empty when it can. Reads all of it."""
    if plan.ready:
        same = plan.file.is_file() and plan.file.stat().st_size == plan.key["size"]
        return (
            "" if same and sha256_file(plan.file) == plan.key["plan"] else "the artifact's own is not there, or damaged"
        )
    notes = notes_of(plan)
    if not plan.file.is_file() or notes is None:
        return "it has not been built" if not plan.file.is_file() else "its build was interrupted"
    if notes.get("key") != dict(plan.key):
        return "it was built for something else"
    if plan.file.stat().st_size != notes.get("size") or sha256_file(plan.file) != notes.get("sha256"):
        return "its file has changed (SHA-256 differs)"
    return ""


def notes_of(plan: Plan) -> dict[str, Any] | None:
    """What is known about a plan; None when nothing is."""
    with contextlib.suppress(OSError, ValueError):
        value = reading.read_json(plan.notes)
        return value if isinstance(value, dict) else None
    return None


def note(plan: Plan, **values: Any) -> None:
    """Add to what is known about a plan. The first time it is hashed and becomes one that `stale` accepts."""
    known = notes_of(plan) or {}
    if "sha256" not in values and ("sha256" not in known or known.get("key") != dict(plan.key)):
        known = {"sha256": sha256_file(plan.file), "size": plan.file.stat().st_size, "passed": None}
    with atomic_file(plan.notes, force=True) as work:
        work.write_bytes(canonical_json({**known, **values, "key": dict(plan.key)}).encode())


def discard(plan: Plan) -> None:
    """Forget a plan; what is known about it goes first, so that a moment in between shows an interrupted build."""
    for path in (plan.notes, *(() if plan.ready else (plan.file,)), plan.kernels):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def discard_superseded(plan: Plan) -> list[str]:
    """Remove the plans of the same graph and GPU for another TensorRT or CUDA, which nothing opens any more."""
    removed = []
    for path in sorted(plan_folder().glob(f"{plan.engine}-*.json")):
        other = Plan(plan.engine, path.with_suffix(".plan"), {})
        key = (notes_of(other) or {}).get("key", {})
        same = all(key.get(name) == plan.key[name] for name in ("gpu", "graph", "weights", "recipe"))
        if same and key != dict(plan.key):
            discard(other)
            removed.append(f"TensorRT {key.get('tensorrt')}, CUDA {key.get('cuda')}")
    return removed
