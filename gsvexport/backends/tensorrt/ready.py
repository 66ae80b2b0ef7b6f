"""Engines that were built ahead of time, as a device finds them in an artifact: which of them serve here, and why not.

`engines` in the manifest lists them (see `gsvexport.artifact.manifest.Manifest`). TensorRT for RTX opens an engine with
the release alone that built it, and on GPUs of the capabilities that were named then. What an artifact says of itself
is asked first; then the library, about the first bytes of the file; the rest is for `finalize` to prove.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt.device import MODULE, RTX, Device, release
from gsvexport.backends.tensorrt.told import make_logger

SUFFIX = ".plan"
_HEADER = 64  # bytes; where a release does not tell how many it looks at
_WORDS = {  # what `get_engine_validity` may find
    "VERSION_MISMATCH": "another release built it",
    "UNSUPPORTED_CC": "it is for GPUs of other compute capabilities",
    "OLD_CUDA_DRIVER": "the driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the GPU has too little memory",
    "MALFORMED_ENGINE": "it is cut short, or no engine",
    "CUDA_ERROR": "CUDA fails",
}


def module(manifest: Mapping[str, Any]) -> str:
    """The library that an artifact's engines are for, which is to be looked for first."""
    return RTX if manifest.get("engines") else MODULE


def wanted(manifest: Mapping[str, Any]) -> str:
    """What to install for an artifact's engines; empty where it has none."""
    told = manifest.get("engines")
    return f"pip install tensorrt-rtx-cu12=={told['version']}" if told else ""


def refusal(manifest: Mapping[str, Any], device: Device) -> str:
    """Why the engines in an artifact do not serve on this device, in words; empty where they do, or there are none."""
    told = manifest.get("engines")
    if not told:
        return ""
    if told["library"] != RTX or not device.rtx:
        return f"they are for {told['library']}, this device has {device.module} {device.tensorrt}"
    if release(told["version"]) != release(device.tensorrt):
        return f"{RTX} {told['version']} built them, this device has {device.tensorrt}: {wanted(manifest)}"
    if device.gpu.compute_capability not in told["capabilities"]:
        known = ", ".join(told["capabilities"])
        return f"they are for compute capability {known}; {device.gpu.name} has {device.gpu.compute_capability}"
    return ""


def capabilities(manifest: Mapping[str, Any], device: Device) -> tuple[str, ...]:
    """What an artifact's engines are for beside its target's own GPU, where they serve on this device."""
    served = manifest.get("engines") and not refusal(manifest, device)
    return tuple(manifest["engines"]["capabilities"]) if served else ()


def listed(manifest: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The member of an engine (`entry` of `tensorrt.json`), and the entry of the form that it was built from.
    None where it was not built ahead of time, or not from a form that the entry has."""
    for name, told in (manifest.get("engines") or {}).get("plans", {}).items():
        if told["engine"] != entry["name"]:
            continue
        for form in forms(entry):
            if form["graph"] == told["graph"] and not list(gaps(form, told)):
                return name, {**form, "in_place": None, "serves": dict(told["serves"])}
    return None


def forms(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The forms of an engine (`entry` of `tensorrt.json`) that one for TensorRT for RTX may be built from."""
    other = entry.get("in_place")
    return (entry, {**entry, **other}) if other else (entry,)


def gaps(form: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[str]:
    """Lengths that the form of an engine promises and an engine that was built of it does not serve."""
    for one in form["profiles"]:
        index = told["serves"].get(one["name"])
        if index is None:
            yield f"no profile serves {one['name']}"
            continue
        has = told["profiles"][index]["shapes"]
        for port, (low, _, high) in one["shapes"].items():
            least, most = (has[port][0], has[port][2]) if port in has else ((), ())
            if len(least) != len(low) or any(a > b for a, b in zip((*least, *high), (*low, *most))):  # noqa: B905
                yield f"profile {one['name']}, {port}: {low} to {high}, it has {list(least)} to {list(most)}"


def invalid(trt: Any, plan: Path) -> str:
    """Why the library will not open an engine here, from the first bytes of its file; empty where it may.

    Raises:
        OSError: the file cannot be read.
    """
    runtime = trt.Runtime(make_logger(trt))
    if not hasattr(runtime, "get_engine_validity"):
        return ""
    with open(plan, "rb") as stream:
        head = stream.read(int(getattr(runtime, "engine_header_size", _HEADER)))
    verdict, found = runtime.get_engine_validity(head)
    if verdict != trt.EngineValidity.INVALID:
        return ""
    kinds = getattr(trt, "EngineInvalidityDiagnostics", None)
    words = [text for name, text in _WORDS.items() if int(found) & int(getattr(kinds, name, 0))]
    return "; ".join(words) or "it says no more"
