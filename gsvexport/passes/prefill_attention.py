"""The attention of `prefill` without what its mask throws away, and a cache in the layout of `step`.

Text sees text only, and a code what came before it. One masked product of all S = X+Y rows computes X·Y scores of text
with codes and drops them. Here text and codes are two products:

    text    softmax(q[:X] k[:X]ᵀ) v[:X]                codes    softmax(q[X:] kᵀ + mask[X:]) v

ONNX Runtime 1.32 takes less time than for one MultiHeadAttention with the mask as its bias, or for GroupQueryAttention
on the codes (docs/t2s.md has figures). The numbers are those of the source.

The last layer is read at its last row alone, which sees everything: one query, no mask, one row through the rest.

Each layer returns its keys and values as `new_keys_i`, `new_values_i` [1, H, S, D/H].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Adder, Outcome, constant, replace
from gsvexport.passes.fuse_attention import Attention, find_attentions, layer_port, replace_ports

_END = 2**31 - 1


@dataclass(frozen=True)
class PrefillAttention:
    """See the module. `heads` is H, `width` is D."""

    name: ClassVar[str] = "prefill-attention"
    version: ClassVar[int] = 1
    heads: int
    width: int

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; its cache outputs become one pair for each layer."""
        graph = model.graph
        layers = find_attentions(graph)
        for index, layer in enumerate(layers):
            if layer.mask is None:
                raise PassError(f"{self.name}: layer {index} has no mask", fix="apply it to the prefill stage")
        add = Adder(model, "attention")
        phones = next(value for value in graph.inputs if value.name == "phones")
        text = add("Shape", phones, start=1, end=2)
        mask = add("Slice", layers[0].mask, text, add.ints(_END), add.ints(0))
        shape: list[int | str] = [1, self.heads, "X+Y", self.width // self.heads]
        ports: list[ir.Value] = []
        for index, layer in enumerate(layers):
            keys, values = (self._heads(add, value, [0, 2, 1, 3]) for value in layer.split.outputs[1:])
            ports += [layer_port(keys, f"new_keys_{index}", shape), layer_port(values, f"new_values_{index}", shape)]
            if layer is layers[-1]:
                replace(layer.merged, self._last_row(add, layer, values))
            else:
                replace(layer.merged, self._both(add, layer, values, text, mask))
        replace_ports(graph, (), ("keys", "values"), ports)
        add.finish()
        return Outcome(len(layers), (f"{len(layers)} attentions in two parts, the last one for one row",))

    def _heads(self, add: Adder, value: ir.Value, perm: list[int]) -> ir.Value:
        """[1, S, D] → [1, H, S, D/H] or, by another `perm`, its transpose."""
        split = add("Reshape", value, add.ints(1, -1, self.heads, self.width // self.heads))
        return add("Transpose", split, perm=perm)

    def _merged(self, add: Adder, value: ir.Value) -> ir.Value:
        return add("Reshape", add("Transpose", value, perm=[0, 2, 1, 3]), add.ints(1, -1, self.width))

    def _both(self, add: Adder, layer: Attention, values: ir.Value, text: ir.Value, mask: ir.Value) -> ir.Value:
        queries = self._heads(add, layer.split.outputs[0], [0, 2, 1, 3])
        keys = self._heads(add, layer.split.outputs[1], [0, 2, 3, 1])
        start, rows, columns = add.ints(0), add.ints(2), add.ints(3)

        def attended(q: ir.Value, k: ir.Value, v: ir.Value, bias: ir.Value | None) -> ir.Value:
            scores = add("MatMul", q, k)
            weights = add("Softmax", scores if bias is None else add("Add", scores, bias), axis=-1)
            return add("MatMul", weights, v)

        of_text = attended(
            add("Slice", queries, start, text, rows),
            add("Slice", keys, start, text, columns),
            add("Slice", values, start, text, rows),
            None,
        )
        of_codes = attended(add("Slice", queries, text, add.ints(_END), rows), keys, values, mask)
        return self._merged(add, add("Concat", of_text, of_codes, axis=2))

    def _last_row(self, add: Adder, layer: Attention, values: ir.Value) -> ir.Value:
        query = self._heads(add, _last(add, layer.split.outputs[0]), [0, 2, 1, 3])
        weights = add("Softmax", add("MatMul", query, self._heads(add, layer.split.outputs[1], [0, 2, 3, 1])), axis=-1)
        residual, place = _residual(layer.merged)
        residual.replace_input_with(place, _last(add, residual.inputs[place]))
        return self._merged(add, add("MatMul", weights, values))


def _last(add: Adder, rows: ir.Value | None) -> ir.Value:
    """[1, S, D] → [1, 1, D]."""
    return add("Slice", rows, add.ints(-1), add.ints(_END), add.ints(1))


def _residual(merged: ir.Value) -> tuple[ir.Node, int]:
    """The Add behind an attention's projection that takes what went into the layer, and its place there."""
    projected = next(iter(merged.uses()))[0]
    biased = next(iter(projected.outputs[0].uses()))[0]
    added = next(iter(biased.outputs[0].uses()))[0]
    if (projected.op_type, biased.op_type, added.op_type) != ("MatMul", "Add", "Add") or all(
        constant(value) is None for value in biased.inputs
    ):
        raise PassError("the last layer of prefill has another form", found=f"{projected.name}, {added.name}")
    return added, 1 - added.inputs.index(biased.outputs[0])
