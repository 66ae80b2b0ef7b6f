"""The attention of a T2S step as one operator, with a cache that is written in place.

`FuseStep` turns each layer of `step`

    q, k, v = Split(qkv);  K = Concat(cache_i, k), V = Concat(cache_i', v);  softmax(q Kᵀ) V

into GroupQueryAttention(qkv, cache_i, cache_i') on a cache [B, H, C, D/H] of fixed capacity C: the runtime binds the
same memory as input and output, and nothing is copied. B sentences go side by side, each with its own token [B, 1],
position [B] and number of cached rows; one alone has B = 1. `prefill_attention.py` returns keys and values in that
layout. Queries arrive scaled, so the operator scales by 1.

The lowered ports are `keys_i` / `values_i` in and `new_keys_i` / `new_values_i` out for each layer i, and `cached`
int32 [B], the number of rows that a sentence's cache holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, constant, initializer, insert_before, producer, replace

DOMAIN = "com.microsoft"
ROWS = "B"  # the axis of sentences
_KINDS = ("keys", "values")


@dataclass(frozen=True)
class Attention:
    """One layer's attention as found: packed projections, the value that replaces its output, and the mask."""

    qkv: ir.Value
    split: ir.Node
    merged: ir.Value
    mask: ir.Value | None
    softmax: ir.Node


@dataclass(frozen=True)
class FuseStep:
    """See the module. `heads` is H, `width` is D."""

    name: ClassVar[str] = "fuse-step-attention"
    version: ClassVar[int] = 2
    heads: int
    width: int

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; its cache ports become one pair for each layer."""
        graph = model.graph
        layers = find_attentions(graph)
        cached = _port("cached", ir.DataType.INT32, [ROWS])
        graph.inputs.append(cached)
        one = initializer(model, "scalar:int32:1", np.array([1], np.int32))
        first = next(iter(graph))
        (longest,) = insert_before(first, "ReduceMax", [cached], {"keepdims": 1}, name="cache/longest")
        (total,) = insert_before(first, "Add", [longest, one], name="cache/total")
        shape: list[int | str] = [ROWS, self.heads, "C", self.width // self.heads]
        ports: list[ir.Value] = []
        for index, layer in enumerate(layers):
            past = [_port(f"{kind}_{index}", ir.DataType.FLOAT, shape) for kind in _KINDS]
            graph.inputs.extend(past)
            attended, *present = insert_before(
                layer.softmax,
                "GroupQueryAttention",
                [layer.qkv, None, None, *past, cached, total],
                {"num_heads": self.heads, "kv_num_heads": self.heads, "scale": 1.0},
                name=f"layer{index}/attention",
                domain=DOMAIN,
                outputs=3,
            )
            replace(layer.merged, attended)
            ports += [layer_port(v, f"new_{kind}_{index}", shape) for v, kind in zip(present, _KINDS, strict=True)]
        replace_ports(graph, _KINDS, ("new_keys", "new_values"), ports)
        _many_rows(model)
        graph.opset_imports[DOMAIN] = 1
        return Outcome(len(layers), (f"{len(layers)} attentions write their cache in place",))


def find_attentions(graph: ir.Graph) -> list[Attention]:
    """The attentions of the graph, in order.

    Raises:
        PassError: a softmax that is not the middle of one.
    """
    return [_match(node) for node in graph if node.op_type == "Softmax"]


def _match(softmax: ir.Node) -> Attention:
    """Softmax([mask +] q Kᵀ) V, with the heads split before and merged after, all projections from one Split."""
    mask = None
    scores = softmax.inputs[0]
    biased = producer(scores, "Add")
    if biased is not None:
        scores, mask = biased.inputs
    product = producer(scores, "MatMul")
    query = product and _before_heads(product.inputs[0])
    split = query and producer(query, "Split")
    weighted = next((user for user, _ in softmax.outputs[0].uses() if user.op_type == "MatMul"), None)
    if not split or weighted is None or constant(split.inputs[0]) is not None:
        raise PassError(f"{softmax.name} is not the middle of an attention over one packed projection")
    transpose = next(iter(weighted.outputs[0].uses()))[0]
    merged = next(iter(transpose.outputs[0].uses()))[0].outputs[0]
    assert split.inputs[0] is not None
    return Attention(split.inputs[0], split, merged, mask, softmax)


def _before_heads(value: ir.Value | None) -> ir.Value | None:
    """The value whose heads Reshape and Transpose have split."""
    transpose = producer(value, "Transpose")
    reshape = transpose and producer(transpose.inputs[0], "Reshape")
    return reshape.inputs[0] if reshape else None


def _many_rows(model: ir.Model) -> None:
    """Give the ports of one sentence an axis of sentences: each has a position of its own."""
    ports = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
    for name in ("token", "position", "logits"):
        ports[name].shape = ir.Shape([ROWS, *(ports[name].shape or ())[1:]])
    position = ports["position"]
    users = list(position.uses())
    axis = initializer(model, "int64:1", np.array([1], np.int64))
    (column,) = insert_before(users[0][0], "Unsqueeze", [position, axis], name="embed/places")
    for user, place in users:
        user.replace_input_with(place, column)


def _port(name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def layer_port(value: ir.Value, name: str, shape: list[int | str]) -> ir.Value:
    """`value` as a port of the graph, with its name and shape."""
    value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    return value


def replace_ports(graph: ir.Graph, inputs: tuple[str, ...], outputs: tuple[str, ...], ports: list[ir.Value]) -> None:
    """Take the stacked cache ports away and put one pair for each layer in their place."""
    kept = [value for value in graph.outputs if value.name not in outputs]
    graph.outputs.clear()
    graph.outputs.extend([*kept, *ports])
    dead = [value for value in graph.inputs if value.name in inputs]
    # What still reads the old cache computes nothing that is used; it has to go before the ports can.
    for value in dead:
        _remove_users(graph, value)
        graph.inputs.remove(value)


def _remove_users(graph: ir.Graph, value: ir.Value) -> None:
    for user, _ in list(value.uses()):
        if user.graph is None:
            continue
        for output in user.outputs:
            _remove_users(graph, output)
        if user.graph is not None:
            graph.remove(user, safe=True)
