"""Vela, Arm's compiler for Ethos-U NPUs: run in a process of its own, and believed as far as its file bears it out.

What it writes, MODEL_vela.tflite, holds one operator of Arm's own for everything that runs on the NPU. Its figures of
cycles and memory are estimates for a system that `ethosu.toml` names; nothing here runs that operator.
"""

from __future__ import annotations

import csv
import difflib
import functools
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.backends.tflite.edgetpu import foreign
from gsvexport.backends.tflite.flatbuffer import load
from gsvexport.backends.tflite.session import Part
from gsvexport.errors import ArtifactError, BackendError, EnvironmentProblem
from gsvexport.files import canonical_json, sha256_file
from gsvexport.system.patience import seconds_of
from gsvexport.untrusted import reading, schema

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGE, RELEASE = "ethos-u-vela", "5.2"
FIX = "pip install 'gsvexport[ethosu]'"
MEMBER = "ethosu.json"
OPERATOR = "ethos-u"
COMMAND: tuple[str, ...] = (sys.executable, "-m", "ethosu.vela")
VARIABLE = "GSVEXPORT_VELA_SECONDS"
SECONDS = 1800.0
_TABLE = Path(__file__).parent / "ethosu.toml"
_SCHEMA = 1
_LARGEST = 1 << 20  # bytes of a report, or of a table that Vela wrote
_KEPT = 6  # lines of its words that an error shows
_AGAIN = "build the artifact again"
_COUNT = schema.whole(0, (1 << 62) - 1)
_FILE = schema.text(200, re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tflite"))
_SHAPE = schema.record(
    {
        "schema": schema.one_of(_SCHEMA),
        **dict.fromkeys(("stage", "chip", "system", "memory", "version"), schema.text(100)),
        **dict.fromkeys(("file", "compiled"), _FILE),
        **dict.fromkeys(("sha256", "compiled_sha256"), schema.text(64)),
        **dict.fromkeys(("operators", "on_npu", "macs", "npu_macs", "rest_macs", "window", "cycles"), _COUNT),
        **dict.fromkeys(("sram_kib", "dram_kib", "ms", "seconds"), schema.number(0, 1e12)),
    }
)


@dataclass(frozen=True)
class Chip:
    """An NPU, and the system and mode of memory that Vela estimates it in."""

    name: str
    system: str
    memory: str


@dataclass(frozen=True)
class Report:
    """What Vela made of the first part of a stage: `compiled`, of `file`.

    `operators` it found in all, `on_npu` of them; `macs` multiply-adds, `npu_macs` of them there, `rest_macs` those of
    the parts that stay on the processor, of as much sound as one run of `window` frames gives: `seconds`. Estimates of
    such a run: `cycles`, `ms`, and the memory that it takes, in KiB.
    """

    stage: str
    chip: str
    system: str
    memory: str
    version: str
    file: str
    compiled: str
    sha256: str
    compiled_sha256: str
    operators: int
    on_npu: int
    macs: int
    npu_macs: int
    rest_macs: int
    window: int
    cycles: int
    ms: float
    seconds: float
    sram_kib: float
    dram_kib: float

    @property
    def mapped_share(self) -> float:
        """Share of the stage's multiply-adds that run on the NPU."""
        total = self.macs + self.rest_macs
        return self.npu_macs / total if total else 0.0

    def text(self) -> str:
        """The member's content."""
        return canonical_json({"schema": _SCHEMA, **asdict(self)})

    def page(self) -> str:
        """For people."""
        times = f", {self.seconds * 1000 / self.ms:.0f} times as fast as speech" if self.ms else ""
        return (
            f"{self.stage}: {self.mapped_share:.1%} of the multiply-adds run on {self.chip}, as Vela {self.version} "
            f"compiled it; nothing has run there\n"
            f"  {self.compiled}: {self.on_npu} of {self.operators} operators on the NPU; "
            f"SRAM {self.sram_kib:.0f} KiB, DRAM {self.dram_kib:.0f} KiB\n"
            f"  VELA'S ESTIMATE for {self.system}, {self.memory}:\n"
            f"    {self.cycles / 1e6:.2f} million cycles, {self.ms:.2f} ms for {self.seconds:.3g} s of speech{times}\n"
        )


@functools.cache
def chips() -> dict[str, Chip]:
    """All that are known, by name."""
    table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return {name: Chip(name, **values) for name, values in table.items()}


def problems(device: Mapping[str, Any]) -> list[str]:
    """Why this cannot build for a target's device; see `gsvexport.backends.declaration.Bounds`."""
    npu = device.get("npu")
    if not npu or npu["chip"] in chips():
        return []
    near = difflib.get_close_matches(npu["chip"].lower(), chips(), n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    return [f"no Ethos-U '{npu['chip']}' is known{hint}; there are: {', '.join(chips())}"]


def version() -> str:
    """Vela's release.

    Raises:
        EnvironmentProblem: it is not installed, or is of a release whose output was not looked at.
    """
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentProblem(f"{PACKAGE}, which compiles for Ethos-U, is not installed", fix=FIX) from None
    if found != RELEASE and not found.startswith(f"{RELEASE}."):
        raise EnvironmentProblem(f"{PACKAGE} is {found}", limit=f"{RELEASE}.x, whose output we know", fix=FIX)
    return found


def compile_part(
    folder: Path, stage: str, part: Part, chip: Chip, say: Callable[[str], None], *, seconds: float, rest: int
) -> Report:
    """Compile the first `part` of a stage for an NPU, beside it in `folder`.

    `rest` are the multiply-adds of the other parts for one run of it, of which `seconds` of sound are kept.

    Raises:
        EnvironmentProblem: Vela is not installed.
        BackendError: it failed, took too long, wrote nothing, or a file that is not made of this one.
    """
    release, file = version(), part.file
    model = folder / file
    say(f"compiling {file} for {chip.name} with Vela {release}")
    with tempfile.TemporaryDirectory() as work:
        out = Path(work)
        arguments = ("--verbose-performance", "--accelerator-config", chip.name, "--output-dir", work)
        system = ("--config", "Arm/vela.ini", "--system-config", chip.system, "--memory-mode", chip.memory)
        _ask((*arguments, *system, str(model)), file, chip)
        made = out / f"{model.stem}_vela.tflite"
        if not made.is_file():
            raise BackendError(f"{file}: Vela ended without an error and wrote no {made.name}")
        before, after = load(model), load(made)
        if found := foreign(before, after, OPERATOR):
            raise BackendError(f"{made.name} is not made of {file}", problems=found)
        rows, summary = _table(out, f"{model.stem}_per-layer.csv"), _table(out, f"{model.stem}_summary*.csv")[0]
        data = made.read_bytes()
    compiled = folder / made.name
    compiled.write_bytes(data)
    there = [row for row in rows if row["Target"] == "NPU"]
    return Report(
        stage=stage,
        chip=chip.name,
        system=chip.system,
        memory=chip.memory,
        version=release,
        file=file,
        compiled=compiled.name,
        sha256=sha256_file(model),
        compiled_sha256=sha256_file(compiled),
        operators=len(rows),
        on_npu=len(there),
        macs=sum(int(row["MAC Count"]) for row in rows),
        npu_macs=sum(int(row["MAC Count"]) for row in there),
        rest_macs=rest,
        window=part.window,
        cycles=int(float(summary["cycles_total"])),
        ms=round(float(summary["inference_time"]) * 1000, 3),
        seconds=round(seconds, 6),
        sram_kib=round(float(summary["sram_memory_used"]), 1),
        dram_kib=round(float(summary["dram_memory_used"]), 1),
    )


def read(folder: Path) -> Report:
    """The report in an unpacked artifact.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    path = folder / MEMBER
    try:
        return parse(reading.read_bytes(path, _LARGEST), str(path))
    except (OSError, reading.Refused) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix=_AGAIN) from error


def parse(data: bytes, where: str) -> Report:
    """A report from its member's bytes.

    Raises:
        ArtifactError: not JSON of this schema; `where` names it.
    """
    try:
        value = reading.parse_json(data, limit=_LARGEST)
    except reading.Refused as error:
        raise ArtifactError(f"{where} {error}", fix=_AGAIN) from error
    if found := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{where} cannot be read", problems=found, fix=_AGAIN)
    del value["schema"]
    report = Report(**value)
    if report.on_npu > report.operators or report.npu_macs > report.macs:
        raise ArtifactError(f"{where} cannot be right: more runs on the NPU than there is", fix=_AGAIN)
    return report


def problem(folder: Path, report: Report, chip: str) -> str:
    """Why a report is not that of the files beside it; empty where nothing speaks against it."""
    if report.chip != chip:
        return f"{report.compiled} is for {report.chip}, and the target has {chip}"
    model, made = folder / report.file, folder / report.compiled
    if not made.is_file():
        return f"{report.compiled} is missing"
    if (sha256_file(model), sha256_file(made)) != (report.sha256, report.compiled_sha256):
        return f"{report.compiled} was not compiled from this {report.file}"
    return "; ".join(foreign(load(model), load(made), OPERATOR))


def _table(folder: Path, pattern: str) -> list[dict[str, str]]:
    """The rows of a table that Vela wrote."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BackendError(f"Vela wrote {len(found)} files {pattern}, and not one")
    rows = list(csv.DictReader(reading.read_bytes(found[0], _LARGEST).decode().splitlines()))
    if not rows:
        raise BackendError(f"{found[0].name}, which Vela wrote, is empty")
    return rows


def _ask(arguments: tuple[str, ...], file: str, chip: Chip) -> None:
    seconds = seconds_of(VARIABLE, SECONDS)
    command = [*COMMAND, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        fix = f"allow more with {VARIABLE}=SECONDS"
        raise BackendError(f"{file}: Vela did not end in {seconds:g} s, so it was stopped", fix=fix) from None
    if done.returncode:
        code = f"died of signal {-done.returncode}" if done.returncode < 0 else f"failed with code {done.returncode}"
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BackendError(f"{file}: Vela {code} for {chip.name}", problems=said[-_KEPT:])
