"""Which form of each engine is tried on this device: built ahead of time or here, with which kind of cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gsvexport.backends.tensorrt import plans, ready
from gsvexport.backends.tensorrt.device import IN_PLACE_SINCE, Device

if TYPE_CHECKING:
    from pathlib import Path


def other_form(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is different about the form of an engine that writes its cache in place; empty where there is none."""
    return entry.get("in_place") or {}


def with_cache(
    engines: Mapping[str, Mapping[str, Any]], device: Device, asked: str
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """The entries to build, and what the report says about the cache."""
    found = {name: plans.in_place(entry, device) for name, entry in engines.items()}
    wanted = asked != plans.READ_ONLY and any(found.values())
    if asked != plans.IN_PLACE or wanted:
        chosen = {name: (wanted and found[name]) or entry for name, entry in engines.items()}
        return chosen, {"asked": asked, "used": plans.IN_PLACE if wanted else plans.READ_ONLY, "reason": ""}
    if any(map(other_form, engines.values())):
        why = f"TensorRT {device.tensorrt} cannot write a cache in place, {IN_PLACE_SINCE} and later can"
    else:
        why = "the artifact has no form that writes its cache in place"
    return dict(engines), {"asked": asked, "used": plans.READ_ONLY, "reason": f"{why}: a read-only cache is used"}


UNTRUSTED = (
    "an engine is code, and no trusted key signed the artifact (gsvexport finalize --key KEY, or --allow-unsigned)"
)


def writes(entry: Mapping[str, Any]) -> bool:
    """Whether an engine writes its cache in place."""
    return bool(entry.get("aliases"))


def ready_made(
    folder: Path, manifest: Mapping[str, Any], device: Device, trt: Any, cache: str
) -> tuple[dict[str, tuple[Mapping[str, Any], plans.Plan]], str]:
    """The engines, by name, that were built ahead of time and are worth a try here, and why not all of them are."""
    if not manifest.get("engines"):
        return {}, ""
    if why := ready.refusal(manifest, device):
        return {}, why
    found, reasons = {}, []
    for name, entry in plans.read_recipe(folder)["engines"].items():
        made = plans.ready_made(folder, entry, device)
        if made is None:
            why = "it serves other lengths, or is not there"
        elif writes(made[0]) and cache == plans.READ_ONLY:
            why = "it writes its cache in place"
        elif (plans.notes_of(made[1]) or {}).get("passed") is False:
            why = "it failed its checks here before"
        else:
            why = plans.stale(made[1]) or ready.invalid(trt, made[1].file)
        if made is not None and not why:
            found[name] = made
        else:
            reasons.append(f"{name}: {why}")
    return found, "; ".join(reasons)
