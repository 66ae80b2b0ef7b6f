"""From the stage table's ports to those of the graphs that engines are built from, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.stages import BERT_WIDTH

if TYPE_CHECKING:  # what is carried by artifacts runs with the numpy of JetPack 5, which has no such types
    from numpy.typing import NDArray

    from gsvexport.model import Dims

    Array = NDArray[Any]
    Feeds = Mapping[str, Array]


def graph_feeds(stage: str, feeds: Feeds, dims: Dims) -> dict[str, Array]:
    """What the graph of `stage` is fed for the stage's own feeds: the joined T2S graph for `prefill` and `step` (see
    `passes/one_t2s.py`), the same with int32 for every other stage."""
    if stage == "prefill":
        return _prefill(feeds, dims)
    if stage == "step":
        return _step(feeds, dims)
    return {name: array.astype(np.int32) if array.dtype == np.int64 else array for name, array in feeds.items()}


def stage_results(stage: str, results: Feeds) -> dict[str, Array]:
    """The stage's outputs, in the types of the stage table, from those of its graph."""
    names = {"new_keys": "keys", "new_values": "values"} if stage == "prefill" else {}
    full = {"f": np.float32, "i": np.int64}
    return {names.get(name, name): array.astype(full[array.dtype.kind], copy=False) for name, array in results.items()}


def _prefill(feeds: Feeds, dims: Dims) -> dict[str, Array]:
    """A sentence: all rows are new and nothing is cached, so the cache has one row, which is masked."""
    text, codes = feeds["phones"].shape[1], feeds["prompt"].shape[1]
    empty = np.zeros((dims.L, 1, 1, dims.D), np.float32)
    return {
        "ids": np.concatenate([feeds["phones"], feeds["prompt"] + dims.phones], axis=1).astype(np.int32),
        "positions": np.concatenate([np.arange(text), np.arange(codes)])[np.newaxis].astype(np.int32),
        "text": np.array([text], np.int32),
        "cached": np.zeros(1, np.int32),
        "bert": np.pad(feeds["bert"], ((0, 0), (0, 0), (0, codes))),
        "keys": empty,
        "values": empty,
    }


def _step(feeds: Feeds, dims: Dims) -> dict[str, Array]:
    """One code after the rows of the cache."""
    return {
        "ids": (feeds["token"] + dims.phones).astype(np.int32),
        "positions": feeds["position"][np.newaxis].astype(np.int32),
        "text": np.zeros(1, np.int32),
        "cached": np.array([feeds["keys"].shape[2]], np.int32),
        "bert": np.zeros((1, BERT_WIDTH, 1), np.float32),
        "keys": feeds["keys"],
        "values": feeds["values"],
    }
