"""What an artifact says of engines that were built ahead of time, held against the rest of it. None is run here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import Manifest
from gsvexport.backends.tensorrt import plans, ready
from gsvexport.backends.tensorrt.device import RTX

METRIC = "ready_made"
NOT_RUN = "compiled where the artifact was built, not run"
_BACKEND = "tensorrt"
_MB = 1e6


def audit(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str, float | None, int, str]]:
    """(stage, metric, value, how many, reason) of every engine that was built ahead of time: 0 for one that is not what
    is said of it, else None, as nothing says that it runs."""
    told = manifest.engines
    if told is None or told["backend"] != _BACKEND:
        return
    entries = plans.read_recipe(folder)["engines"]
    for name, one in told["plans"].items():
        entry = entries.get(one["engine"])
        wrong = list(_wrong(name, one, told, entry))
        for stage in entry["stages"] if entry else manifest.stages:
            yield stage, METRIC, 0.0 if wrong else None, 1, "; ".join(wrong) or _words(name, one, manifest)


def _wrong(
    name: str, one: Mapping[str, Any], told: Mapping[str, Any], entry: Mapping[str, Any] | None
) -> Iterator[str]:
    if told["library"] != RTX:
        yield f"{name} is for {told['library']}, which nothing here opens"
    if not name.endswith(ready.SUFFIX):
        yield f"{name} is not called an engine"
    if entry is None:
        yield f"{name} is of no engine of {plans.RECIPE}"
        return
    form = next((form for form in ready.forms(entry) if form["graph"] == one["graph"]), None)
    if form is None:
        yield f"{name} was built from {one['graph']}, which is no form of {entry['name']}"
        return
    yield from (f"{name}: {gap}" for gap in ready.gaps(form, one))


def _words(name: str, one: Mapping[str, Any], manifest: Manifest) -> str:
    told = manifest.engines or {}
    size = manifest.members[name].size
    return (
        f"{NOT_RUN}: {size / _MB:.1f} MB by {told['library']} {told['version']} for {', '.join(told['capabilities'])}; "
        f"weights {one['weights'] / _MB:.1f} MB, scratch {one['scratch'] / _MB:.1f} MB, {one['kernels']} kernels"
    )


def described(manifest: Manifest, read: Callable[[str], bytes]) -> str:
    """The engines that were built ahead of time, for `gsvexport inspect`; empty where there are none."""
    told = manifest.engines
    if told is None or told["backend"] != _BACKEND:
        return ""
    files = {file for one in told["plans"].values() for file in one["made_from"] if file.endswith(".safetensors")}
    sizes = {name: manifest.members[name].size for name in told["plans"]}
    share = sum(sizes.values()) / max(1, sum(manifest.members[file].size for file in files))
    made = f"{told['library']} {told['version']}, {told['portability']} for {', '.join(told['capabilities'])}"
    lines = [
        f"engines built ahead of time: {NOT_RUN}",
        f"  {made}, {share:.2f} times their weights; another build gives other bytes",
        *(f"  {name}  {size / _MB:.1f} MB from {told['plans'][name]['graph']}" for name, size in sizes.items()),
        f"  {told['notice']}",
    ]
    return "\n".join(lines) + "\n"
