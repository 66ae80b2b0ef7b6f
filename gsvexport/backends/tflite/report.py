"""The placement report: a member of the artifact (`placement.json`), and a page of text for people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gsvexport.backends.tflite.placement import AFTER, MAPPED, REFUSED, Finding, Placement, Row
from gsvexport.backends.tflite.table import table
from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json
from gsvexport.untrusted import reading, schema

SCHEMA = 1
MEMBER = "placement.json"
NOT_RUN, DONE, FAILED = "not_run", "done", "failed"
_SHOWN = 8  # refused operators that a page lists
LARGEST = 4 << 20  # bytes of a member that are read
_WIDTH = 116
_AGAIN = "build the artifact again"
_TEXT = schema.text(2000)
_FILE = r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.tflite"  # beside it: what it names is opened
_PART, _MADE = schema.text(200, re.compile(_FILE)), schema.text(200, re.compile(f"|{_FILE}"))
_HASH = schema.text(64)
_COUNT = schema.whole(0, (1 << 62) - 1)  # multiply-adds, or bytes
_FINDING = schema.record(dict.fromkeys(("rule", "text", "source", "confidence"), _TEXT))
_ROW = schema.record(
    {
        "kind": _TEXT,
        "name": _TEXT,
        "verdict": schema.one_of(MAPPED, REFUSED, AFTER),
        "macs": _COUNT,
        "findings": schema.rows(_FINDING, 100),
    }
)
_SHAPE = schema.record(
    {
        "schema": schema.one_of(SCHEMA),
        "stage": _TEXT,
        "placement": schema.record(
            {
                "file": _PART,
                "rows": schema.rows(_ROW, 10_000),
                "largest": schema.row(_TEXT, _COUNT),
                "estimate_ms": schema.number(0),
                **dict.fromkeys(("runtime", "since"), schema.whole(0, 1 << 20)),
                **dict.fromkeys(("parameter_bytes", "cache_bytes", "streamed_bytes", "moved_bytes"), _COUNT),
            }
        ),
        "rest": schema.rows(schema.record({"file": _PART, "macs": _COUNT, "bytes": _COUNT}), 64),
        "seconds": schema.number(0, 1e6),
        "link": _TEXT,
        "compile": schema.record(
            {
                "status": schema.one_of(NOT_RUN, DONE, FAILED),
                "carried": schema.flag,
                "mapped": _COUNT,
                "disagreements": schema.rows(_TEXT, 10_000),
                "file": _MADE,
                **dict.fromkeys(("model", "compiled"), _HASH),
                **dict.fromkeys(("reason", "version"), _TEXT),
            }
        ),
    }
)


@dataclass(frozen=True)
class Compile:
    """What edgetpu_compiler did with the file: "not_run", "done" or "failed", and `reason`, or how it came out.

    `file` is the member that it wrote, `model` and `compiled` SHA-256 of what it read and wrote, `mapped` how many
    operators it mapped, `disagreements` where its log and the prediction differ. With `carried` the file came from
    elsewhere, without a log.
    """

    status: str
    reason: str
    file: str = ""
    model: str = ""
    compiled: str = ""
    version: str = ""
    disagreements: tuple[str, ...] = ()
    carried: bool = False
    mapped: int = 0


@dataclass(frozen=True)
class Share:
    """What of a stage computes where: `macs` and `bytes` of constants of the part on the processor, by file."""

    file: str
    macs: int
    bytes: int


@dataclass(frozen=True)
class Report:
    """A stage's placement.

    `rest` are the parts that are not for the TPU at all, `seconds` the speech that one run gives, `link` how the TPU is
    attached.
    """

    stage: str
    placement: Placement
    rest: tuple[Share, ...]
    seconds: float
    link: str
    compile: Compile

    @property
    def mapped_share(self) -> float:
        """Share of the whole stage's multiply-adds that run on the TPU: what the compiler mapped, none if it failed,
        and the prediction where it did not run."""
        total, mapped = self.placement.macs + sum(one.macs for one in self.rest), self.placement.mapped
        if self.compile.status != NOT_RUN:
            mapped = self.compile.mapped
        return sum(row.macs for row in self.placement.rows[:mapped]) / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema": SCHEMA, **asdict(self)}

    def text(self) -> str:
        """The member's content."""
        return canonical_json(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Report:
        """Rebuild from the member's bytes; `where` names it in errors.

        Raises:
            ArtifactError: not JSON of this schema.
        """
        try:
            value = reading.parse_json(data, limit=LARGEST)
        except reading.Refused as error:
            raise ArtifactError(f"{where} {error}", fix=_AGAIN) from error
        if isinstance(value, dict) and value.get("schema") != SCHEMA:
            raise ArtifactError(f"{where} has an unknown schema", found=str(value.get("schema"))[:40], limit=SCHEMA)
        if problems := schema.findings(value, _SHAPE):
            raise ArtifactError(f"{where} cannot be read", problems=problems, fix=_AGAIN)
        report = _report(value)
        if report.compile.mapped > len(report.placement.rows):
            problem = f"{report.compile.mapped} of {len(report.placement.rows)} operators are mapped"
            raise ArtifactError(f"{where} cannot be read", problems=[problem], fix=_AGAIN)
        return report


def _report(value: Mapping[str, Any]) -> Report:
    placed, told = value["placement"], value["compile"]
    rows = tuple(Row(**{**row, "findings": tuple(Finding(**one) for one in row["findings"])}) for row in placed["rows"])
    return Report(
        stage=value["stage"],
        placement=Placement(**{**placed, "rows": rows, "largest": tuple(placed["largest"])}),
        rest=tuple(Share(**one) for one in value["rest"]),
        seconds=float(value["seconds"]),
        link=value["link"],
        compile=Compile(**{**told, "disagreements": tuple(told["disagreements"])}),
    )


def page(report: Report) -> str:
    """The report as text: the split, what it costs, every kind of operator with its source, and what was refused."""
    one = report.placement
    lines = [*_split(report), *_cost(report)]
    lines += _wrapped(f"edge tpu compile: {report.compile.status}: {report.compile.reason}", 2)
    lines += [f"    disagrees: {text}" for text in report.compile.disagreements[:_SHOWN]]
    lines += ["  operators, predicted by rules that no compiler has confirmed:", *_kinds(one.rows)]
    refused = [row for row in one.rows if row.verdict == REFUSED or (row.verdict == AFTER and len(row.findings) > 1)]
    for row in refused[:_SHOWN]:
        for finding in row.findings:
            if finding.rule != "single_partition":
                why = f"{finding.rule}: {finding.text} ({finding.source}; {finding.confidence})"
                lines += _wrapped(f"{row.kind} '{row.name}': {why}", 4)
    if len(refused) > _SHOWN:
        lines.append(f"    and {len(refused) - _SHOWN} more operators that break a rule")
    return "\n".join([*lines, *_sources(one.rows)]) + "\n"


def _sources(rows: Sequence[Row]) -> list[str]:
    """What the short names of the sources that were used stand for."""
    known = table()
    texts = [known.operators[row.kind].source for row in rows if row.kind in known.operators]
    texts += [finding.source for row in rows for finding in row.findings]
    names = sorted({name.strip() for text in texts for name in text.split(",")} & known.sources.keys())
    lines = [line for name in names for line in _wrapped(f"{name}: {known.sources[name]}", 4)]
    return ["  sources:", *lines] if lines else []


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def _split(report: Report) -> list[str]:
    one = report.placement
    total = one.macs + sum(part.macs for part in report.rest)
    cut = "all of it"
    if one.cut is not None:
        row = one.rows[one.cut]
        cut = f"up to operator {one.cut}, {row.kind} '{row.name}'"
    share = f"{report.mapped_share:.1%} of {total / 1e6:.1f} million multiply-adds a window"
    own = f"{one.mapped} of {len(one.rows)} operators, {_percent(one.mapped_macs, one.macs)} of its multiply-adds"
    word = "are predicted to" if report.compile.status == NOT_RUN else "were compiled to"
    lines = [f"{report.stage}: {share} {word} run on the Edge TPU", f"  {one.file}: {own}; {cut}"]
    for part in report.rest:
        text = f"{_percent(part.macs, total)} of the stage's multiply-adds, {part.bytes / 1e6:.2f} MB"
        lines.append(f"  {part.file}: on the processor, {text}")
    return lines


def _cost(report: Report) -> list[str]:
    one = report.placement
    spoken = f" for {report.seconds:.3g} s of speech" if report.seconds else ""
    parameters, cache, streamed = (
        f"{size / 2**20:.2f} MiB" for size in (one.parameter_bytes, one.cache_bytes, one.streamed_bytes)
    )
    largest = f"the largest has {one.largest[1] / 1e3:.1f} kB"
    return [
        f"  parameters {parameters}, cache {cache} less the program: {streamed} come over {report.link} in every run",
        f"  activations {one.moved_bytes / 1e3:.1f} kB over {report.link} in every run; {largest}",
        f"  runtime {one.since} or newer; the target has {one.runtime}",
        f"  ESTIMATE: at least {one.estimate_ms:.2f} ms a window on the TPU{spoken}",
        "    = 2 * multiply-adds / peak + bytes over the link / its speed; the processor's part is not in it",
    ]


def _kinds(rows: Sequence[Row]) -> list[str]:
    known, lines = table().operators, []
    for kind in dict.fromkeys(row.kind for row in rows):
        mine = [row for row in rows if row.kind == kind]
        mapped = sum(row.verdict == MAPPED for row in mine)
        entry = known.get(kind)
        told = f"{entry.confidence}: {entry.source}" if entry else "not in the table"
        note = f"; {entry.note}" if entry and entry.note else ""
        lines += textwrap.wrap(
            f"{kind:<20} {mapped:>4} of {len(mine):<4} {told}{note}",
            _WIDTH, initial_indent="    ", subsequent_indent=" " * 38, drop_whitespace=True,
        )  # fmt: skip
    return lines


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "none"
