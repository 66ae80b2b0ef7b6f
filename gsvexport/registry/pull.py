"""Pulling: manifest and signature first, then only the stored members that are not here yet, then the artifact.

Members are kept by SHA-256 in the user's cache, so voices that share some are cheap, and what was interrupted goes on:

    CACHE/members/ab/abcd…         complete and checked
    CACHE/members/ab/abcd….part    the beginning of one; whoever holds the lock of the folder may add to it
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gsvexport.artifact import container
from gsvexport.artifact.held import alone, hold, release
from gsvexport.artifact.keys import TrustedKey, trusted_file
from gsvexport.artifact.manifest import LARGEST_MANIFEST, LARGEST_SIGNATURE, Manifest, Member
from gsvexport.artifact.signature import MOST, Claim, PublicKey, Signature, from_bytes, refusal, right, to_bytes
from gsvexport.backends.carried import unproven
from gsvexport.errors import ArtifactError, EnvironmentProblem, InputError
from gsvexport.files import cache_directory, disk_errors, sha256_bytes, sha256_file
from gsvexport.progress import Progress, Step, note
from gsvexport.registry import history
from gsvexport.registry.index import Entry, Listed, blob_path, manifest_path, signature_path
from gsvexport.registry.pace import CHUNK, Interrupted, Pace, pieces
from gsvexport.registry.places import Place
from gsvexport.system import disk
from gsvexport.system.locks import FOREVER, acquire

MOST_FAILURES = 5  # transfers in a row that brought nothing new
_CONNECTIONS, _BYTES_EACH = 30, 1 << 16  # so many for a member, and one more for each so many bytes of it
_CHUNK = CHUNK
_TOLD, _OFTEN = 2.0, 0.2  # seconds between lines of progress, and between bytes that are counted


@dataclass(frozen=True)
class Pulled:
    """A pulled artifact: who signed it (all keys; `trusted` is the one that counted), and how it came about in bytes:
    `received` now, `reused` from the cache. `word` says in words who vouches for its version."""

    path: Path
    manifest: Manifest
    keys: tuple[PublicKey, ...]
    trusted: TrustedKey | None
    received: int
    reused: int
    word: str = ""


def pull(
    place: Place,
    item: Listed,
    path: Path,
    trusted: tuple[TrustedKey, ...],
    *,
    allow_unsigned: bool = False,
    allow_older: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Bring one published artifact to `path`, byte for byte as it was published, with every signature of it.

    A file at `path` that is the same already is left as it is. With `allow_unsigned` one that no trusted key signed is
    taken, too; one whose signatures are all wrong never is. With `allow_older` an older version than one that was
    pulled before is.

    Raises:
        InputError: something else is at `path`, and `force` is false.
        ArtifactError: not signed by a trusted key; signed as another version; older; with other code in it than this
            package's; or what the repository holds is not what it says.
        EnvironmentProblem: the disk is full, or the repository cannot be read; what came so far is kept for the next
            time.
    """
    say = progress or (lambda _: None)
    entry = item.entry
    where = f"{place.name}: {entry.title}"
    data, manifest = _manifest(place, item, where)
    if reason := unproven(manifest, where):
        say(note(f"warning: {reason}"))
    signatures = _signatures(place, item, data, where, trusted)
    signature = to_bytes(signatures) if signatures else None
    keys = tuple(one.key for one in signatures)
    known = next((one for one in trusted if one.key in keys), None)
    if known is None and not allow_unsigned:
        raise refusal(where, keys, trusted_file())
    claim = next((one.claim for one in signatures if known and one.key == known.key), None)
    word = claimed(claim, entry, where, known)
    remembered = history.Line(place.name, entry.name, entry.target, known.key.id if known and claim else "")
    history.refuse_older(remembered, entry.version, where, allowed=allow_older)
    received = len(data) + len(signature or b"")
    same = _same(path, data, signature)
    if same or (path.exists() and not force):
        if not same:
            raise InputError(f"{path} exists already", fix="choose another output with -o, or replace it with --force")
        say(note(f"{path} is {entry.title} already"))
        history.remember(remembered, entry.version)
        return Pulled(path, manifest, keys, known, received, 0, word)
    members = {member.payload_sha256: member for member in manifest.files.values()}
    phase, total = f"pulling {entry.title}", sum(member.payload_size for member in members.values())
    reused = before = 0
    with _held():
        for number, member in enumerate(members.values(), 1):
            told = _Told(say, f"member {number} of {len(members)}", phase, before, total)
            got = _obtain(place, member, told)
            before += member.payload_size
            received += got
            reused += member.payload_size - min(got, member.payload_size)
        files = {name: _kept(member.payload_sha256) for name, member in manifest.files.items()}
        try:
            container.assemble(manifest, files.__getitem__, path, signature=signature, force=force)
        except FileNotFoundError as error:
            what = f"{error.filename} was removed from the cache meanwhile"
            raise EnvironmentProblem(what, fix="try again") from error
    history.remember(remembered, entry.version)
    return Pulled(path, manifest, keys, known, received, reused, word)


def prune_members(older_than_days: float) -> int:
    """Remove the members that no pull has used for that long; returns the bytes freed. None go while a pull runs, and
    of a link only itself."""
    freed = 0
    root = _members()
    with disk_errors(root), alone(root) as unused:
        for folder in root.glob("*") if unused else ():
            inside = () if folder.is_symlink() or not folder.is_dir() else folder.glob("*")  # not through a link
            for path in inside or (folder,):
                with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError, EnvironmentProblem):
                    found = path.lstat()
                    if max(time.time() - found.st_mtime, 0) >= older_than_days * 86400 and not path.is_dir():
                        disk.remove(path)
                        freed += found.st_size
    return freed


@contextlib.contextmanager
def _held() -> Iterator[None]:
    """Keep the members from being pruned."""
    root = _members()
    with contextlib.suppress(OSError):  # told of when a member is written
        root.mkdir(parents=True, exist_ok=True)
    held = hold(root)
    try:
        yield
    finally:
        if held:
            release(root)


def _manifest(place: Place, item: Listed, where: str) -> tuple[bytes, Manifest]:
    """The manifest, once it is known to be that of the entry."""
    entry = item.entry
    try:
        data = place.read(manifest_path(entry.manifest), LARGEST_MANIFEST)
    except FileNotFoundError:
        raise ArtifactError(f"{where}: its manifest is gone", fix="ask who runs the repository") from None
    if sha256_bytes(data) != entry.manifest:
        raise ArtifactError(f"{where}: its manifest is damaged (SHA-256 differs)", fix="ask who runs the repository")
    manifest = Manifest.from_bytes(data, where)
    if (manifest.name, manifest.target["name"]) != (entry.name, entry.target):
        raise ArtifactError(
            f"{where} is something else", found=f"{manifest.name} for {manifest.target['name']}", limit=entry.title
        )
    return data, manifest


def claimed(claim: Claim | None, entry: Entry, where: str, known: TrustedKey | None) -> str:
    """Who vouches for an entry's name and version, in words.

    Raises:
        ArtifactError: it was signed as something else.
    """
    if claim is None or known is None:
        return f"that it is version {entry.version} is the repository's word; nobody signed that"
    if (claim.name, claim.version) != (entry.name, entry.version):
        raise ArtifactError(
            f"{where} is signed as something else",
            found=f"{claim.name} {claim.version}, signed by {known.name} at {claim.time}",
            limit=entry.title,
            fix="ask who runs the repository",
        )
    return f"version {claim.version}, signed by {known.name} at {claim.time}"


def _signatures(
    place: Place, item: Listed, manifest: bytes, where: str, trusted: tuple[TrustedKey, ...]
) -> list[Signature]:
    """All signatures that are right. Others are passed over, as long as one is: anybody may have put them there.

    Raises:
        ArtifactError: there are some, and none is right.
    """
    ours = [one.key.id for one in trusted]
    asked = sorted(item.signed, key=lambda key: (key not in ours, key))[: 2 * MOST]
    found: list[Signature] = []
    wrong: list[str] = []
    for key in asked:
        try:
            read = from_bytes(place.read(signature_path(item.entry.manifest, key), LARGEST_SIGNATURE), where)
        except FileNotFoundError:
            continue
        except ArtifactError as error:
            wrong.append(f"key {key}: {error.what}")
            continue
        wrong += [f"key {one.key.id} did not sign this manifest" for one in read if not right(one, manifest)]
        found += [one for one in read if right(one, manifest) and one.key not in [other.key for other in found]]
    if wrong and not found:
        raise ArtifactError(f"{where} is wrongly signed", problems=wrong[:MOST], fix="ask who runs the repository")
    return found[:MOST]


def _same(path: Path, manifest: bytes, signature: bytes | None) -> bool:
    """Whether a file is that artifact, byte for byte."""
    try:
        return (
            path.is_file()
            and container.manifest_bytes(path) == manifest
            and container.signature(path) == signature
            and not container.damage(path)
        )
    except ArtifactError:
        return False


def _kept(digest: str) -> Path:
    return _members() / digest[:2] / digest


def _members() -> Path:
    return cache_directory("members")


def _obtain(place: Place, member: Member, told: _Told) -> int:
    """Have a member's stored bytes in the cache, checked; returns the bytes that came over."""
    path = _kept(member.payload_sha256)
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:  # a file in the way, or such as /proc
            raise EnvironmentProblem(f"{path.parent} cannot be made: {error}", fix="set GSVEXPORT_CACHE") from error
        with _alone(path.parent, told):
            if _whole(path, member):
                return 0
            with _part(path.with_name(f"{path.name}.part")) as part:
                received = _fetch(place, member, part, told)
            disk.replace(Path(part.name), path)
            return received


def _part(path: Path) -> IO[bytes]:
    """The beginning of a member, to go on with; a link in its place is not followed, and goes."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        disk.remove(path)
    return open(path, "a+b", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666))


def _whole(path: Path, member: Member) -> bool:
    """Whether the cache has it. Every byte is checked: disks of small devices lose some."""
    if not path.is_file():
        return False
    if path.stat().st_size == member.payload_size and sha256_file(path) == member.payload_sha256:
        with contextlib.suppress(OSError):
            os.utime(path)  # pruning goes by the last use
        return True
    disk.remove(path)
    return False


def _fetch(place: Place, member: Member, part: IO[bytes], told: _Told) -> int:
    """Complete `part`; what it begins with is kept if the whole then has the right SHA-256. Returns what came over."""
    name = blob_path(member.payload_sha256)
    received = 0
    for attempt in ("with what was there", "from the start"):
        resumed = part.seek(0, os.SEEK_END) > 0
        received += _complete(place, name, member.payload_size, part, told)
        part.flush()
        os.fsync(part.fileno())
        if sha256_file(Path(part.name)) == member.payload_sha256:
            return received
        part.truncate(0)
        if not resumed or attempt == "from the start":
            break
    raise ArtifactError(
        f"{place.name}/{name} is damaged: its SHA-256 is another one, so nothing of it is used",
        fix="ask who runs the repository to publish that artifact again",
    )


def _complete(place: Place, name: str, size: int, part: IO[bytes], told: _Told) -> int:
    """Read on until `part` has `size` bytes, over interruptions; returns what came over.

    Progress is what goes beyond the furthest byte: a server that begins anew each time, because it knows no ranges, is
    read up to there for nothing.
    """
    received = failures = 0
    pace, connections = Pace(size, f"{place.name}/{name}"), _CONNECTIONS + size // _BYTES_EACH
    while True:
        have = part.seek(0, os.SEEK_END)
        if have > size:
            have = part.truncate(0) or part.seek(0)
        if have == size:
            return received
        at, reason = have, "the transfer ended early"
        try:
            with place.stream(name, have) as (stream, start):
                skip = have - start
                for piece in pieces(stream, size - start, pace, _CHUNK):
                    received += len(piece)
                    part.write(piece[skip:] if skip > 0 else piece)
                    at += max(len(piece) - max(skip, 0), 0)
                    skip -= len(piece)
                    told(at, size)
        except FileNotFoundError:
            raise ArtifactError(f"{place.name}/{name} is gone", fix="ask who runs the repository") from None
        except Interrupted as error:
            reason = str(error)
        if at == size:
            return received
        connections -= 1
        failures = 0 if at > have else failures + 1
        if failures == MOST_FAILURES or not connections:
            raise EnvironmentProblem(
                f"{place.name}/{name} cannot be read: {reason}",
                found=f"{part.tell()} of {size} bytes, kept for the next time",
                fix="try again: what is here is not transferred once more",
            )
        pace.pause(0.1 * 3**failures if failures else 0.05)


@contextlib.contextmanager
def _alone(folder: Path, told: _Told) -> Iterator[None]:
    """Hold a folder of members, so that two processes do not transfer the same; the system lets go when one dies."""
    path = cache_directory("locks") / f"members-{folder.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (lock := acquire(path)):
        told.line("waiting for another gsvexport that pulls the same")
        lock = acquire(path, FOREVER)
        assert lock is not None
    try:
        yield
    finally:
        lock.release()


class _Told:
    """Progress of one member, in words not more often than is worth reading; `before` bytes of `total` came earlier."""

    def __init__(self, say: Progress, what: str, phase: str, before: int, total: int) -> None:
        self.line, self._what, self._phase, self._before, self._total = say, what, phase, before, total
        self._next, self._tick = time.monotonic() + _TOLD, time.monotonic()

    def __call__(self, have: int, size: int) -> None:
        now = time.monotonic()
        if now < min(self._next, self._tick):
            return
        words = f"{self._what}: {have / 1e6:.1f} of {size / 1e6:.1f} MB" if now >= self._next else ""
        self.line(Step(words, self._phase, self._before + have, self._total, unit="B"))
        self._tick = now + _OFTEN
        self._next = now + _TOLD if words else self._next
