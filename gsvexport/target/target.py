"""A target: one device, read from `targets/NAME.toml`. A new device is a new file there and no Python.

A profile may extend others (`extends = "_onnxruntime"`, or a list in which later names win). Names that begin with an
underscore are families: they hold what several devices share and are not devices themselves. A family with a `title` is
a tier: any device takes it, as NAME+TIER.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gsvexport.errors import TargetError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.stages import CODES_PER_SECOND, MAX_TOKENS, POSITIONS, PRETRAINED_STAGES, VERSIONS, stages
from gsvexport.system.names import refused
from gsvexport.target.tables import Layers, Reader, Rule, key, nearest, read_layers

FEATURES = {
    "x86-64": ("avx2", "fma", "f16c", "avx512", "avx512-vnni", "avx-vnni", "amx"),
    "aarch64": ("neon", "dotprod", "fp16", "bf16", "i8mm", "sve", "sve2", "sme"),
    "wasm32": (),  # a browser
}
_V82 = ("neon", "dotprod", "fp16")
_V9 = (*_V82, "bf16", "i8mm", "sve", "sve2")
# Cores by the name that compilers and qemu know them by, and which of the features above they have, as listed in gcc's
# config/aarch64/aarch64-cores.def (apple-m1: sysctl hw.optional.arm). A profile may claim fewer, not more.
CORES: dict[str, tuple[str, tuple[str, ...]]] = {
    **dict.fromkeys(("cortex-a35", "cortex-a53", "cortex-a57", "cortex-a72"), ("aarch64", ("neon",))),
    **dict.fromkeys(("cortex-a55", "cortex-a76", "cortex-a78", "cortex-a78ae", "neoverse-n1"), ("aarch64", _V82)),
    "apple-m1": ("aarch64", _V82),
    "neoverse-v1": ("aarch64", (*_V82, "bf16", "i8mm", "sve")),
    **dict.fromkeys(("cortex-a510", "cortex-a710", "cortex-x2", "neoverse-n2", "neoverse-v2"), ("aarch64", _V9)),
}
# "int8" quantises activations with calibrated ranges, "int16x8" the same to 16 bits beside weights of 8, "int8-dynamic"
# with those of each row as it comes; what a stage really sees decides how many layers of any keep floats.
PRECISIONS = ("fp32", "fp16", "int8", "int16x8", "int8-dynamic", "int8-weights", "int4-weights")
SYSTEMS = ("linux", "android", "macos", "ios", "windows", "browser")
PORTABILITY = ("portable", "build_on_device")
ON_DEVICE, AHEAD = ENGINES = ("on-device", "ahead-of-time")  # where engines are built
EMULATORS = {"qemu-aarch64": "aarch64"}
LINKS = ("pcie", "usb3", "usb2")  # how an accelerator is attached
CONFIDENCE = ("measured", "read", "secondary", "recall")  # who vouches for a figure: we, its maker, others, memory
LONGEST_SECONDS = MAX_TOKENS / CODES_PER_SECOND

_CAPABILITY = re.compile(r"\d{1,2}\.\d")
_RELEASES = re.compile(r"(>=|<=|==|!=|~=|<|>)\d+(\.\d+)*(\s*,\s*(>=|<=|==|!=|~=|<|>)\d+(\.\d+)*)*")
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_ROLES = {name: stage.role for version in VERSIONS for name, stage in stages(version).items()}
_PLACES = ("default", *dict.fromkeys(_ROLES.values()), *(name for name in _ROLES if name not in _ROLES.values()))


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU. Without `memory_mb` and `bandwidth_gbs` of its own it shares the device's memory."""

    compute_capability: str = key(str)
    memory_mb: int | None = key(int, low=512, high=1_000_000, unit="MB", default=None)
    bandwidth_gbs: float | None = key(float, low=0.5, high=20_000, unit="GB/s", default=None)


@dataclass(frozen=True)
class Tpu:
    """An Edge TPU: its memory for parameters, what it computes at its peak, and how it is attached."""

    sram_mb: float = key(float, low=1, high=64, unit="MB")
    tops_int8: float = key(float, low=0.1, high=1000, unit="TOPS")
    link: str = key(str, *LINKS)
    link_gbs: float = key(float, low=0.01, high=64, unit="GB/s")


@dataclass(frozen=True)
class Npu:
    """A neural processor that its vendor's compiler builds for: the name of the `chip` that has it, and what device
    trees of boards with it are `compatible` with; none where they do not tell."""

    chip: str = key(str)
    compatible: tuple[str, ...] = key(list, default=())


@dataclass(frozen=True)
class Device:
    """What the device is.

    `core` is the name that compilers and emulators know it by, `memory_mb` that of the smallest one sold,
    `bandwidth_gbs` its memory bandwidth in 10^9 bytes/s, as far as one is known the one that programs reach, `runtimes`
    the versions of what runs the graphs there ("onnxruntime" -> ">=1.23,<2"), `confidence` who vouches for a figure.
    """

    arch: str = key(str, *FEATURES)
    core: str | None = key(str, *CORES, default=None)
    features: tuple[str, ...] = key(list, default=())
    memory_mb: int | None = key(int, low=64, high=4_000_000, unit="MB", default=None)
    bandwidth_gbs: float | None = key(float, low=0.5, high=20_000, unit="GB/s", default=None)
    os: str = key(str, *SYSTEMS, default="linux")
    runtimes: dict[str, str] = key(dict, default_factory=dict)  # noqa: RUF009 - a field specifier
    confidence: dict[str, str] = key(dict, default_factory=dict)  # noqa: RUF009
    gpu: Gpu | None = key(Gpu, default=None)  # noqa: RUF009
    tpu: Tpu | None = key(Tpu, default=None)  # noqa: RUF009
    npu: Npu | None = key(Npu, default=None)  # noqa: RUF009


@dataclass(frozen=True)
class Placement:
    """Which backend runs a stage, and with which precision policy."""

    backend: str = key(str)
    precision: str = key(str, *PRECISIONS)


@dataclass(frozen=True)
class Limits:
    """The longest sentence that a target takes: target phones, generated codes, seconds of speech at speed 1."""

    phones: int = key(int, low=1, high=POSITIONS, unit="phones", default=POSITIONS)
    tokens: int = key(int, low=1, high=MAX_TOKENS, unit="codes", default=MAX_TOKENS)
    seconds: float = key(float, low=1, high=LONGEST_SECONDS, unit="s", default=LONGEST_SECONDS)


@dataclass(frozen=True)
class Calibration:
    """Which texts, and how many of them, set the ranges of integer activations."""

    corpus: str = key(str)
    sentences: int = key(int, low=1, high=100_000, unit="sentences", default=100)


@dataclass(frozen=True)
class Target:
    """A device profile. `placement` maps a stage, a role or "default" to where it runs; ask `place`.

    `gates` maps a verification metric, or "stage.metric", to the limit that replaces its default one; `where` maps each
    dotted key to the "file:line" that set it, for error messages. `pretrained` are the stages of pretrained networks,
    large ones, that its artifacts hold where a voice is given them. `engine` says where engines are built: on the
    device, or ahead of time where the vendor's compiler is installed when the artifact is built. `student` takes a
    smaller voice where one lies beside the voice (see `compiler.student`).
    """

    name: str
    title: str
    device: Device
    placement: dict[str, Placement]
    limits: Limits = field(default_factory=Limits)
    calibration: Calibration | None = None
    gates: dict[str, float] = field(default_factory=dict)
    portability: str = "portable"
    emulator: str | None = None
    pretrained: tuple[str, ...] = ()
    engine: str = ON_DEVICE
    student: bool = False
    where: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def place(self, stage: str) -> Placement:
        """Where a stage runs: its own entry, else its role's, else the default."""
        return self.placement[self.placed_by(stage)]

    def placed_by(self, stage: str) -> str:
        """The key of `placement` that decides about a stage."""
        return next(name for name in (stage, _ROLES[stage], "default") if name in self.placement)

    def to_json(self) -> dict[str, Any]:
        """Plain values; nothing that depends on where the profile was read."""
        value = asdict(self)
        del value["where"]
        value["device"]["features"] = list(self.device.features)
        value["pretrained"] = list(self.pretrained)
        npu = self.device.npu
        if npu is None:
            del value["device"]["npu"]
        else:
            more = {"compatible": list(npu.compatible)} if npu.compatible else {}
            value["device"]["npu"] = {"chip": npu.chip, **more}
        if not self.pretrained:
            del value["pretrained"]
        if self.engine == ON_DEVICE:
            del value["engine"]
        if not self.student:
            del value["student"]
        return value

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved profile."""
        return sha256_bytes(canonical_json(self.to_json()).encode())


def registry() -> Path:
    """The folder of profiles: the copy inside an installed package, else `targets/` of the repository."""
    package = Path(__file__).parent.parent
    installed = package / "targets"
    return installed if installed.is_dir() else package.parent / "targets"


def target_names(folder: Path | None = None) -> list[str]:
    """Names of all devices in the registry, sorted; families are left out."""
    return sorted(path.stem for path in (folder or registry()).glob("*.toml") if not path.stem.startswith("_"))


def tiers(folder: Path | None = None) -> dict[str, str]:
    """Name (without the underscore) and title of each tier in the registry, sorted."""
    folder = folder or registry()
    found = {path.stem[1:]: _layers(path, folder, []).values.get("title") for path in sorted(folder.glob("_*.toml"))}
    return {name: title for name, title in found.items() if title}


def read_target(name: str, folder: Path | None = None) -> Target:
    """Read one profile: by name from the registry, or from a file of your own when it ends in `.toml`.

    A file of your own may extend families and devices of the registry as well as files beside it. Tiers may follow,
    each after a "+": what they set goes before what the device says, and the target is called NAME-TIER.

    Raises:
        TargetError: unknown (with the nearest names), or wrong (with every problem at its file and line).
    """
    folder = folder or registry()
    name, *chosen = name.split("+")
    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise TargetError(f"there is no target file {path}", fix="gsvexport targets lists the built-in targets")
    else:
        path = _find(name, (folder,))
    problems: list[str] = []
    layers = _layers(path, folder, problems)
    if not _NAME.fullmatch(path.stem):
        problems.append(f"{path}: a device is named in lower-case letters, digits, '.' and '-', not '{path.stem}'")
    elif why := refused(path.stem):
        problems.append(f"{path}: '{path.stem}' {why}, and files are named after the device")
    for tier in chosen:
        if tier not in (known := tiers(folder)):
            raise TargetError(f"there is no tier '{tier}'{nearest(tier, known)}", limit="known: " + ", ".join(known))
        title = f"{layers.values.get('title')}; {known[tier]}"
        layers = layers.under(_layers(folder / f"_{tier}.toml", folder, problems)).under(Layers({"title": title}, {}))
    full_name = "-".join([path.stem, *chosen])
    target = _target(Reader(layers, path, problems), full_name, layers.where)
    if target is None or problems:
        raise TargetError(f"target {full_name} cannot be used", problems=problems, fix=f"correct {path}")
    return target


def read_targets(names: Iterable[str], folder: Path | None = None) -> list[Target]:
    """Read several profiles, each once, in order.

    Raises:
        TargetError: what is wrong with any of them, all in one.
    """
    found: dict[str, Target] = {}
    errors: list[TargetError] = []
    for name in dict.fromkeys(names):
        try:
            target = read_target(name, folder)
        except TargetError as error:
            errors.append(error)
            continue
        if found.setdefault(target.name, target) != target:
            errors.append(TargetError(f"two different targets are called '{target.name}'"))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise TargetError("several targets cannot be used", problems=[str(error) for error in errors])
    return list(found.values())


def _layers(path: Path, folder: Path, problems: list[str]) -> Layers:
    return read_layers(path, lambda parent, beside: _find(parent, (beside, folder), families=True), problems)


def _find(name: str, folders: Iterable[Path], *, families: bool = False) -> Path:
    """The file of a name in the first folder that has it."""
    folders = list(folders)
    if _NAME.fullmatch(name) or (families and _NAME.fullmatch(name.removeprefix("_"))):
        for folder in folders:
            if (path := folder / f"{name}.toml").is_file():
                return path
    known = sorted({path.stem for folder in folders for path in folder.glob("*.toml")})
    known = [item for item in known if families or not item.startswith("_")]
    raise TargetError(
        f"there is no target '{name}'{nearest(name.lower(), known)}",
        limit="known: " + (", ".join(known) or f"none in {folders[0]}"),
        fix="gsvexport targets lists them; --target FILE.toml takes a profile of your own",
    )


def _target(reader: Reader, name: str, where: dict[str, str]) -> Target | None:
    before = len(reader.problems)
    reader.unknown("", reader.values, [item.name for item in fields(Target) if item.name not in ("name", "where")])
    title = reader.value("title", Rule(str))
    device = reader.table(Device, "device")
    placement = _placement(reader)
    limits = reader.table(Limits, "limits")
    calibration = reader.table(Calibration, "calibration") if "calibration" in reader.values else None
    gates = _gates(reader)
    portability = reader.value("portability", Rule(str, PORTABILITY), "portable")
    emulator = reader.value("emulator", Rule(str, tuple(EMULATORS)), None)
    pretrained = reader.value("pretrained", Rule(list), ())
    for stage in pretrained or ():
        reader.check("pretrained", stage, Rule(str, PRETRAINED_STAGES))
    engine = reader.value("engine", Rule(str, ENGINES), ON_DEVICE)
    student = reader.value("student", Rule(bool), False)
    if len(reader.problems) > before:
        return None
    more = (portability, emulator, pretrained, engine, student, where)
    target = Target(name, title, device, placement, limits, calibration, gates, *more)
    _combinations(target, reader)
    return target


def _placement(reader: Reader) -> dict[str, Placement]:
    """Entries by stage, role or "default"; what an entry leaves out it takes from the default."""
    table = reader.mapping("placement")
    reader.unknown("placement", table, _PLACES)
    if "default" not in table:
        reader.problem("placement", "[placement] lacks 'default'")
    base = reader.mapping("placement.default", table)
    result = {}
    for name in (item for item in _PLACES if item in table):
        values = {**base, **reader.mapping(f"placement.{name}", table)}
        if placement := reader.table(Placement, f"placement.{name}", values):
            result[name] = placement
    return result


def _gates(reader: Reader) -> dict[str, float]:
    """Limits by "metric", or "stage.metric" for a table of one stage's."""
    flat: dict[str, Any] = {}
    for name, value in reader.mapping("gates").items():
        flat |= (
            {f"{name}.{metric}": limit for metric, limit in value.items()} if isinstance(value, dict) else {name: value}
        )
    return {name: float(limit) for name, limit in flat.items() if reader.check(f"gates.{name}", limit, Rule(float))}


def _combinations(target: Target, reader: Reader) -> None:
    """Things that are fine alone and cannot be true together."""
    limits = target.limits
    _device(target.device, reader)
    if limits.tokens > limits.seconds * CODES_PER_SECOND:
        spoken = f"limits.tokens = {limits.tokens} are {limits.tokens / CODES_PER_SECOND:g} s of speech"
        reader.problem("limits.tokens", f"{spoken}, more than limits.seconds = {limits.seconds:g}")
    for name, place in target.placement.items():
        if place.precision in ("int8", "int16x8", "int8-dynamic") and target.calibration is None:
            text = f"placement.{name} is {place.precision}, which needs a [calibration] table"
            reader.problem(f"placement.{name}", text)
    if target.emulator:
        if EMULATORS[target.emulator] != target.device.arch:
            reader.problem("emulator", f"{target.emulator} does not run {target.device.arch}")
        if target.device.core is None:
            reader.problem("emulator", "an emulator needs device.core: the processor that it plays")


def _device(device: Device, reader: Reader) -> None:
    """What a processor, a GPU or a TPU cannot be or have."""
    arch, able = CORES.get(device.core or "", (device.arch, FEATURES[device.arch]))
    if arch != device.arch:
        reader.problem("device.core", f"{device.core} is {arch}, not {device.arch}")
    for feature in device.features:
        if feature not in FEATURES[device.arch]:
            hint = nearest(feature, FEATURES[device.arch])
            reader.problem("device.features", f"{device.arch} has no feature '{feature}'{hint}")
        elif arch == device.arch and feature not in able:
            reader.problem("device.features", f"{device.core} has no {feature}; it has {', '.join(able)}")
    for name, releases in device.runtimes.items():
        if not _RELEASES.fullmatch(releases):
            text = f"'{name}' takes versions such as '>=1.23,<2', not '{releases}'"
            reader.problem(f"device.runtimes.{name}", text)
    known = [item.name for item in fields(Device) if item.name != "confidence"]
    for name, word in device.confidence.items():
        if name not in known or getattr(device, name) is None:
            text = f"confidence in '{name}', which [device] does not give{nearest(name, known)}"
            reader.problem(f"device.confidence.{name}", text)
        if word not in CONFIDENCE:
            text = f"confidence is one of {', '.join(CONFIDENCE)}, not '{word}'{nearest(word, CONFIDENCE)}"
            reader.problem(f"device.confidence.{name}", text)
    if device.gpu and not _CAPABILITY.fullmatch(device.gpu.compute_capability):
        text = f"a compute capability is written as '8.7', not '{device.gpu.compute_capability}'"
        reader.problem("device.gpu.compute_capability", text)
    if device.gpu and (device.gpu.memory_mb is None) != (device.gpu.bandwidth_gbs is None):
        text = "a GPU with memory of its own has both memory_mb and bandwidth_gbs; one without shares the device's"
        reader.problem("device.gpu", text)
