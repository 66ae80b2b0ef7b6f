"""What this device is, and whether an artifact's engines can be built on it."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt.cuda import Cuda, Gpu
from gsvexport.errors import ArtifactError, EnvironmentProblem

MODULE, RTX = "tensorrt", "tensorrt_rtx"  # TensorRT, and TensorRT for RTX, which is taken where the former is not
RTX_RELEASES = ">=1.7,<2"
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0")
IN_PLACE_SINCE = "10.15"  # the first TensorRT with an importer for TensorScatter
STRONG_SINCE = 10  # the first TensorRT whose networks are bound to the types of their graph
# Their tensor cores are missing, and half precision gives NaN or silence on them.
_NO_HALF = re.compile(r"GTX 16\d\d")
_L4T = Path("/etc/nv_tegra_release")
_CLOCKS = {  # MHz or kHz or Hz, as the kernel writes them
    "gpu_hz": "/sys/class/devfreq/*gpu*/cur_freq",
    "gpu_max_hz": "/sys/class/devfreq/*gpu*/max_freq",
    "cpu_khz": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq",
    "cpu_max_khz": "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
}
_LEAST_MEMORY = 0.75  # of what the target names: a board keeps some for itself
_DISK = 5  # times the weights: plans of both forms of T2S hold more than two copies of theirs, and the timing cache


@dataclass(frozen=True)
class Device:
    """This machine: its GPU, the TensorRT that Python finds, and which of the two it is."""

    gpu: Gpu
    tensorrt: str
    module: str = MODULE

    def key(self) -> dict[str, str]:
        """What an engine is bound to."""
        gpu = self.gpu
        return {
            "gpu": gpu.name,
            "compute_capability": gpu.compute_capability,
            "tensorrt": f"{self.tensorrt} for RTX" if self.rtx else self.tensorrt,
            "cuda": gpu.cuda,
        }

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT for RTX, whose releases are counted from 1."""
        return self.module == RTX

    @property
    def writes_in_place(self) -> bool:
        """Whether an engine may write its cache in place."""
        return self.rtx or release(self.tensorrt) >= release(IN_PLACE_SINCE)

    @property
    def strong(self) -> bool:
        """Whether this TensorRT takes the types of a graph as binding."""
        return self.rtx or release(self.tensorrt)[0] >= STRONG_SINCE

    def to_json(self) -> dict[str, Any]:
        """Plain values for the device report; nothing that names a person, a host or a folder."""
        return {**asdict(self.gpu), "tensorrt": self.tensorrt, "module": self.module, **_board()}


def import_tensorrt(first: str = MODULE, install: str = "") -> Any:
    """The module `tensorrt`, or `tensorrt_rtx` where that is not there; the other way round with the latter as `first`.
    `install` is a command that gets what suits an artifact best.

    Raises:
        EnvironmentProblem: neither is there, or not whole; says how it is installed.
    """
    second = RTX if first == MODULE else MODULE
    try:
        module = importlib.import_module(first)
    except (ImportError, OSError) as error:
        with contextlib.suppress(ImportError, OSError):
            return importlib.import_module(second)
        raise EnvironmentProblem(
            f"TensorRT cannot be imported: {error}",
            fix=install
            or "on a Jetson use the system's own Python (JetPack's python3-libnvinfer), or a virtual environment made "
            "with --system-site-packages; elsewhere pip install 'tensorrt>=10.3,<11', or on a GeForce RTX "
            "pip install tensorrt-rtx-cu12",
        ) from error
    if not hasattr(module, "Builder"):  # a folder that happens to have that name
        raise EnvironmentProblem(f"what Python imports as tensorrt is not TensorRT: {getattr(module, '__path__', '?')}")
    return module


def this_device(cuda: Cuda, trt: Any) -> Device:
    """The first GPU, and the given TensorRT."""
    return Device(cuda.gpu(), str(trt.__version__), str(getattr(trt, "__name__", MODULE)))


def check_device(
    device: Device, target: Mapping[str, Any], recipe: Mapping[str, Any], *, half: bool, also: Sequence[str] = ()
) -> None:
    """Refuse a device that an artifact was not made for; `recipe` is `tensorrt.json`, `half` whether FP16 is used,
    `also` are compute capabilities that the artifact has engines for beside its target's.

    Raises:
        ArtifactError: everything that does not fit.
    """
    wanted = target["device"]
    gpu, name = device.gpu, target.get("name")
    problems = []
    if wanted.get("gpu") and gpu.compute_capability not in (wanted["gpu"]["compute_capability"], *also):
        capability = wanted["gpu"]["compute_capability"]
        problems.append(f"{gpu.name} has compute capability {gpu.compute_capability}; {name} is {capability}")
    if half and _NO_HALF.search(gpu.name):
        problems.append(f"{gpu.name} has no tensor cores and computes NaN or silence in FP16: use an x86-64 target")
    asked_of = dict(wanted.get("runtimes", {}), **({MODULE: RTX_RELEASES} if device.rtx else {}))
    if device.rtx and gpu.compute_capability not in RTX_CAPABILITIES:
        known = ", ".join(RTX_CAPABILITIES)
        problems.append(f"TensorRT for RTX knows {known}, not {gpu.compute_capability}: install TensorRT itself")
    for runtime, found in (("tensorrt", device.tensorrt), ("cuda", gpu.cuda)):
        asked = asked_of.get(runtime)
        if asked and not fits(found, asked):
            word = device.module if runtime == MODULE else runtime
            problems.append(f"{word} is {found}; {name} takes {asked}")
    if release(gpu.driver) < release(gpu.cuda):
        problems.append(f"the driver knows CUDA {gpu.driver}, older than the runtime {gpu.cuda}: update the driver")
    if not device.strong:
        missing = [engine for engine, entry in recipe["engines"].items() if not entry["weak"]]
        if missing:
            problems.append(f"TensorRT {device.tensorrt} needs another form of {', '.join(missing)}, which is not here")
    memory_mb = (wanted.get("gpu") or {}).get("memory_mb") or wanted.get("memory_mb") or 0
    if gpu.total < _LEAST_MEMORY * memory_mb * 2**20:
        problems.append(f"{gpu.name} has {gpu.total / 2**20:.0f} MB of memory; {name} is made for {memory_mb} MB")
    if problems:
        raise ArtifactError(
            f"this device is not what the artifact was made for: {name} ({target.get('title', 'no title')})",
            problems=problems,
            fix="build the artifact for this device: gsvexport targets lists them",
        )


def check_disk(folder: Path, weights: int) -> None:
    """Refuse a cache folder on a disk without room for engines of so many bytes of weights.

    Raises:
        EnvironmentProblem: how much is free and how much is needed.
    """
    free = shutil.disk_usage(folder).free
    if free < _DISK * weights:
        raise EnvironmentProblem(
            f"there is too little room for engines in {folder}",
            found=f"{free / 1e6:.0f} MB free",
            limit=f"{_DISK * weights / 1e6:.0f} MB: {_DISK} times the weights",
            fix="free some space, or choose another place with GSVEXPORT_CACHE",
        )


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "10.3.0.30" → (10, 3, 0, 30)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in found.group().split(".")) if found else (0,)


def fits(version: str, asked: str) -> bool:
    """Whether a version is in a range such as ">=8.5.2,<11"; missing places count as 0."""
    for part in asked.split(","):
        found = re.match(r"\s*(>=|<=|==|!=|>|<)\s*([\d.]+)", part)
        if found is None:
            return False
        sign, bound = found.group(1), release(found.group(2))
        mine = release(version)
        width = max(len(mine), len(bound))
        left, right = (one + (0,) * (width - len(one)) for one in (mine, bound))
        order = (left > right) - (left < right)
        kept = {">=": order >= 0, "<=": order <= 0, "==": order == 0, "!=": order != 0, ">": order > 0, "<": order < 0}
        if not kept[sign]:
            return False
    return True


def _board() -> dict[str, Any]:
    """Release, power mode and clocks of a Jetson; of another machine what there is."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError):
        found["l4t"] = _L4T.read_text(encoding="utf-8", errors="replace").splitlines()[0].strip("# ")
    commands = {
        "power_mode": ["nvpmodel", "-q"],
        "clocks": ["nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,power.limit", "--format=csv,noheader"],
    }
    for name, command in commands.items():
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10, check=True)
            found[name] = " ".join(done.stdout.decode(errors="replace").split())
    for name, pattern in _CLOCKS.items():
        for path in sorted(Path("/").glob(pattern[1:]))[:1]:
            with contextlib.suppress(OSError):
                found[name] = path.read_text(encoding="ascii").strip()
    found["cpus"] = os.cpu_count()
    return found


def host_memory_mb() -> float | None:
    """The most memory that this process ever held, in MB; None where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return round(int(found[0]) / 1024, 1) if found else None
