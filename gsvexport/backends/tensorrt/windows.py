"""A vocoder whose engine takes short pieces runs long ones in windows: scratch grows with the longest profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import BackendError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.backends.tensorrt.engine import Engine

_PORTS = ("latent", "mel")  # what a vocoder speaks, [1, channels, frames]


@dataclass(frozen=True)
class Windows:
    """Pieces of at most `longest` frames of the input `port`, of which those at a cut look at `left` frames before and
    `right` after what is kept of them: as far as the graph does, so nothing but the order of sums differs from the
    whole. A frame gives `hop` samples."""

    port: str
    longest: int
    left: int
    right: int
    hop: int

    @classmethod
    def of(cls, context: Any, engine: Engine, hop: int) -> Windows:
        """The windows of an engine, whose profiles say how much it takes.

        Raises:
            BackendError: its longest profile is no longer than what a window looks at.
        """
        port = next(name for name in _PORTS if name in engine.inputs)
        longest = max(shapes[port][2][2] for shapes in engine.profiles.values())
        left, right = (int(one) for one in context)
        if longest <= left + right:
            found = f"{longest} frames, {left} before and {right} after"
            raise BackendError("the vocoder's longest profile is all context", found=found, fix="build it again")
        return cls(port, longest, left, right, hop)

    def run(self, engine: Engine, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The audio [1, N] of any number of frames."""
        whole = feeds[self.port]
        count = whole.shape[2]
        if count <= self.longest:
            return engine.run(feeds)
        keep, pieces = self.longest - self.left - self.right, []
        for first in range(0, count, keep):
            last = min(first + keep, count)
            start, stop = max(0, first - self.left), min(count, last + self.right)
            found = engine.run({**feeds, self.port: whole[:, :, start:stop]})["audio"]
            end = None if last == count else (last - start) * self.hop
            pieces.append(found[:, (first - start) * self.hop : end])
        return {"audio": np.concatenate(pieces, axis=1)}
