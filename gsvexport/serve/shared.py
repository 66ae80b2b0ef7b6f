"""Graphs that several voices have in common are opened once: voices of one base differ in their reference alone.

A graph is the same where every member that it could read is: all but the constants of the reference, the golden vectors
and what only tells of the voice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import REPORT, Manifest
from gsvexport.backends import Session, open_session
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.runtime.pipeline import LoadedVoice

_OWN = ("baked/", "golden/", "model.json", REPORT)  # no graph reads them


@dataclass(eq=False)
class _Held:
    session: Session | None = None
    users: int = 0
    opening: threading.Lock = field(default_factory=threading.Lock)


class Graphs:
    """The open graphs of a process, each with how many voices use it. Any thread may take and leave."""

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], _Held] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: tuple[Any, ...], open_it: Callable[[], Session]) -> Session:
        """The graph of that key, opened unless it is; `leave` it as often.

        Raises:
            BackendError, ArtifactError: it cannot be opened.
        """
        with self._lock:
            held = self._held.setdefault(key, _Held())
            held.users += 1
        try:
            with held.opening:  # two voices that came at once would hold the weights twice
                if held.session is None:
                    held.session = open_it()
                return held.session
        except BaseException:
            self._left(key, held)
            raise

    def leave(self, session: Session) -> None:
        """Free a graph when the last voice has left it."""
        with self._lock:
            key, held = next((key, one) for key, one in self._held.items() if one.session is session)
        self._left(key, held)

    def _left(self, key: tuple[Any, ...], held: _Held) -> None:
        with self._lock:
            held.users -= 1
            if held.users:
                return
            del self._held[key]
        if held.session is not None:
            held.session.close()

    def voice(self, folder: Path, manifest: Manifest, threads: int | None) -> LoadedVoice:
        """A voice of an unpacked artifact; what it opens, it shares."""
        parts = {name: one.sha256 for name, one in manifest.members.items() if not name.startswith(_OWN)}
        same = sha256_bytes(canonical_json(parts).encode())
        backends = {name: entry.backend for name, entry in manifest.stages.items()}
        return _Sharing(self, same, folder, backends, threads)


class _Sharing(LoadedVoice):
    """A voice whose graphs belong to `Graphs`."""

    def __init__(
        self, graphs: Graphs, same: str, folder: Path, backends: Mapping[str, str], threads: int | None
    ) -> None:
        def opener(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
            key = (same, backend, file, threads)
            return graphs.take(key, lambda: open_session(backend, folder, file, threads=threads))

        self._graphs = graphs
        super().__init__(folder, backends=backends, threads=threads, opener=opener)

    def close(self) -> None:
        """As `LoadedVoice.close`, for this voice."""
        while self._sessions:
            self._graphs.leave(self._sessions.popitem()[1])
