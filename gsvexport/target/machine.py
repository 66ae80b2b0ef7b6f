"""What this machine is, and whether an artifact was made for such a one. The standard library alone."""

from __future__ import annotations

import functools
import platform
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import ArtifactError

CPUINFO = Path("/proc/cpuinfo")
_KIND = re.compile(r"(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+)\s*:")
ARCHITECTURES = {  # what `platform.machine` says of each architecture that targets name
    "x86-64": ("x86_64", "amd64"),
    "aarch64": ("aarch64", "arm64"),
}
# A target's word for a feature → the kernel's words for it in the flags (x86) or Features (ARM) line of /proc/cpuinfo,
# all of which have to be there. Linux: arch/x86/include/asm/cpufeatures.h and Documentation/arch/arm64/elf_hwcaps.rst.
FLAGS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86-64": {
        "avx2": ("avx2",),
        "fma": ("fma",),
        "f16c": ("f16c",),
        "avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl"),
        "avx512-vnni": ("avx512_vnni",),
        "avx-vnni": ("avx_vnni",),
        "amx": ("amx_int8",),
    },
    "aarch64": {
        "neon": ("asimd",),
        "dotprod": ("asimddp",),
        "fp16": ("fphp", "asimdhp"),
        "bf16": ("bf16",),
        "i8mm": ("i8mm",),
        "sve": ("sve",),
        "sve2": ("sve2",),
        "sme": ("sme",),
    },
    "wasm32": {},
}


@dataclass(frozen=True)
class Machine:
    """The architecture as targets call it (as Python does, where no target has it), and the features of all its cores;
    None where the system does not list them."""

    arch: str
    features: tuple[str, ...] | None = None


def this_machine(cpuinfo: Path = CPUINFO) -> Machine:
    """This machine, from `platform.machine` and, on Linux and Android, /proc/cpuinfo."""
    said = platform.machine()
    arch = next((arch for arch, words in ARCHITECTURES.items() if said.lower() in words), said)
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system, or a sandbox
        return Machine(arch)
    return Machine(arch, features(arch, text))


@functools.cache
def processor(cpuinfo: Path = CPUINFO) -> str:
    """What tells this processor from others whose kernels may differ, as text: all that Linux says of its kind and its
    features, elsewhere what Python knows."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    lines = {line.strip() for line in text.splitlines() if _KIND.match(line)}
    return "\n".join((platform.machine(), platform.processor(), *sorted(lines)))


def features(arch: str, cpuinfo: str) -> tuple[str, ...] | None:
    """The features that every core in the text of a /proc/cpuinfo has; None where it does not say.

    Cores differ on big.LITTLE chips, and a thread may run on any of them.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    cores = [set(words.split()) for name, _, words in lines if name.strip() in ("flags", "Features")]
    if not cores or arch not in FLAGS:
        return None
    common = set.intersection(*cores)
    found = tuple(name for name, flags in FLAGS[arch].items() if common.issuperset(flags))
    # A list of another architecture's words (an emulator that shows its host's) tells nothing.
    return found if found or not _foreign(arch, common) else None


def check_machine(target: Mapping[str, Any], where: Path, machine: Machine | None = None) -> None:
    """Refuse an artifact whose resolved `target` is not this machine; see `mismatch`.

    Raises:
        ArtifactError: what the artifact wants and what this machine is.
    """
    if found := mismatch(target, machine):
        device = target["device"]
        with_features = f" with {', '.join(device['features'])}" if device.get("features") else ""
        raise ArtifactError(
            f"{where} was made for another machine: {target.get('name')} ({target.get('title', 'no title')})",
            problems=[f"it wants {device['arch']}{with_features}", f"this machine is {found}"],
            fix="build it for this machine (gsvexport targets lists devices); to open it all the same: --any-machine, "
            "or any_machine=True in Python",
        )


def mismatch(target: Mapping[str, Any], machine: Machine | None = None) -> str | None:
    """What this machine is, in words, where it is not what a resolved `target` wants: another architecture, or without
    a feature of the processor that the artifact counts on. None where it fits.

    Without such a feature kernels of another kind run, with other speed and other sound than was verified. Graphics
    cards and accelerators are their backends' to check.
    """
    device, machine = target.get("device"), machine or this_machine()
    if not isinstance(device, dict) or "arch" not in device:
        return None  # nothing that was built says so little
    if device["arch"] != machine.arch:
        return machine.arch
    missing = _missing(device.get("features", ()), machine)
    return f"{machine.arch} without {', '.join(missing)}" if missing else None


def _missing(needs: Collection[str], machine: Machine) -> list[str]:
    """Features that are not there. VNNI comes in two encodings, and either does."""
    if machine.features is None:
        return []
    has = set(machine.features)
    has |= {"avx-vnni", "avx512-vnni"} if has & {"avx-vnni", "avx512-vnni"} else set()
    return [feature for feature in needs if feature not in has]


def _foreign(arch: str, words: set[str]) -> bool:
    """Whether the words of a processor are those of another architecture."""
    others = [flags for other, table in FLAGS.items() if other != arch for flags in table.values()]
    return any(words & set(flags) for flags in others)
