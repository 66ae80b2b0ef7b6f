# ruff: noqa: A002, D103 - arguments are called as in edgetpu.toml
"""The kinds of limit that edgetpu.toml may set on an operator: one function each, which says what breaks it.

A kind is called with the operator that it judges and, by name, with the arguments of its line in the table. It yields
one sentence, found and allowed, for everything that breaks it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gsvexport.backends.tflite.graph import Graph, Operator, Tensor

Hits = Iterator[str]


@dataclass(frozen=True)
class Site:
    """One operator in its graph."""

    graph: Graph
    operator: Operator

    def input(self, index: int) -> Tensor | None:
        """Input number `index`; None where it is left out."""
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[index]] if index < len(inputs) and inputs[index] >= 0 else None

    def inputs(self) -> list[tuple[int, Tensor]]:
        """Every input that is there, with its number."""
        found = ((index, self.input(index)) for index in range(len(self.operator.inputs)))
        return [(index, tensor) for index, tensor in found if tensor is not None]

    def outputs(self) -> list[Tensor]:
        """Every output."""
        return [self.graph.tensors[index] for index in self.operator.outputs]

    def numbers(self, index: int) -> list[int]:
        """The whole numbers of a constant input; empty where it is none, which is another rule's to say."""
        tensor = self.input(index)
        return [] if tensor is None or tensor.data is None else [int(value) for value in tensor.data.reshape(-1)]

    def axes(self, index: int) -> set[int]:
        """The axes that a constant input names, counted from the front; of the first tensor that is computed."""
        rank = next((len(tensor.shape) for _, tensor in self.inputs() if tensor.data is None), 0)
        return {axis % rank if rank else axis for axis in self.numbers(index)}


def equal(site: Site, *, options: Sequence[str]) -> Hits:
    found = [site.operator.options.get(name, 1) for name in options]
    if len(set(found)) > 1:
        yield " and ".join(f"{name} {value}" for name, value in zip(options, found, strict=True)) + "; must be equal"


def option(site: Site, *, option: str, allowed: Sequence[Any]) -> Hits:
    if option in site.operator.options and (found := site.operator.options[option]) not in allowed:
        yield f"{option} {found}; allowed: {', '.join(map(str, allowed))}"


def most_inputs(site: Site, *, value: int) -> Hits:
    if len(site.inputs()) > value:
        yield f"{len(site.inputs())} inputs, {value} allowed: no bias"


def zero_constants(site: Site, *, most: int) -> Hits:
    constants = [tensor for _, tensor in site.inputs() if tensor.data is not None]
    if constants and len(site.inputs()) > most:
        yield f"{len(site.inputs())} inputs, a constant among them; with one, {most} are allowed"
    for tensor in constants:
        if np.any(tensor.data != _zero(tensor)):
            yield f"the constant '{tensor.name}' is not all zero"


def one_axis(site: Site, *, side: str, index: int = 0) -> Hits:
    tensor = site.outputs()[index] if side == "output" else site.input(index)
    if tensor is not None and any(size > 1 for size in tensor.shape[:-1]):
        yield f"{side} {index} is {sizes(tensor.shape)}; only the innermost axis may be larger than 1"


def most_elements(site: Site, *, value: int) -> Hits:
    tensor = site.input(0)
    if tensor is not None and math.prod(tensor.shape) > value:
        yield f"input 0 has {math.prod(tensor.shape)} elements; at most {value}"


def not_batch(site: Site, *, input: int) -> Hits:
    if 0 in site.axes(input):
        yield "along the batch axis, 0; any other is allowed"


def not_channels(site: Site, *, input: int) -> Hits:
    tensor = site.input(0)
    if tensor is not None and len(tensor.shape) - 1 in site.axes(input):
        yield "along the innermost axis; only height and width are allowed"


def channels_by(site: Site, *, input: int, value: int) -> Hits:
    tensor = site.input(0)
    if tensor is not None and len(tensor.shape) - 1 in site.axes(input) and tensor.shape[-1] % value:
        yield f"along the innermost axis of {tensor.shape[-1]}; its size must be a multiple of {value}"


def axis_not_batch(site: Site) -> Hits:
    if site.operator.options.get("axis", 0) == 0:
        yield "along the batch axis, 0; any other is allowed"


def no_padding(site: Site, *, axes: Sequence[int]) -> Hits:
    pads = site.numbers(1)
    for axis in axes:
        if any(pads[2 * axis : 2 * axis + 2]):
            yield f"axis {axis} is padded by {pads[2 * axis : 2 * axis + 2]}; must be 0"


def ones(site: Site, *, input: int) -> Hits:
    if any(value != 1 for value in site.numbers(input)):
        yield f"strides {site.numbers(input)}; must be all 1"


def leading_axes(site: Site) -> Hits:
    tensor = site.input(0)
    squeezed = sorted(site.operator.options.get("squeeze_dims", ()))
    if tensor is not None and squeezed != list(range(len(squeezed))):
        yield f"squeezes axes {squeezed}; only the first ones may go"


KINDS: dict[str, Callable[..., Hits]] = {
    kind.__name__: kind
    for kind in (
        equal, option, most_inputs, zero_constants, one_axis, most_elements, not_batch, not_channels, channels_by,
        axis_not_batch, no_padding, ones, leading_axes,
    )
}  # fmt: skip


def sizes(shape: Sequence[int]) -> str:
    """A shape in words."""
    return "×".join(map(str, shape)) or "a single number"


def _zero(tensor: Tensor) -> int:
    return tensor.quantisation.zero_point[0] if tensor.quantisation else 0
