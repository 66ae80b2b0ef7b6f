"""Finding the voices of a server, at its start and again while it runs: files, folders, and what repositories have.

A look costs little where nothing changed: what was pulled and judged is remembered, as long as file and trusted keys
are the same. Whatever cannot be looked at for a moment takes nothing away.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.artifact.held import alone, hold, release
from gsvexport.artifact.keys import TrustedKey, trusted_keys
from gsvexport.errors import ArtifactError, EnvironmentProblem, GsvError, InputError
from gsvexport.files import cache_directory
from gsvexport.registry import index
from gsvexport.registry.places import FolderPlace, Place, open_place
from gsvexport.registry.pull import pull
from gsvexport.serve.catalogue import Catalogue, Offer, judged
from gsvexport.serve.settings import Settings
from gsvexport.system import disk
from gsvexport.target.detect import Candidate, probe, rank

MOST_VOICES = 10_000
_AGAIN = 300.0  # s after which what a repository holds and may not be served is tried again
_KEPT = 86_400.0  # s that what was pulled stays after its last use
_Stamp = tuple[object, ...]


class Gatherer:
    """Looks for voices as often as `look` is called; one thread at a time."""

    def __init__(self, settings: Settings, say: Callable[[str], None] = lambda _: None) -> None:
        self._settings, self._say = settings, say
        self._keys: tuple[TrustedKey, ...] = ()
        self._judged: dict[Path, tuple[_Stamp, Offer | GsvError]] = {}  # at this look
        self._known: dict[Path, tuple[_Stamp, Offer | GsvError]] = {}  # at the one before
        self._tried: dict[str, tuple[_Stamp, float, GsvError]] = {}  # what was refused of a repository, when and why
        self._last: dict[str, list[Offer]] = {}  # by the word that named them
        self._repositories: set[str] = set()
        self._held: set[Path] = set()  # folders of what was pulled

    def look(self) -> Catalogue:
        """Find and judge every voice that the settings name. What a repository has for this machine is pulled first.

        Raises:
            InputError: nothing was named; at the first look, a pinned voice or an alias leads nowhere; two are one.
            ArtifactError: at the first look, nothing may be served; says why of each.
            EnvironmentProblem: at the first look, a repository cannot be read.
        """
        settings = self._settings
        if not settings.voices:
            raise InputError("no voice to serve was named", fix="gsvexport serve ARTIFACT, FOLDER or REPOSITORY")
        first, self._keys = not self._last, trusted_keys()
        self._known, self._judged = self._judged, {}  # what is not served any more is forgotten
        refused: dict[str, str] = {}
        found: dict[str, Offer] = {}  # the same artifact in two places is one
        for word in settings.voices:
            try:
                offers = list(self._offers(word, refused))
            except EnvironmentProblem as error:
                if first:
                    raise
                refused[word], offers = str(error), self._last[word]
            except InputError as error:  # what is not there any more was taken away
                if first:
                    raise
                refused[word], offers = str(error), []
            self._last[word] = offers
            for offer in offers:
                found.setdefault(offer.key, offer)
            if len(found) > MOST_VOICES:
                raise InputError("too many voices", limit=MOST_VOICES, fix="serve them with several servers")
        served = [one.path for one in found.values() if one.path in self._known]
        self._judged = {**{path: self._known[path] for path in served}, **self._judged}
        self._leave()
        offers_by_name = _named(list(found.values()))
        if first:
            _check(settings, offers_by_name, refused)
        return Catalogue(offers_by_name, refused, settings.aliases)

    def _leave(self) -> None:
        """Give up what was pulled and is not served any more. What no server has held for a day is removed: a version
        that comes back is put together again from the members in the cache."""
        for folder in [one for one in self._held if not any(path.parent == one for path in self._judged)]:
            self._held.discard(folder)
            with contextlib.suppress(OSError):
                os.utime(folder)  # from now on it is not used
            release(folder)
        limit = time.time() - _KEPT
        for folder in cache_directory("served").glob("*"):
            with contextlib.suppress(OSError):
                if folder.stat().st_mtime < limit:
                    if folder.is_dir() and not folder.is_symlink():
                        with alone(folder) as free:
                            if free:
                                disk.remove_tree(folder)
                    else:
                        disk.remove(folder)

    def _offers(self, word: str, refused: dict[str, str]) -> Iterator[Offer]:
        """The voices that one argument means."""
        if "://" in word or (Path(word) / index.ENTRIES).is_dir() or (Path(word) / index.INDEX).is_file():
            self._repositories.add(word)
            place = open_place(word) if "://" in word else FolderPlace(Path(word))
            yield from self._of_repository(place, word, refused)
            return
        path = Path(word)
        if word in self._repositories:  # a disk that is not mounted looks like this
            raise EnvironmentProblem(f"{path} is no repository any more")
        if not path.exists():
            raise InputError(f"{path} does not exist", fix="name an artifact, a folder of them, or a repository")
        found = [path] if path.is_file() else sorted(path.glob(f"*{container.SUFFIX}"))
        if not found:
            raise InputError(f"{path} holds no {container.SUFFIX} file and is no repository", fix="name another folder")
        for one in found:
            try:
                yield self._judge(one)
            except GsvError as error:
                refused[str(one)] = str(error)

    def _judge(self, path: Path) -> Offer:
        """As `judged`; a file that did not change since is not read again."""
        stamp: _Stamp = (*_stamp(path), self._keys)
        known = self._judged.get(path) or self._known.get(path)
        if known is None or known[0] != stamp:
            made: Offer | GsvError
            try:
                made = judged(path, self._settings)
            except GsvError as error:
                made = error
            known = stamp, made
        self._judged[path] = known
        if isinstance(known[1], GsvError):
            raise known[1]
        return known[1]

    def _of_repository(self, place: Place, word: str, refused: dict[str, str]) -> Iterator[Offer]:
        """The latest version of every voice of a repository that runs here, in the target that fits best.

        While a newer one cannot be had or may not be served, the one that is served stays, as long as it is published.
        """
        bad: dict[str, ArtifactError] = {}
        listed = index.published(place, bad=bad)
        refused |= {f"{place.name}/{path}": str(error) for path, error in bad.items()}
        seen, there = probe(), {item.entry.manifest for item in listed}
        served = {one.manifest.name: one for one in self._last.get(word, ()) if one.key in there}
        for name in dict.fromkeys(item.entry.name for item in listed):
            items = index.choose(listed, name, None, None)
            best = rank(seen, [Candidate(one.entry.target, one.entry.device, one.entry.size) for one in items])[0]
            where = f"{place.name}: {name}"
            if best.against and not self._settings.any_machine:
                refused[where] = f"nothing of it is for this machine: {best.line}"
                continue
            item = next(one for one in items if one.entry.target == best.candidate.target)
            try:
                yield self._bring(place, item, where)
            except GsvError as error:
                refused[where] = str(error)
                if name in served:
                    yield served[name]

    def _bring(self, place: Place, item: index.Listed, where: str) -> Offer:
        """One published artifact, pulled and judged.

        Raises: as `pull` and `judged`.
        """
        settings, entry = self._settings, item.entry
        path = cache_directory("served") / entry.manifest / f"voice{container.SUFFIX}"
        stamp: _Stamp = (entry.manifest, entry.version, item.signed, self._keys)
        known = self._judged.get(path) or self._known.get(path)
        if known is not None and known[0] == (*_stamp(path), self._keys) and isinstance(known[1], Offer):
            return self._judge(path)
        tried = self._tried.get(where)
        if tried is None or tried[0] != stamp:
            self._say(f"pulling {entry.title}")
        elif isinstance(tried[2], ArtifactError) and time.monotonic() - tried[1] < _AGAIN:
            raise tried[2]  # another look makes it no better; somebody may, some day, in the repository
        if path.parent not in self._held:
            path.parent.mkdir(parents=True, exist_ok=True)
            if hold(path.parent):
                self._held.add(path.parent)
        unsigned, older = settings.allow_unsigned, settings.allow_older
        try:
            pull(place, item, path, self._keys, allow_unsigned=unsigned, allow_older=older, force=True)
            offer = self._judge(path)
        except GsvError as error:
            self._tried[where] = stamp, time.monotonic(), error
            raise
        self._tried.pop(where, None)
        return offer


def gather(settings: Settings, say: Callable[[str], None] = lambda _: None) -> Catalogue:
    """The voices as they are now; see `Gatherer.look`."""
    return Gatherer(settings, say).look()


def _stamp(path: Path) -> _Stamp:
    """What differs when a file was replaced or written to."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check(settings: Settings, offers: dict[str, Offer], refused: dict[str, str]) -> None:
    """Refuse to begin with nothing, or with names that lead nowhere."""
    if not offers:
        problems = [" ".join(f"{where}: {reason}".split()) for where, reason in list(refused.items())[:20]]
        raise ArtifactError("there is no voice that may be served", problems=problems or [*settings.voices])
    lost = [one for one in (*settings.pin, *settings.aliases.values()) if one not in offers]
    taken = [one for one in settings.aliases if one in offers]
    if lost or taken:
        problems = [f"{one} is pinned, or has an alias, and is not served" for one in lost]
        problems += [f"{one} is a voice, and no name for another one" for one in taken]
        raise InputError("names of voices do not fit", problems=problems, limit=", ".join(offers))


def _named(found: list[Offer]) -> dict[str, Offer]:
    """Each under its name, or, where several are called so, under name and target.

    Raises:
        InputError: two have both in common.
    """
    counts = Counter(one.manifest.name for one in found)
    offers: dict[str, Offer] = {}
    for one in found:
        name, target = one.manifest.name, one.manifest.target["name"]
        index.check_name(name, "voice")
        key = name if counts[name] == 1 else f"{name}-{target}"
        if key in offers:
            problems = [str(offers[key].path), str(one.path)]
            raise InputError(f"two artifacts are {key}", problems=problems, fix="serve one of them")
        offers[key] = replace(one, id=key)
    return dict(sorted(offers.items()))
