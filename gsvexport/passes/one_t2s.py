"""`prefill` and `step` as one graph, with a cache of fixed capacity that it reads and never writes.

An engine that is compiled for fixed shapes wants neither a cache that grows nor its own copy of the weights for each of
the two stages. This graph appends S ≥ 1 rows: all of a sentence at once, or the code that was chosen last.

    ids        [1, S]  a phone, or (number of phones) + a code: rows of one joined embedding table
    positions  [1, S]  each row's place in its own stream, from 0
    text       [1]     how many of the S rows, from the first on, are phones
    cached     [1]     how many rows of the cache are filled; the rest is masked
    bert       [1, 1024, S]  text features, zero for codes
    keys, values [L, 1, C, D]  the cache, of any capacity C ≥ 1
    → logits [1, V] of the last row, new_keys, new_values [L, 1, S, D]

All lengths but S and C are data: nothing computed from `cached`, `positions` or `text` decides a shape, so a runtime
may record one step and replay it. Attention runs over the cache and the new rows side by side,

    P = softmax([q·Kᵀ + m | q·kᵀ + n])        out = P[:C]·V + P[C:]·v

so the graph copies no cache either. (TensorRT for RTX 1.7.1 all the same lays each layer's K and V out anew in every
step, whichever way they are given: with heads first, or K or V or both transposed. `in_place_t2s.py` has no such copy.)

Integer ports are int32, which every runtime takes as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Adder, Outcome, constant, initializer, producer, replace
from gsvexport.passes.fuse_attention import Attention, find_attentions

MASKED = -1e4  # exp gives 0 in float32 and the number itself fits float16


@dataclass(frozen=True)
class OneT2S:
    """See the module; takes the source's `prefill`. `heads` is H, `width` is D, `layers` is L."""

    name: ClassVar[str] = "one-t2s"
    version: ClassVar[int] = 1
    heads: int
    width: int
    layers: int

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; its ports become those above."""
        graph = model.graph
        embedded = embedding(graph)
        attentions = find_attentions(graph)
        if len(attentions) != self.layers:
            raise PassError(f"{self.name}: {len(attentions)} attentions in {self.layers} layers")
        old_inputs = list(graph.inputs)
        add = Adder(model, "t2s")
        ports = self._ports(model)
        rows, masks = embedded_rows(add, embedded, ports), _masks(add, ports)
        replace(embedded.rows, rows)
        added = [(part, self._attend(add, index, part, ports, masks)) for index, part in enumerate(attentions)]
        for part, attended in added:
            replace(part.merged, attended)
        graph.outputs[:] = [value for value in graph.outputs if value.name == "logits"]
        for kind, of in (("keys", 1), ("values", 2)):
            news = [add("Unsqueeze", part.split.outputs[of], add.ints(0)) for part in attentions]
            out = add("Concat", *news, axis=0)
            out.name = f"new_{kind}"
            out.type, out.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([self.layers, 1, "S", self.width])
            graph.outputs.append(out)
        add.finish()
        for value in old_inputs:
            if value.name in ("phones", "prompt"):
                graph.inputs.remove(value)
        return Outcome(self.layers, (f"prefill and step share one graph; {self.layers} attentions read their cache",))

    def _ports(self, model: ir.Model) -> dict[str, ir.Value]:
        cache: list[int | str] = [self.layers, 1, "C", self.width]
        bert = next(value for value in model.graph.inputs if value.name == "bert")
        assert bert.shape is not None
        bert.shape = ir.Shape([1, bert.shape[1], "S"])
        ports = {"bert": bert}
        for name, dtype, shape in (
            ("ids", ir.DataType.INT32, [1, "S"]),
            ("positions", ir.DataType.INT32, [1, "S"]),
            ("text", ir.DataType.INT32, [1]),
            ("cached", ir.DataType.INT32, [1]),
            ("keys", ir.DataType.FLOAT, cache),
            ("values", ir.DataType.FLOAT, cache),
        ):
            ports[name] = ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))  # type: ignore[arg-type]
            model.graph.inputs.append(ports[name])
        return ports

    def _attend(
        self, add: Adder, layer: int, part: Attention, ports: dict[str, ir.Value], masks: dict[str, ir.Value]
    ) -> ir.Value:
        """[1, S, D]: attention of the new rows over the cache and over themselves."""

        def heads(value: ir.Value) -> ir.Value:
            split = add("Reshape", value, add.ints(1, -1, self.heads, self.width // self.heads))
            return add("Transpose", split, perm=[0, 2, 1, 3])

        q, k, v = (heads(value) for value in part.split.outputs)
        old_k, old_v = (heads(add("Gather", ports[kind], add.scalar(layer), axis=0)) for kind in ("keys", "values"))
        old = add("Add", add("MatMul", q, add("Transpose", old_k, perm=[0, 1, 3, 2])), masks["old"])
        new = add("Add", add("MatMul", q, add("Transpose", k, perm=[0, 1, 3, 2])), masks["new"])
        weights = add("Softmax", add("Concat", old, new, axis=-1), axis=-1)
        over_old = add("Slice", weights, add.ints(0), masks["C"], add.ints(3))
        over_new = add("Slice", weights, masks["C"], add.ints(2**31 - 1), add.ints(3))
        attended = add("Add", add("MatMul", over_old, old_v), add("MatMul", over_new, v))
        return add("Reshape", add("Transpose", attended, perm=[0, 2, 1, 3]), add.ints(1, -1, self.width))


@dataclass(frozen=True)
class Embedding:
    """The source's embedding as found: its tables, and the value that everything after it reads."""

    text: ir.Value
    audio: ir.Value
    positions: ir.Value
    text_alpha: ir.Value
    audio_alpha: ir.Value
    features: ir.Value  # bert after its projection, [1, X, D]
    rows: ir.Value


def embedding(graph: ir.Graph) -> Embedding:
    """text_table[phones] + features + α_text·PE beside audio_table[prompt] + α_audio·PE, from the ports inwards."""
    lookups = {
        port.name: next(node for node, _ in port.uses() if node.op_type == "Gather")
        for port in graph.inputs
        if port.name in ("phones", "prompt")
    }
    if set(lookups) != {"phones", "prompt"}:
        raise PassError("this is not the source's prefill", found=[str(port.name) for port in graph.inputs])
    plus_features = _next(lookups["phones"].outputs[0], "Add")
    text_row = _next(plus_features.outputs[0], "Add")
    audio_row = _next(lookups["prompt"].outputs[0], "Add")
    features = next(value for value in plus_features.inputs if value is not lookups["phones"].outputs[0])
    text_place, audio_place = (_place(node) for node in (text_row, audio_row))
    joined = _next(text_row.outputs[0], "Concat")
    found = (lookups["phones"].inputs[0], lookups["prompt"].inputs[0], *text_place, audio_place[1], features)
    if any(value is None for value in found) or any(constant(value) is None for value in found[:5]):
        raise PassError("the embedding of prefill has another form")
    text, audio, positions, text_alpha, audio_alpha, features = found
    return Embedding(text, audio, positions, text_alpha, audio_alpha, features, joined.outputs[0])  # type: ignore[arg-type]


def _place(add: ir.Node) -> tuple[ir.Value | None, ir.Value | None]:
    """(table, alpha) of a row to which α·table[: n] is added."""
    product = next((node for node in (producer(value, "Mul") for value in add.inputs) if node), None)
    part = product and producer(product.inputs[0], "Slice")
    return (part.inputs[0], product.inputs[1]) if product and part else (None, None)


def _next(value: ir.Value, op_type: str) -> ir.Node:
    found = [node for node, _ in value.uses() if node.op_type == op_type]
    if not found:
        raise PassError(f"no {op_type} follows {value.name}: this is not the source's prefill")
    return found[0]


def embedded_rows(add: Adder, found: Embedding, ports: dict[str, ir.Value]) -> ir.Value:
    """The S rows that enter the first layer, [1, S, D]."""
    tables = [table for table in (constant(found.text), constant(found.audio)) if table is not None]
    table = initializer(add.model, f"{found.text.name}+{found.audio.name}", np.concatenate(tables))
    row = add("Range", add.scalar(0, np.int32), add.int32(add("Shape", ports["ids"], start=1, end=2)), add.one())
    is_text = add("Unsqueeze", add("Less", row, ports["text"]), add.ints(1))  # [S, 1]
    features = add("Mul", found.features, add("Cast", is_text, to=ir.DataType.FLOAT))
    alpha = add("Where", is_text, found.text_alpha, found.audio_alpha)
    place = add("Mul", add("Gather", found.positions, ports["positions"], axis=0), alpha)
    return add("Add", add("Add", add("Gather", table, ports["ids"], axis=0), features), place)


def _masks(add: Adder, ports: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """`old` [1, C] and `new` [S, S], added to scores; `C` int64 [1], the capacity."""
    capacity = add("Shape", ports["keys"], start=2, end=3)
    slot = add("Range", add.scalar(0, np.int32), add.int32(capacity), add.one())
    row = add("Range", add.scalar(0, np.int32), add.int32(add("Shape", ports["ids"], start=1, end=2)), add.one())
    last = add("Max", row, add("Sub", ports["text"], add.one(1)))  # phones see all phones, codes what came before
    seen = add("LessOrEqual", add("Unsqueeze", row, add.ints(0)), add("Unsqueeze", last, add.ints(1)))
    filled = add("Unsqueeze", add("Less", slot, ports["cached"]), add.ints(0))
    zero, masked = add.scalar(0.0), add.scalar(MASKED)
    return {"old": add("Where", filled, zero, masked), "new": add("Where", seen, zero, masked), "C": capacity}
