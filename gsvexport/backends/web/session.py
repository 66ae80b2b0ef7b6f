"""Opens a stage's graph in onnxruntime-web under node: the same runtime, by the same bytes, as in a browser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.web.node import Node, node_of
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.untrusted.external import NoGraph, check_external_once
from gsvexport.untrusted.reading import Refused

Array = NDArray[Any]
_SUFFIX = ".safetensors"  # weights, which graphs name


class WebSession:
    """One graph; see `gsvexport.backends.Session`."""

    def __init__(self, path: Path, node: Node) -> None:
        self._path, self._node = path, node
        weights = sorted(one.name for one in path.parent.glob(f"*{_SUFFIX}"))
        node.ask({"do": "open", "folder": str(path.parent.resolve()), "file": path.name, "weights": weights})

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Every output by name. Arrays are handed over as they are: callers check them."""
        if self._node is None:
            raise BackendError(f"{self._path} was closed", fix="load the voice again")
        given = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
        told = [
            {"name": name, "type": array.dtype.name, "shape": list(np.shape(feeds[name]))}
            for name, array in given.items()
        ]
        head, found = self._node.ask({"do": "run", "file": self._path.name, "feeds": told}, list(given.values()))
        return {one["name"]: array for one, array in zip(head["outputs"], found, strict=True)}

    def close(self) -> None:
        """Free the graph's memory, with the process where this was its last graph."""
        self._node = None  # type: ignore[assignment]


def open_session(path: Path, *, threads: int | None = None) -> WebSession:
    """Load one `.onnx` file; see `gsvexport.backends.open_session`. One thread: pages have more where they may.

    Raises:
        EnvironmentProblem: no node, or onnxruntime-web cannot be had.
        BackendError: it cannot load the graph, or took too long.
    """
    try:
        check_external_once(path)
    except (OSError, NoGraph) as error:
        raise BackendError(f"stage '{path.stem}': {path} cannot be read: {error}") from error
    except Refused as error:
        raise ArtifactError(f"{path} {error}", fix="get it again, or build it again") from error
    return WebSession(path, node_of(path.parent))
