"""The attention of `prefill` without what its mask throws away, and a cache in the layout of `step`.

Text sees text only, and a code what came before it. One masked product of all S = X+Y rows computes X·Y scores of text
with codes and drops them. Here rows are taken in parts, text and then a quarter of the codes at a time, and each part
sees the rows before its end b alone:

    text    softmax(q[:X] k[:X]ᵀ) v[:X]                codes    softmax(q[a:b] k[:b]ᵀ + mask[a:b, :b]) v[:b]

A softmax is slow where its mask is, because e to a number so small is a denormal one; parts leave little of that.
ONNX Runtime 1.32 takes less time than for one MultiHeadAttention with the mask as its bias, or for GroupQueryAttention
on the codes (docs/t2s.md has figures). The numbers are those of the source.

The last layer is read at its last row alone, which sees everything: one query, no mask, one row through the rest.

Each layer returns its keys and values as `new_keys_i`, `new_values_i` [1, H, S, D/H].

With `turned` heads are taken from the projection's columns [1, D, S], and what was attended is given back as such, for
products that have rows as columns (`integer_rows`): nothing is turned between them but keys and values for the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Adder, Outcome, constant, replace
from gsvexport.passes.fuse_attention import Attention, find_attentions, layer_port, replace_ports

_END = 2**31 - 1
_PARTS = 4  # of the codes


@dataclass(frozen=True)
class PrefillAttention:
    """See the module. `heads` is H, `width` is D, `turned` the layout of the products around."""

    name: ClassVar[str] = "prefill-attention"
    version: ClassVar[int] = 1
    heads: int
    width: int
    turned: bool = False

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; its cache outputs become one pair for each layer."""
        graph = model.graph
        layers = find_attentions(graph)
        for index, layer in enumerate(layers):
            if layer.mask is None:
                raise PassError(f"{self.name}: layer {index} has no mask", fix="apply it to the prefill stage")
        add = Adder(model, "attention")
        phones = next(value for value in graph.inputs if value.name == "phones")
        parts = _parts(add, add("Shape", phones, start=1, end=2), layers[0].mask)
        shape: list[int | str] = [1, self.heads, "X+Y", self.width // self.heads]
        ports: list[ir.Value] = []
        for index, layer in enumerate(layers):
            turn = [0, 2, 3, 1] if self.turned else [0, 2, 1, 3]
            given = [self._heads(add, value, turn) for value in layer.split.outputs]
            keys, values = (_swapped(add, value) if self.turned else value for value in given[1:])
            ports += [layer_port(keys, f"new_keys_{index}", shape), layer_port(values, f"new_values_{index}", shape)]
            if layer is layers[-1]:
                replace(layer.merged, self._last_row(add, layer, values))
            else:
                replace(layer.merged, self._attended(add, given, parts))
        replace_ports(graph, (), ("keys", "values"), ports)
        add.finish()
        return Outcome(len(layers), (f"{len(layers)} attentions in parts, the last one for one row",))

    def _heads(self, add: Adder, value: ir.Value, perm: list[int]) -> ir.Value:
        """[1, S, D] → [1, H, S, D/H] or, by another `perm`, its transpose."""
        if self.turned and perm == [0, 2, 3, 1]:
            columns = add("Transpose", value, perm=[0, 2, 1])
            return add("Reshape", columns, add.ints(1, self.heads, self.width // self.heads, -1))
        split = add("Reshape", value, add.ints(1, -1, self.heads, self.width // self.heads))
        return add("Transpose", split, perm=perm)

    def _merged(self, add: Adder, value: ir.Value) -> ir.Value:
        return add("Reshape", add("Transpose", value, perm=[0, 2, 1, 3]), add.ints(1, -1, self.width))

    def _attended(self, add: Adder, given: Sequence[ir.Value], parts: Sequence[_Part]) -> ir.Value:
        """[1, S, D] of what all rows attend to, `given` queries, keys and values: heads [1, H, S, D/H], or
        [1, H, D/H, S] where they are `turned`."""
        queries, keys, values = given
        found, axis = [], add.ints(3 if self.turned else 2)
        for part in parts:
            q = add("Slice", queries, part.start, part.stop, axis)
            k, v = keys, values
            if part is not parts[-1]:
                k, v = (add("Slice", one, add.ints(0), part.stop, axis) for one in (keys, values))
            scores = add("MatMul", *((_swapped(add, q), k) if self.turned else (q, _swapped(add, k))))
            weights = add("Softmax", scores if part.mask is None else add("Add", scores, part.mask), axis=-1)
            found.append(add("MatMul", *((v, _swapped(add, weights)) if self.turned else (weights, v))))
        joined = add("Concat", *found, axis=3 if self.turned else 2)
        if not self.turned:
            return self._merged(add, joined)
        return add("Transpose", add("Reshape", joined, add.ints(1, self.width, -1)), perm=[0, 2, 1])

    def _last_row(self, add: Adder, layer: Attention, values: ir.Value) -> ir.Value:
        query = self._heads(add, _last(add, layer.split.outputs[0]), [0, 2, 1, 3])
        weights = add("Softmax", add("MatMul", query, self._heads(add, layer.split.outputs[1], [0, 2, 3, 1])), axis=-1)
        residual, place = _residual(layer.merged)
        residual.replace_input_with(place, _last(add, residual.inputs[place]))
        return self._merged(add, add("MatMul", weights, values))


@dataclass(frozen=True)
class _Part:
    """Rows that attend to all before `stop`, themselves among them, by `mask` [n, stop]."""

    start: ir.Value
    stop: ir.Value
    mask: ir.Value | None


def _parts(add: Adder, text: ir.Value, mask: ir.Value | None) -> list[_Part]:
    """The text, and the codes in `_PARTS` parts."""
    count = add("Sub", add("Slice", add("Shape", mask), add.ints(0), add.ints(1)), text)
    bounds = [text]
    for index in range(1, _PARTS + 1):
        share = add("Div", add("Mul", count, add.ints(index)), add.ints(_PARTS))
        bounds.append(add("Add", text, share))
    both, zeros = add.ints(0, 1), add.ints(0)
    found = [_Part(zeros, text, None)]
    for start, stop in pairwise(bounds):
        corner = add("Concat", start, zeros, axis=0)
        found.append(_Part(start, stop, add("Slice", mask, corner, add("Concat", stop, stop, axis=0), both)))
    return found


def _swapped(add: Adder, value: ir.Value) -> ir.Value:
    """The last two axes exchanged; a product takes it in as one of its own attributes."""
    return add("Transpose", value, perm=[0, 1, 3, 2])


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
