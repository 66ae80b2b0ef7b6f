"""What runs where on a Rockchip, read from the log of its compiler: each operator with the compiler's own estimate of
cycles. Nothing has run there."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from gsvexport.backends.rknn.place import KNOWN, PACKAGE
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.files import canonical_json
from gsvexport.npu.windows import AGAIN
from gsvexport.untrusted import reading, schema

SCHEMA = 1
NPU, CPU = "NPU", "CPU"
# [12:52:42.409] 14  ConvTranspose  FLOAT16  NPU  (1,192,1,64),(192,256,1,8)  (1,256,1,256)  39871/196608/196608  793  …
# RK3576 has one column more, of sparse weights.
_ROW = re.compile(rb"\] (\d+) +(\w+) +\w+ +(NPU|CPU|GPU) +(\S+) +(\S+) +\d+/\d+/(\d+) +(?:\d+% +)?(\d+) +\S*?:(\S+)")
_AXES = re.compile(rb"\(([\d,]+)\)")
_MEMORY = re.compile(rb"Total (Internal|Weight) Memory Size: ([\d.]+)KB")
_ENDS = ("InputOperator", "OutputOperator")  # what goes in and comes out: no operators of the graph
_MOST = 10000  # operators
_LARGEST = 4 << 20  # bytes of a report
_COUNT = schema.whole(0, 1 << 50)
_TEXT = schema.text(300)
_ROWS = schema.record(
    {
        **dict.fromkeys(("name", "kind"), _TEXT),
        "where": schema.one_of(NPU, CPU, "GPU"),
        **dict.fromkeys(("macs", "cycles", "kb"), _COUNT),
    }
)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        **dict.fromkeys(("stage", "chip", "toolkit"), schema.text(100)),
        "operators": schema.rows(_ROWS, _MOST),
        **dict.fromkeys(("internal_kb", "weight_kb"), schema.number(0, 1e12)),
    }
)


@dataclass(frozen=True)
class Operator:
    """An operator as the compiler made it: where it runs, the multiply-adds of a convolution, the compiler's estimate
    of cycles (0: it has none), and the KB that it moves."""

    name: str
    kind: str
    where: str
    macs: int
    cycles: int
    kb: int


@dataclass(frozen=True)
class Placement:
    """All operators of a stage, and what the compiler says that they take of memory."""

    stage: str
    chip: str
    toolkit: str
    operators: tuple[Operator, ...]
    internal_kb: float
    weight_kb: float

    @property
    def elsewhere(self) -> tuple[Operator, ...]:
        """Operators that do not run on the NPU."""
        return tuple(one for one in self.operators if one.where != NPU)

    @property
    def mapped_share(self) -> float:
        """Share of the multiply-adds that run on the NPU."""
        return sum(one.macs for one in self.operators if one.where == NPU) / max(
            1, sum(one.macs for one in self.operators)
        )

    @property
    def cycles(self) -> int:
        """The vendor's estimate, of a window."""
        return sum(one.cycles for one in self.operators)

    @property
    def words(self) -> str:
        """In one line."""
        there = len(self.operators) - len(self.elsewhere)
        left = Counter(f"{one.kind} on the {one.where}" for one in self.elsewhere)
        but = f", {', '.join(f'{count} {what}' for what, count in sorted(left.items()))}" if left else ""
        return f"{there} of {len(self.operators)} operators on the NPU of the {self.chip}{but}"

    def text(self) -> str:
        """The member's content."""
        return canonical_json({"schema": SCHEMA, **asdict(self)})

    def page(self) -> str:
        """For people."""
        share = f"{self.mapped_share:.1%} of the multiply-adds"
        lines = [
            f"{self.stage}: {self.words}, {share}, as {self.toolkit} compiled it; nothing has run there",
            f"  memory: {self.weight_kb / 1024:.1f} MB of weights, {self.internal_kb / 1024:.1f} MB besides",
            f"  THE VENDOR'S ESTIMATE of a window: {self.cycles / 1e6:.2f} million cycles, of convolutions alone",
        ]
        lines += [f"  not on the NPU: {one.kind} {one.name}, {one.where}" for one in self.elsewhere]
        return "\n".join(lines) + "\n"


def read_log(path: Path, stage: str, chip: str) -> Placement:
    """The placement in the log of a build.

    Raises:
        BackendError: there is no table of operators in it, or not all of one.
    """
    rows: list[tuple[bytes, ...]] = []
    memory: dict[bytes, float] = {}
    path.touch()  # none is as empty as one without a word
    with path.open("rb") as stream:  # 85 MB for a full-size vocoder
        for line in stream:
            if found := _ROW.search(line):
                rows.append(found.groups())
            memory |= {kind: float(size) for kind, size in _MEMORY.findall(line)}
    numbers = [int(row[0]) for row in rows]
    whole = rows and numbers == list(range(len(rows))) and _plain(rows[-1][1]) == _ENDS[1]
    if not whole or memory.keys() != {b"Internal", b"Weight"}:
        raise BackendError(
            f"{stage}: the log of {PACKAGE} {KNOWN} does not say what runs where",
            found=f"{len(rows)} rows of operators, {len(memory)} sizes of memory",
        )
    operators = tuple(
        Operator(_plain(name), _plain(kind), _plain(where), _macs(kind, given, result), int(total), int(kb))
        for _, kind, where, given, result, total, kb, name in rows
        if _plain(kind) not in _ENDS
    )
    return Placement(stage, chip, f"{PACKAGE} {KNOWN}", operators, memory[b"Internal"], memory[b"Weight"])


def parse(data: bytes, where: str) -> Placement:
    """A placement from its member's bytes.

    Raises:
        ArtifactError: not JSON of this schema; `where` names it.
    """
    try:
        value = reading.parse_json(data, limit=_LARGEST)
    except reading.Refused as error:
        raise ArtifactError(f"{where} {error}", fix=AGAIN) from error
    if found := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{where} cannot be read", problems=found, fix=AGAIN)
    del value["schema"]
    return Placement(**{**value, "operators": tuple(Operator(**one) for one in value["operators"])})


def _macs(kind: bytes, given: bytes, result: bytes) -> int:
    """Multiply-adds of a convolution of [1, C, H, W] with weights [O, C, h, w], or [C, O, h, w] of a transposed one."""
    if not kind.startswith(b"Conv"):
        return 0
    x, weights, *_ = ([int(axis) for axis in one.split(b",")] for one in _AXES.findall(given))
    if kind.startswith(b"ConvTranspose"):
        return math.prod(x) * math.prod(weights[1:])
    return math.prod(int(axis) for axis in _AXES.findall(result)[0].split(b",")) * math.prod(weights[1:])


def _plain(text: bytes) -> str:
    return text.decode("ascii", "replace")[:300]
