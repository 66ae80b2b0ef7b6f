"""T2S graphs whose cache is bound once and written in place (what `passes/fuse_attention.py` writes).

Such a graph has a pair of ports for each layer, `keys_i` / `values_i` [B, H, C, D/H], in place of the stacked `keys`
and `values`. The sessions here still answer to the stage table's ports; `InPlaceDecoder` is the fast way to write one
sentence, `rows.py` several.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.onnxruntime.graph import OnnxRuntimeSession
from gsvexport.backends.onnxruntime.rows import InPlaceRows, independent
from gsvexport.errors import BackendError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_KINDS = ("keys", "values")
_SPARE_ROWS = 256  # room beyond the prefill before a cache grows for the first time: 10 s of speech


class LayeredPrefill(OnnxRuntimeSession):
    """`prefill` whose graph returns the cache layer by layer."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The stage's own ports; see `gsvexport.backends.Session`."""
        out = super().run(feeds)
        return {"logits": out["logits"], **{kind: _stacked(out, kind) for kind in _KINDS}}

    def layered(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's own ports: `logits`, and `new_keys_i`, `new_values_i` [1, H, X+Y, D/H]."""
        return super().run(feeds)

    def decoder(self, step: Any) -> InPlaceDecoder:
        """The decoder for this prefill and its `step`."""
        if not isinstance(step, InPlaceStep):
            raise BackendError("prefill and step were lowered differently", fix="build the artifact again")
        return InPlaceDecoder(self, step)

    def rows(self, step: Any, most: int) -> InPlaceRows | None:
        """At most `most` sentences side by side; None where one that is not alone would get other numbers."""
        takes = isinstance(step, InPlaceStep) and step.takes(most)
        return InPlaceRows(self.layered, step, most) if takes else None


_tried: dict[tuple[str, int], bool] = {}  # what `InPlaceStep.takes` found, of graphs that are known by their content


class InPlaceStep(OnnxRuntimeSession):
    """`step` whose graph reads and writes one cache of fixed capacity for each layer. `content` is a name that no other
    graph has, on another processor or in another release of ONNX Runtime; empty where nobody knows one."""

    content = ""

    def __init__(self, path: Path, session: Any) -> None:
        super().__init__(path, session)
        self._independent: dict[int, bool] = {}

    def takes(self, most: int) -> bool:
        """Whether so many sentences go through one step, each as if it were alone. Tried on the first call; of a voice
        that is opened again, it is known."""
        if not isinstance(self.shape("token")[0], str):  # an artifact of a release that knew one row
            return False
        known = _tried.get((self.content, most)) if self.content else None
        if known is not None:
            return known
        if most not in self._independent:
            self._independent[most] = independent(self, self.graph, self.caches(), most)
            if self.content:
                _tried[self.content, most] = self._independent[most]
        return self._independent[most]

    def caches(self) -> list[str]:
        """The names of the cache ports."""
        return [port.name for port in self._session.get_inputs() if port.name.startswith(_KINDS)]

    def graph(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The graph's own ports: see `passes/fuse_attention.py`."""
        return super().run(feeds)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The stage's own ports; see `gsvexport.backends.Session`. Copies the cache: for checks, not for speech."""
        rows = feeds["keys"].shape[2]
        heads = int(self.shape("keys_0")[1])
        inputs: dict[str, NDArray[Any]] = {name: np.ascontiguousarray(feeds[name]) for name in ("token", "position")}
        inputs["cached"] = np.array([rows], np.int32)
        outputs: dict[str, NDArray[Any]] = {
            "logits": np.zeros((1, int(self.shape("logits", output=True)[1])), np.float32)
        }
        for kind in _KINDS:
            for layer, cache in enumerate(feeds[kind]):
                split = cache.reshape(1, rows, heads, -1).transpose(0, 2, 1, 3)
                buffer = np.empty((1, heads, rows + 1, split.shape[3]), np.float32)
                buffer[:, :, :rows], buffer[:, :, rows:] = split, 0
                inputs[f"{kind}_{layer}"] = outputs[f"new_{kind}_{layer}"] = buffer  # as it is when it speaks
        self.run_bound(self.bind(inputs, outputs))
        newest = {name: value[:, :, rows:] for name, value in outputs.items() if name != "logits"}
        return {"logits": outputs["logits"], **{f"new_{kind}": _stacked(newest, kind) for kind in _KINDS}}


class InPlaceDecoder:
    """See `gsvexport.runtime.tokens.Decoder`. The cache doubles when it is full; else nothing is copied or bound."""

    def __init__(self, prefill: LayeredPrefill, step: InPlaceStep) -> None:
        self._prefill, self._step = prefill, step
        self._token = np.zeros((1, 1), np.int64)
        self._position = np.zeros(1, np.int64)
        self._cached = np.zeros(1, np.int32)
        self._logits = np.zeros((1, int(step.shape("logits", output=True)[1])), np.float32)
        self._cache: dict[str, Floats] = {}
        self._binding: Any = None

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """Start a sentence; see `Decoder.prefill`."""
        out = self._prefill.layered({"phones": phones, "bert": bert, "prompt": prompt})
        logits: Floats = out.pop("logits")[0]
        self._cached[0] = next(iter(out.values())).shape[2]
        self._hold({name.removeprefix("new_"): rows for name, rows in out.items()})
        return logits

    def step(self, token: int, position: int) -> Floats:
        """Append a code; see `Decoder.step`."""
        if self._binding is None:
            raise BackendError("stage 'step' needs the cache of a prefill", fix="call prefill first")
        if self._cached[0] == next(iter(self._cache.values())).shape[2]:
            self._hold(self._cache)
        self._token[0, 0], self._position[0] = token, position
        self._step.run_bound(self._binding)
        self._cached[0] += 1
        return self._logits[0].copy()

    def _hold(self, rows: Mapping[str, Floats]) -> None:
        """Move cache rows into buffers with room for more, and bind those."""
        self._cache = {name: _with_room(found) for name, found in rows.items()}
        inputs: dict[str, NDArray[Any]] = {"token": self._token, "position": self._position, "cached": self._cached}
        outputs: dict[str, NDArray[Any]] = {"logits": self._logits}
        for name, buffer in self._cache.items():
            inputs[name] = outputs[f"new_{name}"] = buffer
        self._binding = self._step.bind(inputs, outputs)


def _with_room(rows: Floats) -> Floats:
    """A buffer twice as long, or longer by `_SPARE_ROWS`, that begins with `rows` [1, H, S, D/H]."""
    _, heads, count, width = rows.shape
    buffer = np.zeros((1, heads, count + max(count, _SPARE_ROWS), width), np.float32)
    buffer[:, :, :count] = rows
    return buffer


def _stacked(out: Mapping[str, NDArray[Any]], kind: str) -> NDArray[Any]:
    """Layers `new_{kind}_i` [1, H, S, D/H] → [L, 1, S, D]."""
    layers = []
    for index in range(sum(name.startswith(f"new_{kind}_") for name in out)):
        rows = out[f"new_{kind}_{index}"].transpose(0, 2, 1, 3)
        layers.append(rows.reshape(1, rows.shape[1], -1))
    return np.stack(layers)
