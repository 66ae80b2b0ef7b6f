"""Which voices a server has: found in artifacts, folders and repositories, and judged before anything of them is used.

A caller's word for a voice is only ever looked up here. It never becomes a path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gsvexport.artifact import container
from gsvexport.artifact.manifest import REPORT, Manifest
from gsvexport.artifact.trust import names, prove
from gsvexport.errors import ArtifactError
from gsvexport.files import sha256_bytes
from gsvexport.model import LARGEST, Model
from gsvexport.serve.settings import Settings
from gsvexport.target.machine import mismatch
from gsvexport.text.phonemise import languages
from gsvexport.untrusted.reading import parse_json
from gsvexport.verify.report import Report

_ONLY_V2 = ("ko", "yue")  # languages whose phones only the table of v2 and later has


@dataclass(frozen=True)
class Verified:
    """What the artifact's own report says: "passed", "failed" or "none" where nothing was compared; and its counts."""

    state: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Offer:
    """A voice that may be served. `text` are the manifest's bytes: nothing else than what they name is ever opened."""

    id: str
    path: Path
    text: bytes
    manifest: Manifest
    model: Model
    verified: Verified
    signed: str  # in words
    trusted: bool

    @cached_property
    def key(self) -> str:
        """What tells this artifact from every other one, also from another version of the same voice."""
        return sha256_bytes(self.text)

    @property
    def size(self) -> int:
        """Bytes of all members, as they are used."""
        return sum(member.size for member in self.manifest.files.values())

    @property
    def readable(self) -> tuple[str, ...]:
        """Languages that the voice has phones for; some of them need their extra installed."""
        old = self.model.symbols == "v1"
        return tuple(one for one in languages() if not (old and one in _ONLY_V2))

    def to_json(self) -> dict[str, Any]:
        """What `/voices` tells of it."""
        return {
            "id": self.id,
            "name": self.manifest.name,
            "target": self.manifest.target["name"],
            "version": self.model.version,
            "language": self.model.language,
            "languages": list(self.readable),
            "sample_rate": self.model.rate,
            "bytes": self.size,
            "digest": self.manifest.digest,
            "verified": self.verified.state,
            "checks": dict(self.verified.counts),
            "signed": self.signed,
            "trusted": self.trusted,
        }


@dataclass(frozen=True)
class Catalogue:
    """The offers by what callers call them, and what was passed over, with the reason."""

    offers: Mapping[str, Offer]
    refused: Mapping[str, str]
    aliases: Mapping[str, str]

    def find(self, name: str) -> Offer | None:
        """The voice of that id, or of that alias."""
        return self.offers.get(self.aliases.get(name, name))


def judged(path: Path, settings: Settings) -> Offer:
    """An artifact that may be served.

    Raises:
        ArtifactError: damaged, wrongly signed, made for another machine, or not signed by a trusted key, or without a
            report that passed, where the settings do not allow that.
    """
    proven = prove(path)
    trusted = proven.trusted
    if trusted is None and not settings.allow_unsigned:
        raise ArtifactError(
            f"{path} is not signed by a trusted key",
            found=proven.unchecked or names(proven.keys),
            fix="gsvexport sign it, gsvexport key trust its maker, or --allow-unsigned",
        )
    verified = _verified(path, proven.manifest)
    if verified.state != "passed" and not settings.allow_unverified:
        raise ArtifactError(
            f"{path} has not passed its verification",
            found={"failed": "its report names checks that failed", "none": "nothing was compared"}[verified.state],
            fix="build it again, or --allow-unverified",
        )
    if not settings.any_machine and (other := mismatch(proven.manifest.target, None)):
        what = f"{path} was made for another machine"
        raise ArtifactError(what, found=f"this one is {other}", fix="build it for this machine, or --any-machine")
    member = f"{path}: model.json"
    model = Model.from_json(parse_json(container.read_member(path, "model.json"), limit=LARGEST), member)
    signed = proven.unchecked or names(proven.keys)
    return Offer("", path, proven.text, proven.manifest, model, verified, signed, trusted is not None)


def _verified(path: Path, manifest: Manifest) -> Verified:
    if manifest.report is None:
        return Verified("none", {})
    where = f"{path}: {REPORT}"
    try:
        report = Report.from_json(parse_json(container.read_member(path, REPORT)), where)
    except ValueError as error:
        raise ArtifactError(f"{where} {error}", fix="build it again") from error
    counts = Counter(str(check.status) for check in report.checks)
    return Verified("failed" if report.failures else "passed" if report.passed else "none", counts)
