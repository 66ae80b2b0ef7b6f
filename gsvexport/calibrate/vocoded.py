"""Latents as the vocoder of their source speaks them: how an error before the vocoder is heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.files import sha256_bytes
from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]


class Vocoded:
    """The vocoder of a baked source in the folder `source`; its graph is opened when it is first needed."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._voice: LoadedVoice | None = None
        self._known: dict[str, Array] = {}  # of what was expected: the same in every attempt

    def pairs(self, latents: Sequence[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        """Pairs of sounds [1, N] of pairs of latents [1, I, F], those expected first.

        Raises:
            BackendError: the vocoder failed.
        """
        return [(self._expected(one), self._speak(other)) for one, other in latents]

    def _expected(self, latent: Array) -> Array:
        key = sha256_bytes(np.ascontiguousarray(latent).tobytes())
        if key not in self._known:
            self._known[key] = self._speak(latent)
        return self._known[key]

    def _speak(self, latent: Array) -> Array:
        voice = self._voice = self._voice or LoadedVoice(self._source)
        ports = [port.name for port in voice.stages["vocoder"].inputs]
        given = {name: latent if name == "latent" else voice.baked[name] for name in ports}
        return voice.run("vocoder", given)["audio"].reshape(1, -1)
