"""The manifest: what an artifact is, and the size and SHA-256 of every file in it.

`digest`, SHA-256 of the manifest's canonical JSON without its `report` and without how members are compressed, names
what the artifact does: it covers the voice, the target, the tools and the content of every member except the
verification report, whose figures depend on the machine that measured them. The manifest itself lists these, too, so
SHA-256 of the whole manifest covers every byte.
"""

from __future__ import annotations

import functools
import re
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from gsvexport.errors import ArtifactError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.untrusted import schema
from gsvexport.untrusted.engines import ENGINES, contradictions
from gsvexport.untrusted.reading import parse_json, safe_name

SCHEMA = 2
MANIFEST = "manifest.json"
REPORT = "report.json"
SIGNATURE = "signature.json"  # may stand behind the members; it signs the manifest, so the manifest cannot list it
README = "README.txt"  # what `gsvexport unpack` adds for people
RESERVED = (MANIFEST, REPORT, SIGNATURE, README)
BROTLI = "br"
LARGEST_MANIFEST = 4 << 20  # bytes
LARGEST_TOTAL = 16 << 30  # bytes of all members together
MOST_MEMBERS = 4096
LARGEST_SIGNATURE = 16 << 10  # bytes
MOST_EXPANSION = 100  # times its stored bytes that an artifact may unpack to, beyond the first SLACK; real ones reach 5
SLACK = 256 << 20  # bytes

_TEXTS = schema.rows(schema.text(), 1000)
_POSITIVE = schema.number(1e-3, 1e9)
_DEVICE = {
    "arch": schema.text(),
    "core": schema.optional(schema.text()),
    "features": _TEXTS,
    "os": schema.text(),
    "memory_mb": schema.optional(schema.number()),
    "gpu": schema.optional(
        schema.record(
            {},
            {
                "compute_capability": schema.text(8),
                **dict.fromkeys(("memory_mb", "bandwidth_gbs"), schema.optional(_POSITIVE)),
            },
            more=True,
        )
    ),
    "tpu": schema.optional(
        schema.record(
            {}, {"link": schema.text(), **dict.fromkeys(("sram_mb", "tops_int8", "link_gbs"), _POSITIVE)}, more=True
        )
    ),
    "runtimes": schema.table(schema.text(), 100),
}
# What of a resolved target is looked at without its class, and what `_problems` does not look at itself.
_SHAPE = schema.record(
    {
        "target": schema.record(
            {"name": schema.text(200)},
            {
                "title": schema.text(),
                "device": schema.record({}, _DEVICE, more=True),
                "gates": schema.table(schema.number(), 1000),
                "limits": schema.record({"phones": schema.whole(1), "tokens": schema.whole(1)}, more=True),
                "placement": schema.table(schema.table(schema.text(), 10), 100),
                "portability": schema.text(),
                "emulator": schema.optional(schema.text()),
            },
            more=True,
        ),
        "baked_key": schema.optional(schema.text(64)),
        "weights": schema.rows(
            schema.record({"stages": _TEXTS, "kind": schema.text(40), "bytes": schema.whole(0, LARGEST_TOTAL)}), 10_000
        ),
    }
)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Member:
    """One file: its size in bytes and its SHA-256; where it is stored with an `encoding`, those of what is stored."""

    size: int
    sha256: str
    encoding: str | None = None
    stored_size: int | None = None
    stored_sha256: str | None = None

    @property
    def payload_size(self) -> int:
        """Bytes that it takes in the container."""
        return self.size if self.stored_size is None else self.stored_size

    @property
    def payload_sha256(self) -> str:
        """SHA-256 of the bytes in the container, by which artifacts share members."""
        return self.sha256 if self.stored_sha256 is None else self.stored_sha256

    @property
    def plain(self) -> Member:
        """The same content, not compressed."""
        return Member(self.size, self.sha256)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what says how it is compressed only where it is."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Group:
    """Layers whose precision was decided together.

    How many `layers`, their multiplications (`cost`) for each frame of the stage's input, and the share of the stage's
    gates for sound that they use up when they `alone` are quantised; 1 is at a gate.
    """

    name: str
    layers: int
    cost: int
    alone: float
    precision: str


@dataclass(frozen=True)
class Decisions:
    """What measurement decided about a stage: the share of its gates that was `allowed` and that was `reached`."""

    allowed: float
    reached: float
    groups: tuple[Group, ...]


# In a graph's metadata for a weight that is another weight in another shape: that one's name. It is stored once.
SAME_BYTES = "same bytes as"
# A property of a graph that multiplies by signed bytes of 8 bits: `gsvexport.passes.signed_bytes`.
SIGNED = "gsvexport.signed_bytes"


@dataclass(frozen=True)
class Weights:
    """`bytes` of weights that exactly these stages use, stored as `kind` ("fp32", "fp16", "int8", "int4", "int32")."""

    stages: tuple[str, ...]
    kind: str
    bytes: int


@dataclass(frozen=True)
class StageEntry:
    """How one stage was lowered: its file, the backend that runs it, its precision, what the lowering did in words, and
    what was measured to decide it (None where nothing had to be)."""

    file: str
    backend: str
    precision: str
    notes: tuple[str, ...] = ()
    decisions: Decisions | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `decisions` only where there are any."""
        value = asdict(self)
        if self.decisions is None:
            del value["decisions"]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> StageEntry:
        """Rebuild from `to_json`'s value, or raise `TypeError` or `KeyError`."""
        decided = value.get("decisions")
        if decided is not None:
            groups = tuple(Group(**one) for one in decided["groups"])
            value = {**value, "decisions": Decisions(**{**decided, "groups": groups})}
        return cls(**{**value, "notes": tuple(value["notes"])})


@dataclass(frozen=True)
class Manifest:
    """What a device gets. Nothing in it depends on the machine or the day of the build.

    `target` is the resolved profile, `source` the digest of the ONE ONNX source, `tools` the versions of what wrote the
    members, `stages` goes by stage name, `members` by file name. `weights` adds up to the bytes of all weights, each
    counted once. `compression` says in words what wrote the compressed members; None where none is.

    `engines` tells of members that a vendor's compiler made ahead of time, whose bytes no second build repeats: which
    `backend` they are of, which `version` of which `library` wrote them with which `flags`, for which compute
    `capabilities`, and of each of its `plans`, by member: its `graph` and `profiles`, SHA-256 of every member that it
    was `made_from`, which of its profiles (by number) `serves` each of the engine's own, and bytes of weights and
    scratch memory and the number of kernels, as its compiler told them. None where there are none.
    """

    name: str
    version: str
    target: dict[str, Any]
    source: str
    baked_key: str | None
    tools: dict[str, str]
    stages: dict[str, StageEntry]
    members: dict[str, Member]
    report: Member | None = None
    weights: tuple[Weights, ...] = ()
    compression: str | None = None
    engines: dict[str, Any] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the report and the compression: equal for equal voices, targets and tools, unless
        there are `engines`."""
        value = self.plain.to_json()
        del value["report"]
        return sha256_bytes(canonical_json(value).encode())

    @property
    def plain(self) -> Manifest:
        """The same artifact with nothing compressed."""
        members = {name: member.plain for name, member in self.members.items()}
        return replace(self, members=members, report=self.report and self.report.plain, compression=None)

    @property
    def repeatable(self) -> Manifest:
        """The same artifact without what no second build repeats: equal voices, targets and tools give it again."""
        kept = {name: one for name, one in self.members.items() if name not in self.unrepeatable}
        return replace(self, members=kept, engines=None)

    @property
    def unrepeatable(self) -> tuple[str, ...]:
        """The members whose bytes no second build repeats, sorted."""
        return tuple(sorted(self.engines["plans"])) if self.engines and not self.engines["reproducible"] else ()

    @property
    def files(self) -> dict[str, Member]:
        """Every file beside the manifest, the report included, by name."""
        return {**self.members, **({REPORT: self.report} if self.report else {})}

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`; data/manifest.schema.json describes them."""
        value = {"schema": SCHEMA, **asdict(self)}
        value["stages"] = {name: entry.to_json() for name, entry in sorted(self.stages.items())}
        value["members"] = {name: member.to_json() for name, member in self.members.items()}
        value["report"] = self.report and self.report.to_json()
        for name in ("compression", "engines"):
            if value[name] is None:
                del value[name]
        return value

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Rebuild from the bytes of `manifest.json`; `where` names the artifact in errors. The same bytes give the same
        object, as long as it is among the last ones: opening a voice reads its manifest three times.

        Raises:
            ArtifactError: not canonical JSON of this schema, or it lists names or sizes that no artifact may have.
        """
        return _parsed(bytes(data), where)

    def _problems(self) -> list[str]:
        texts = {"name": self.name, "version": self.version, "source": self.source}
        problems = [f"{key} is not a string" for key, value in texts.items() if not isinstance(value, str)]
        rows = [{"stages": list(one.stages), "kind": one.kind, "bytes": one.bytes} for one in self.weights]
        told = {"target": self.target, "baked_key": self.baked_key, "weights": rows}
        problems += schema.findings(told, _SHAPE)
        if self.engines is not None:
            problems += schema.findings(self.engines, ENGINES, "engines")
        if not isinstance(self.tools, dict) or not all(isinstance(item, str) for item in self.tools.values()):
            problems.append("tools are not versions by name")
        for name, entry in self.stages.items():
            if not all(isinstance(item, str) for item in (entry.file, entry.backend, entry.precision, *entry.notes)):
                problems.append(f"stage {name}: its file, backend, precision or notes are not strings")
            if entry.decisions is not None and not _sensible(entry.decisions):
                problems.append(f"stage {name}: its decisions are not names and numbers")
        for item in self.weights:
            known = all(isinstance(stage, str) and stage in self.stages for stage in item.stages)
            if not isinstance(item.kind, str) or not known or not _count(item.bytes):
                problems.append("weights are not bytes by kind and stages")
        if not isinstance(self.target, dict) or not isinstance(self.target.get("name"), str):
            problems.append("target has no name")
        taken = {name.casefold() for name in RESERVED}
        problems += [f"{name} cannot be among the members" for name in self.members if name.casefold() in taken]
        if len(self.members) > MOST_MEMBERS:
            problems.append(f"{len(self.members)} members; at most {MOST_MEMBERS} are allowed")
        problems += [f"{name!r} is not a name that a member may have" for name in self.members if not safe_name(name)]
        folded = [name.casefold() for name in self.files]
        problems += sorted({f"two members are called {name}" for name in folded if folded.count(name) > 1})
        inside = {parent.as_posix() for name in folded for parent in PurePosixPath(name).parents}
        problems += [f"{name} is a file and a folder" for name in sorted(inside.intersection(folded))]
        problems += [problem for name, item in self.files.items() if (problem := _impossible(name, item))]
        compressed = any(item.encoding for item in self.files.values())
        if not (isinstance(self.compression, str) if compressed else self.compression is None):
            problems.append("compression does not say what wrote the compressed members")
        if self.engines and not problems:
            problems += contradictions(self.engines, {name: item.sha256 for name, item in self.members.items()})
        problems += [] if problems else self._too_large()
        problems += [
            f"stage {name}: its file {entry.file!r} is not a member"
            for name, entry in self.stages.items()
            if not isinstance(entry.file, str) or entry.file not in self.members
        ]
        return problems

    def _too_large(self) -> list[str]:
        total = sum(item.size for item in self.files.values())
        stored = sum(item.payload_size for item in self.files.values())
        if total > LARGEST_TOTAL:
            return [f"its members have {total} bytes; at most {LARGEST_TOTAL} are allowed"]
        if total > MOST_EXPANSION * stored + SLACK:
            return [f"its members unpack from {stored} bytes to {total}; at most {MOST_EXPANSION} times is allowed"]
        return []


@functools.lru_cache(maxsize=32)
def _parsed(data: bytes, where: str) -> Manifest:
    try:
        value = parse_json(data, limit=LARGEST_MANIFEST)
    except ValueError as error:
        raise ArtifactError(f"{where}: the manifest {error}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else type(value).__name__
        raise ArtifactError(
            f"{where}: the manifest has an unknown schema",
            found=found,
            limit=f"schema {SCHEMA}",
            fix="build it again, or install the gsvexport that wrote it",
        )
    try:
        fields = {key: item for key, item in value.items() if key != "schema"}
        manifest = Manifest(
            **{
                **fields,
                "stages": {name: StageEntry.from_json(entry) for name, entry in fields["stages"].items()},
                "weights": tuple(Weights(**{**entry, "stages": tuple(entry["stages"])}) for entry in fields["weights"]),
                "members": {name: Member(**entry) for name, entry in fields["members"].items()},
                "report": Member(**fields["report"]) if fields["report"] is not None else None,
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{where}: the manifest lacks or adds something: {error}") from error
    if problems := manifest._problems():
        raise ArtifactError(f"{where}: the manifest cannot be right", problems=problems)
    try:
        canonical = canonical_json(manifest.to_json()).encode()
    except ValueError as error:  # NaN, or half of a character
        raise ArtifactError(f"{where}: the manifest is not JSON: {error}") from error
    if canonical != data:
        raise ArtifactError(f"{where}: the manifest is not in canonical form, so it was changed after the build")
    return manifest


def digits(value: float) -> float:
    """Three significant digits: a measurement, in a manifest whose bytes ought not to hang on a last bit."""
    return float(f"{value:.3g}")


def media(name: str) -> str:
    """What a member is for, from its name: "weights", "graph", "engine", "voice", "golden" or "text"."""
    suffix = PurePosixPath(name).suffix
    if name.startswith("golden/"):
        return "golden"
    if name.startswith("baked/"):
        return "voice"
    return {".onnx": "graph", ".safetensors": "weights", ".tflite": "weights", ".plan": "engine"}.get(suffix, "text")


def _count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_TOTAL


def _sensible(decisions: Decisions) -> bool:
    shares = [decisions.allowed, decisions.reached, *(group.alone for group in decisions.groups)]
    texts = [text for group in decisions.groups for text in (group.name, group.precision)]
    return (
        all(isinstance(share, (int, float)) and not isinstance(share, bool) for share in shares)
        and all(isinstance(text, str) for text in texts)
        and all(_count(group.layers) and _count(group.cost) for group in decisions.groups)
    )


def _impossible(name: str, item: Member) -> str | None:
    """What is wrong with a member's numbers, or None."""
    if not (_count(item.size) and _digest(item.sha256)):
        return f"{name}: impossible size or SHA-256"
    told = (item.encoding, item.stored_size, item.stored_sha256)
    if told == (None, None, None):
        return None
    if item.encoding != BROTLI:
        return f"{name}: unknown encoding {item.encoding!r}"
    if not (_count(item.stored_size) and _digest(item.stored_sha256)) or item.payload_size >= item.size:
        return f"{name}: impossible stored size or SHA-256"
    return None


def _digest(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None
