"""`prefill` and `step` as one graph that writes its cache in place: `one_t2s.py` for TensorRT from 10.15 on.

    ids, positions, text, cached, bert    as there
    slots      [N]  0 … N-1: how much of the cache is read; N >= `cached` + S
    keys_i, values_i [1, H, C, D/H]  layer i's cache of fixed capacity C
    → logits [1, V] of the last row, new_keys_i, new_values_i: the caches with S new rows from row `cached` on

Each cache goes through one TensorScatter, from an input of the graph to an output of it. TensorRT makes that an update
in place if both are bound to one address, and asks for four dimensions and a capacity that is a number. Only the first
N rows are read, so one engine has a fast step for short sentences and one for long ones on the same cache. New rows are
there already when attention reads it, which is one Attention operator:

    K = TensorScatter(keys_i, k, cached)[:N]      out = Attention(q, K, V, slot <= last row that the new row sees)

N is a length of an input, so nothing computed from data decides a shape, as in `one_t2s.py`. TensorRT for RTX 1.7.1
makes one kernel of each attention and no copy of the Slice; it refuses an Attention that it has no kernel for: in FP32,
or with fewer than 16 numbers a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Adder, Outcome, replace
from gsvexport.passes.fuse_attention import Attention, find_attentions
from gsvexport.passes.one_t2s import embedded_rows, embedding

OPSET = 24  # the first one with TensorScatter; Attention came in 23
KINDS = ("keys", "values")


def aliases(layers: int) -> dict[str, str]:
    """Output → input that share one address."""
    return {f"new_{kind}_{layer}": f"{kind}_{layer}" for kind in KINDS for layer in range(layers)}


@dataclass(frozen=True)
class InPlaceT2S:
    """See the module; takes the source's `prefill`. `heads` is H, `width` is D, `layers` is L, `capacity` is C."""

    name: ClassVar[str] = "in-place-t2s"
    version: ClassVar[int] = 1
    heads: int
    width: int
    layers: int
    capacity: int

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; its ports become those above."""
        graph = model.graph
        embedded, attentions = embedding(graph), find_attentions(graph)
        if len(attentions) != self.layers:
            raise PassError(f"{self.name}: {len(attentions)} attentions in {self.layers} layers")
        _raise_opset(model)
        old_inputs = list(graph.inputs)
        ports = self._ports(model)
        # Named as in OneT2S, whose measurements then hold here.
        rows = embedded_rows(Adder(model, "t2s"), embedded, ports)
        add = Adder(model, "in-place")
        first, window = add("Cast", ports["cached"], to=ir.DataType.INT64), add("Shape", ports["slots"])
        seen = _seen(add, ports)
        replace(embedded.rows, rows)
        graph.outputs[:] = [value for value in graph.outputs if value.name == "logits"]
        added = [self._attend(add, index, part, ports, first, window, seen) for index, part in enumerate(attentions)]
        for part, attended in zip(attentions, added, strict=True):
            replace(part.merged, attended)
        add.finish()
        for value in old_inputs:
            if value.name in ("phones", "prompt"):
                graph.inputs.remove(value)
        return Outcome(self.layers, (f"{self.layers} attentions write their cache of {self.capacity} rows in place",))

    def _ports(self, model: ir.Model) -> dict[str, ir.Value]:
        cache = [1, self.heads, self.capacity, self.width // self.heads]
        bert = next(value for value in model.graph.inputs if value.name == "bert")
        assert bert.shape is not None
        bert.shape = ir.Shape([1, bert.shape[1], "S"])
        ports = {"bert": bert}
        wanted: dict[str, tuple[ir.DataType, list[int | str]]] = {
            "ids": (ir.DataType.INT32, [1, "S"]),
            "positions": (ir.DataType.INT32, [1, "S"]),
            "text": (ir.DataType.INT32, [1]),
            "cached": (ir.DataType.INT32, [1]),
            "slots": (ir.DataType.INT32, ["N"]),
            **{name: (ir.DataType.FLOAT, list(cache)) for name in aliases(self.layers).values()},
        }
        for name, (dtype, shape) in wanted.items():
            ports[name] = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))
            model.graph.inputs.append(ports[name])
        return ports

    def _attend(
        self,
        add: Adder,
        layer: int,
        part: Attention,
        ports: dict[str, ir.Value],
        first: ir.Value,
        window: ir.Value,
        seen: ir.Value,
    ) -> ir.Value:
        """[1, S, D]: attention of the new rows over the cache, once they are in it."""

        def heads(value: ir.Value) -> ir.Value:
            split = add("Reshape", value, add.ints(1, -1, self.heads, self.width // self.heads))
            return add("Transpose", split, perm=[0, 2, 1, 3])

        q, *new = (heads(value) for value in part.split.outputs)
        read = []
        for kind, rows in zip(KINDS, new, strict=True):
            cache = ports[f"{kind}_{layer}"]
            written = add("TensorScatter", cache, rows, first, axis=-2)
            written.name, written.type, written.shape = f"new_{kind}_{layer}", cache.type, cache.shape
            add.model.graph.outputs.append(written)
            read.append(add("Slice", written, add.ints(0), window, add.ints(2)))
        attended = add("Attention", q, *read, seen, scale=1.0)  # queries arrive scaled
        return add("Reshape", add("Transpose", attended, perm=[0, 2, 1, 3]), add.ints(1, -1, self.width))


def _seen(add: Adder, ports: dict[str, ir.Value]) -> ir.Value:
    """Which rows of the cache each new row sees, bool [1, 1, S, N]: phones all phones, codes what came before."""
    count = add.int32(add("Shape", ports["ids"], start=1, end=2))
    row = add("Add", add("Range", add.scalar(0, np.int32), count, add.one()), ports["cached"])
    last = add("Max", row, add("Sub", ports["text"], add.one(1)))
    seen = add("LessOrEqual", add("Unsqueeze", ports["slots"], add.ints(0)), add("Unsqueeze", last, add.ints(1)))
    return add("Unsqueeze", seen, add.ints(0, 1))


def _raise_opset(model: ir.Model) -> None:
    """Declare opset 24, for a graph whose operators mean there what they meant before.

    Raises:
        PassError: an attribute that is gone by then; all of them.
    """
    problems = []
    for node in model.graph:
        if node.op_type == "Split" and len(node.inputs) == 1:
            node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))
        known = onnx.defs.get_schema(node.op_type, OPSET, node.domain).attributes
        problems += [f"{node.name} ({node.op_type}): {name}" for name in node.attributes if name not in known]
    if problems:
        raise PassError(f"attributes that opset {OPSET} does not have", problems=problems)
    model.graph.opset_imports[""] = OPSET
    version = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", OPSET)])
    model.ir_version = max(model.ir_version, version)
