"""From the stage table's ports to those of the graphs that engines are built from, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import InputError
from gsvexport.stages import BERT_WIDTH

if TYPE_CHECKING:  # what is carried by artifacts runs with the numpy of JetPack 5, which has no such types
    from numpy.typing import NDArray

    from gsvexport.model import Dims

    Array = NDArray[Any]
    Feeds = Mapping[str, Array]

KINDS = ("keys", "values")


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


def in_place_feeds(stage: str, feeds: Feeds, dims: Dims, capacity: int, window: int = 0) -> dict[str, Array]:
    """`graph_feeds` for the T2S graph that writes its cache (see `passes/in_place_t2s.py`), of `capacity` rows.

    It is to read at least `window` rows.

    Raises:
        InputError: more rows than that.
    """
    given = graph_feeds(stage, feeds, dims)
    cached, new = int(given["cached"][0]), given["ids"].shape[1]
    if cached + new > capacity:
        raise InputError("the sentence is longer than the cache", found=f"{cached + new} rows", limit=f"{capacity}")
    given["slots"] = np.arange(max(window, cached + new), dtype=np.int32)
    for kind in KINDS:
        cache = given.pop(kind)
        rows = cache[:, 0, :cached].reshape(dims.L, cached, dims.H, dims.D // dims.H).transpose(0, 2, 1, 3)
        for layer in range(dims.L):
            whole = np.zeros((1, dims.H, capacity, dims.D // dims.H), cache.dtype)
            whole[0, :, :cached] = rows[layer]
            given[f"{kind}_{layer}"] = whole
    return given


def in_place_results(stage: str, results: Feeds, dims: Dims, given: Feeds) -> dict[str, Array]:
    """`stage_results` for that graph, which was fed `given`."""
    first = int(given["cached"][0])
    rows = slice(first, first + given["ids"].shape[1])
    found = {"logits": results["logits"]}
    for kind in KINDS:
        layers = np.stack([results[f"new_{kind}_{layer}"][:, :, rows] for layer in range(dims.L)])
        found[f"new_{kind}"] = layers.transpose(0, 1, 3, 2, 4).reshape(dims.L, 1, -1, dims.D)
    return stage_results(stage, found)


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
