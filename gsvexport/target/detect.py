"""What this device is, and which of the published artifacts is the best for it.

`probe` looks; `rank` decides, as a pure function of what was seen and of the targets' `[device]` tables, so devices
that are not here test it. No device is named here: a board is recognised where its target is called as it calls itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gsvexport.target.machine import FLAGS, this_machine
from gsvexport.target.machine import features as listed_features

_SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}
# "CPU part" of processors by Arm (implementer 0x41) → the core as compilers call it. gcc, aarch64-cores.def.
_ARM = 0x41
_PARTS = {
    **{0xD04: "cortex-a35", 0xD03: "cortex-a53", 0xD05: "cortex-a55", 0xD07: "cortex-a57", 0xD08: "cortex-a72"},
    **{0xD0B: "cortex-a76", 0xD41: "cortex-a78", 0xD42: "cortex-a78ae", 0xD0C: "neoverse-n1", 0xD40: "neoverse-v1"},
    **{0xD46: "cortex-a510", 0xD47: "cortex-a710", 0xD48: "cortex-x2", 0xD49: "neoverse-n2", 0xD4F: "neoverse-v2"},
}
_LEAST_MEMORY = 0.75  # of what a target names: a board keeps some for itself
_TPU_PCI = ("0x1ac1", "0x089a")  # vendor and device of an Edge TPU on PCI Express
_TPU_USB = ("1a6e:089a", "18d1:9302")  # an Edge TPU on USB, before and after its firmware is loaded
_MAJOR, _MINOR, _NAME_BYTES = 75, 76, 256  # CUdevice_attribute


@dataclass(frozen=True)
class GpuSeen:
    """An NVIDIA GPU: its name, compute capability ("8.7") and memory in MB."""

    name: str
    compute_capability: str
    memory_mb: int


@dataclass(frozen=True)
class Probe:
    """What a device says of itself.

    `features` of the processor are None where the system does not list them; `names` are what the board, the machine
    and its GPUs are called; `tpus` are the links that Edge TPUs hang on ("pcie", "usb"), `npus` the families of NPUs
    that show as a device ("ethos-u"). Unknown memory is None.
    """

    arch: str
    system: str
    features: tuple[str, ...] | None = None
    cores: tuple[str, ...] = ()
    memory_mb: int | None = None
    names: tuple[str, ...] = ()
    gpus: tuple[GpuSeen, ...] = ()
    tpus: tuple[str, ...] = ()
    npus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """A published target: its name, its `[device]`, and the bytes of its artifact."""

    target: str
    device: Mapping[str, Any]
    size: int


@dataclass(frozen=True)
class Verdict:
    """Why a candidate does not run here (`against`), or what speaks for it (`reasons`) and how much (`score`)."""

    candidate: Candidate
    against: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    score: tuple[int, ...] = ()

    @property
    def line(self) -> str:
        """It in a line."""
        said = "; ".join(self.against or self.reasons)
        return f"{self.candidate.target}: {'no: ' if self.against else ''}{said}"


def rank(seen: Probe, candidates: Sequence[Candidate]) -> list[Verdict]:
    """All candidates, the best first, those that do not run here last.

    Of those that run, first comes what uses a GPU or TPU that is there, then what the device calls itself (the longer
    name wins), then what was made for its core, for more features of its processor, for more memory; at last what is
    of no tier, the smaller artifact, and the name.
    """
    verdicts = [_verdict(seen, candidate) for candidate in candidates]
    return sorted(verdicts, key=_order)


def probe(root: Path = Path("/")) -> Probe:
    """Look at this device. `root` is where /proc and /sys are; CUDA's driver is asked wherever they are."""
    machine = this_machine(root / "proc/cpuinfo")
    cpuinfo = _text(root / "proc/cpuinfo")
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    gpus = _gpus()
    tree = root / "proc/device-tree"
    board = [_text(tree / "model"), *_text(tree / "compatible").split("\0")]
    board.append(_text(root / "sys/class/dmi/id/product_name"))
    system = "android" if hasattr(sys, "getandroidapilevel") else _SYSTEMS.get(platform.system(), "other")
    return Probe(
        arch=machine.arch,
        system=system,
        features=machine.features,
        cores=cores(cpuinfo),
        memory_mb=int(memory[1]) // 1024 if memory else None,
        names=tuple(name for text in board if (name := text.strip("\0\n "))) + tuple(gpu.name for gpu in gpus),
        gpus=gpus,
        tpus=_tpus(root / "sys"),
        npus=("ethos-u",) if (root / "dev/ethosu0").exists() else (),
    )


def recorded(arch: str, cpuinfo: str, **what: Any) -> Probe:
    """A Linux device from the text of its /proc/cpuinfo and whatever else of a `Probe` is known."""
    features = listed_features(arch, cpuinfo) if arch in FLAGS else None
    return Probe(arch, "linux", features, cores(cpuinfo), **what)


def cores(cpuinfo: str) -> tuple[str, ...]:
    """The kinds of Arm's cores in the text of a /proc/cpuinfo."""
    makers = [int(word, 16) for word in re.findall(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)", cpuinfo, re.MULTILINE)]
    parts = [int(word, 16) for word in re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)", cpuinfo, re.MULTILINE)]
    found = {_PARTS[part] for maker, part in zip(makers, parts, strict=False) if maker == _ARM and part in _PARTS}
    return tuple(sorted(found))


def _verdict(seen: Probe, candidate: Candidate) -> Verdict:
    device = candidate.device
    against, reasons = [], []
    if device.get("arch") != seen.arch:
        against.append(f"for {device.get('arch')}, and this is {seen.arch}")
    elif device.get("os", "linux") != seen.system:
        against.append(f"for {device.get('os', 'linux')}, and this is {seen.system}")
    features = _strings(device.get("features"))
    if not against and seen.features is not None and (missing := _missing(features, seen.features)):
        against.append(f"wants {', '.join(missing)} of the processor")
    gpu, gpu_named = _fitting_gpu(device.get("gpu"), seen, candidate.target)
    if isinstance(device.get("gpu"), Mapping) and gpu is None:
        there = ", ".join(f"{one.name} ({one.compute_capability})" for one in seen.gpus) or "no NVIDIA GPU"
        against.append(f"wants a GPU of compute capability {device['gpu'].get('compute_capability')}; here is {there}")
    tpu = device.get("tpu")
    if isinstance(tpu, Mapping) and not any(str(tpu.get("link", "")).startswith(link) for link in seen.tpus):
        against.append(f"wants an Edge TPU on {tpu.get('link')}")
    npu = device.get("npu")
    chip = str(npu.get("chip", "")) if isinstance(npu, Mapping) else ""
    if chip.startswith("ethos-u") and "ethos-u" not in seen.npus:
        against.append(f"wants an {chip}, and there is no /dev/ethosu0")
    compatible = tuple(_strings(npu.get("compatible"))) if isinstance(npu, Mapping) else ()
    if compatible and not any(name.startswith(compatible) for name in seen.names):
        against.append(f"wants the NPU of an {chip}, and nothing here calls itself that")
    memory = _number(device.get("memory_mb"))
    if seen.memory_mb and seen.memory_mb < _LEAST_MEMORY * memory:
        against.append(f"wants {memory} MB of memory; here are {seen.memory_mb}")
    if against:
        return Verdict(candidate, tuple(against))
    called = _called(candidate.target, seen.names)
    core = device.get("core") in seen.cores
    if gpu:
        reasons.append(f"for the {gpu.name} ({gpu.compute_capability}) that is here")
    if isinstance(tpu, Mapping):
        reasons.append("for the Edge TPU that is here")
    if called:
        reasons.append(f"the device calls itself {called!r}")
    if core:
        reasons.append(f"for its core, {device['core']}")
    reasons.append(f"uses {', '.join(features) or 'nothing special'} of the processor")
    length = len(candidate.target) if called else 0
    score = (2 if gpu else 1 if tpu else 0, length, int(gpu_named), int(core), len(features), memory)
    return Verdict(candidate, (), tuple(reasons), score)


def _order(verdict: Verdict) -> tuple[Any, ...]:
    name = verdict.candidate.target
    return bool(verdict.against), [-share for share in verdict.score], "+" in name, verdict.candidate.size, name


def _missing(wanted: Sequence[str], there: Sequence[str]) -> list[str]:
    """Features that are not there. VNNI comes in two encodings, and either does."""
    vnni = {"avx-vnni", "avx512-vnni"}
    has = {*there} | (vnni if vnni & {*there} else set())
    return [feature for feature in wanted if feature not in has]


def _fitting_gpu(wanted: Any, seen: Probe, target: str) -> tuple[GpuSeen | None, bool]:
    """A GPU that a target's fits, one that is called as the target first; and whether it is called so."""
    if not isinstance(wanted, Mapping):
        return None, False
    least = _number(wanted.get("memory_mb"))
    fits = [
        gpu
        for gpu in seen.gpus
        if gpu.compute_capability == wanted.get("compute_capability") and gpu.memory_mb >= _LEAST_MEMORY * least
    ]
    named = [gpu for gpu in fits if _called(target, (gpu.name,))]
    return next(iter(named or fits), None), bool(named)


def _called(target: str, names: Sequence[str]) -> str | None:
    """The name in which the target's name stands, whole word by whole word: rtx-4090 in "NVIDIA GeForce RTX 4090"."""
    words = _words(target.partition("+")[0])  # without tiers
    for name in names:
        said = _words(name)
        if any(said[start : start + len(words)] == words for start in range(len(said) - len(words) + 1)):
            return name
    return None


def _number(value: Any) -> int:
    """A number of an index, whoever wrote it."""
    return int(value) if isinstance(value, (int, float)) else 0


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _gpus() -> tuple[GpuSeen, ...]:
    """The NVIDIA GPUs, from CUDA's driver (CUDA Driver API); none where there is no driver."""
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        if cuda.cuInit(0):
            return ()
        count = ctypes.c_int()
        cuda.cuDeviceGetCount(ctypes.byref(count))
        found = []
        for number in range(count.value):
            device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
            name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
            failed = cuda.cuDeviceGet(ctypes.byref(device), number)
            failed |= cuda.cuDeviceGetName(name, _NAME_BYTES, device)
            failed |= cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
            failed |= cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
            failed |= cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
            if not failed:
                said = name.value.decode(errors="replace")
                found.append(GpuSeen(said, f"{major.value}.{minor.value}", memory.value >> 20))
        return tuple(found)
    except (OSError, AttributeError):
        return ()


def _tpus(tree: Path) -> tuple[str, ...]:
    """How Edge TPUs are attached."""
    found = []
    if any(
        (_text(path / "vendor").strip(), _text(path / "device").strip()) == _TPU_PCI for path in _below(tree, "pci")
    ):
        found.append("pcie")
    usb = _below(tree, "usb")
    if any(f"{_text(path / 'idVendor').strip()}:{_text(path / 'idProduct').strip()}" in _TPU_USB for path in usb):
        found.append("usb")
    return tuple(found)


def _below(tree: Path, bus: str) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted((tree / "bus" / bus / "devices").iterdir())
    return []


def _text(path: Path) -> str:
    """What a file of the kernel's says; nothing where it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
