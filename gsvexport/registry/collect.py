"""Garbage: blobs, manifests and signatures that no entry needs any more, and what killed publishers left.

A collector and a publisher cannot miss each other. The publisher first writes what it needs to `publishing/`, then
looks for `gc.json`, and only then at which blobs are there; the collector first writes `gc.json`, then reads
`publishing/`, and the entries after that. So the collector sees what the publisher needs, or the publisher waits.

What stands in `publishing/` counts as a running publisher's until the grace is over. Ages are differences of the
place's own times, so a wrong clock here does not matter; where the place's clock ran backwards, more is kept.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from gsvexport.artifact.manifest import LARGEST_MANIFEST, Manifest
from gsvexport.errors import ArtifactError, EnvironmentProblem
from gsvexport.files import TEMPORARY_PREFIX, sha256_bytes
from gsvexport.progress import Progress, note
from gsvexport.registry.index import (
    BLOBS,
    LARGEST_ENTRY,
    MANIFESTS,
    PUBLISHING,
    SIGNATURES,
    Listed,
    manifest_path,
    published,
    refresh,
)
from gsvexport.registry.places import Place
from gsvexport.registry.publish import COLLECTING
from gsvexport.untrusted import schema
from gsvexport.untrusted.reading import Refused, parse_json

GRACE_DAYS = 1.0
_DAY = 86400
_DIGEST = re.compile("[0-9a-f]{64}")
_INTENT = schema.record({"blobs": schema.rows(schema.text(64), 10_000)})
_LARGEST_INTENT = 1 << 20  # bytes


@dataclass(frozen=True)
class Collected:
    """How many versions were taken out, how many files were removed, and their bytes."""

    versions: int
    files: int
    size: int


def collect(
    place: Place,
    *,
    keep: int | None = None,
    grace_days: float = GRACE_DAYS,
    take_over: bool = False,
    remove_bad: bool = False,
    progress: Progress | None = None,
) -> Collected:
    """Remove garbage; with `keep` all but that many of the latest versions of each voice and target become some.

    `take_over` ignores that another collection is running, for one that was killed. Entries that cannot be read are
    named; `remove_bad` takes them out. Until then what they seem to need stays.

    Raises:
        EnvironmentProblem: another collection is running; or the place fails.
        ArtifactError: a manifest that an entry names is damaged or gone; then nothing is removed.
    """
    say = progress or (lambda _: None)
    with _marked(place, take_over=take_over) as now:
        limit = now - grace_days * _DAY
        needed = _being_published(place, limit)
        bad: dict[str, ArtifactError] = {}
        listed = published(place, bad=bad)
        for path, error in bad.items():
            doing = "taking out" if remove_bad else "cannot read, and leaving"
            say(note(f"{doing} {path}: {' '.join(str(error).split())}"))
            if remove_bad:
                place.remove(path)
            else:
                needed |= _seems_to_need(place, path)
        old = _old(listed, keep)
        kept = {item.entry.manifest for item in listed if item not in old}
        for manifest in sorted(kept):
            needed |= {manifest, *_blobs(place, manifest)}
        for item in old:
            say(note(f"taking out {item.entry.title}"))
            place.remove(item.entry.path)
        if old or (bad and remove_bad):
            refresh(place)
        files = size = 0
        for path in _garbage(place, needed, limit):
            size += place.size(path) or 0
            place.remove(path)
            files += 1
        return Collected(len(old) + (len(bad) if remove_bad else 0), files, size)


@contextlib.contextmanager
def _marked(place: Place, *, take_over: bool) -> Iterator[float]:
    """Hold `gc.json`; yields the place's time now."""
    token = secrets.token_hex(16).encode()
    if not place.create(COLLECTING, token):
        if not take_over:
            raise EnvironmentProblem(
                f"another garbage collection is running in {place.name}, or was killed",
                fix=f"wait; if none is running: gsvexport gc {place.name} --take-over",
            )
        place.put(COLLECTING, token)
    try:
        now = place.changed(COLLECTING)
        if now is None:
            raise EnvironmentProblem(f"{place.name}: {COLLECTING} was removed by somebody else", fix="try again")
        yield now
    finally:
        with contextlib.suppress(FileNotFoundError):
            if place.read(COLLECTING, 1000) == token:
                place.remove(COLLECTING)


def _being_published(place: Place, limit: float) -> set[str]:
    """The manifests and blobs that running publishers need; what is older than `limit` goes."""
    needed: set[str] = set()
    for path in place.names(PUBLISHING) or ():
        changed = place.changed(path)
        if changed is None or TEMPORARY_PREFIX in path:
            continue  # done meanwhile; or not yet complete, and then its publisher will see gc.json
        if changed < limit:
            place.remove(path)
            continue
        try:
            value = parse_json(place.read(path, _LARGEST_INTENT))
            if problems := schema.findings(value, _INTENT):
                raise Refused(problems[0])
        except FileNotFoundError:
            continue
        except ValueError as error:
            raise ArtifactError(
                f"{place.name}/{path} cannot be read: {error}", fix="remove it, if nobody publishes"
            ) from error
        needed |= {*value["blobs"], path.rpartition("/")[2].removesuffix(".json")}
    return needed


def _seems_to_need(place: Place, path: str) -> set[str]:
    """What an entry that cannot be read names all the same: a later release may have written it."""
    try:
        value = parse_json(place.read(path, LARGEST_ENTRY))
        manifest = value["manifest"]
        return {manifest, *_blobs(place, manifest)} if _DIGEST.fullmatch(manifest) else set()
    except (FileNotFoundError, ArtifactError, ValueError, KeyError, TypeError):
        return set()


def _old(listed: list[Listed], keep: int | None) -> list[Listed]:
    """All but the `keep` latest of each voice and target; `listed` is sorted."""
    if keep is None:
        return []
    groups: dict[tuple[str, str], list[Listed]] = {}
    for item in listed:
        groups.setdefault((item.entry.name, item.entry.target), []).append(item)
    return [item for group in groups.values() for item in group[: max(len(group) - keep, 0)]]


def _blobs(place: Place, digest: str) -> set[str]:
    """The stored bytes that a manifest needs."""
    where = f"{place.name}/{manifest_path(digest)}"
    try:
        data = place.read(manifest_path(digest), LARGEST_MANIFEST)
    except FileNotFoundError:
        raise ArtifactError(f"{where} is gone, and an entry names it", fix="publish that artifact again") from None
    if sha256_bytes(data) != digest:
        raise ArtifactError(f"{where} is damaged", fix="remove it, and publish that artifact again")
    return {member.payload_sha256 for member in Manifest.from_bytes(data, where).files.values()}


def _garbage(place: Place, needed: set[str], limit: float) -> Iterator[str]:
    for folder in (SIGNATURES, MANIFESTS, BLOBS):
        for path in place.names(folder) or ():
            parts = path.split("/")
            if parts[-1].startswith(TEMPORARY_PREFIX):  # a folder's; of a publisher that may be writing it
                changed = place.changed(path)
                if changed is not None and changed < limit:
                    yield path
            elif not needed & {parts[-1].removesuffix(".json"), parts[-2]}:
                yield path
