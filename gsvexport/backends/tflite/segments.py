"""Cutting a graph where its rate changes and before its last convolution, and what its parts cost and depend on.

An upsampling is a convolution whose phases a RESHAPE interleaves. Everything between two of them runs at one rate, a
multiple of that of the first frames, and one tensor alone leads from one segment to the next: what the leaky ReLU
before the upsampling is given. What it makes of that needs the finest integers of all: of negative values it leaves a
tenth. (Demo voice, the second segment alone on integers: log-mel error 0.031 when it ends before the leaky ReLU, 0.056
when it ends behind it, of 0.05 that are allowed.)

The last convolution gives the sound itself, and eight bits are no sound: it is a part of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from gsvexport.backends.tflite.graph import Graph, Operator
from gsvexport.errors import BackendError

TIME, CHANNELS = 2, 3  # axes of [1, 1, T, C]


def segments(graph: Graph) -> list[Graph]:
    """The parts of `graph`, one for each rate and one for the last convolution, in order. Each begins with the tensor
    that the one before it gives.

    Raises:
        BackendError: a part needs more of what was computed before than that one tensor.
    """
    writers = {index: operator for operator in graph.operators for index in operator.outputs}
    convolutions = [operator for operator in graph.operators if operator.kind == "CONV_2D"]
    firsts = [writers[operator.inputs[0]] for operator in graph.operators if operator.kind == "RESHAPE"]
    if firsts and convolutions[-1] is not firsts[-1]:
        firsts.append(convolutions[-1])
    found, begin = [], graph.inputs
    for first in firsts:
        end = (_before_leaky_relu(writers, _unpadded(writers, first.inputs[0])),)
        if end != begin:
            found.append(part(graph, begin, end))
            begin = end
    return [*found, part(graph, begin, graph.outputs)]


def _unpadded(writers: Mapping[int, Operator], index: int) -> int:
    """x, where a tensor is x with zeros around it; else the tensor itself."""
    before = writers.get(index)
    return before.inputs[0] if before is not None and before.kind == "PAD" else index


def _before_leaky_relu(writers: Mapping[int, Operator], index: int) -> int:
    """x, where a tensor is max(x, a·x); else the tensor itself."""
    largest = writers.get(index)
    if largest is None or largest.kind != "MAXIMUM":
        return index
    x, low = largest.inputs
    product = writers.get(low)
    return x if product is not None and product.kind == "MUL" and x in product.inputs else index


def joined(graph: Graph, first: Sequence[Graph]) -> Graph:
    """The part of `graph` that the first of its `segments` make together."""
    names = {tensor.name: index for index, tensor in enumerate(graph.tensors)}
    last = first[-1]
    return part(graph, graph.inputs, tuple(names[last.tensors[index].name] for index in last.outputs))


def rest(graph: Graph, first: Sequence[Graph]) -> Graph:
    """What follows after `joined`."""
    names = {tensor.name: index for index, tensor in enumerate(graph.tensors)}
    last = first[-1]
    return part(graph, tuple(names[last.tensors[index].name] for index in last.outputs), graph.outputs)


def part(graph: Graph, begin: Sequence[int], end: Sequence[int]) -> Graph:
    """The operators that compute the tensors `end` from the tensors `begin` and constants."""
    writers = {index: operator for operator in graph.operators for index in operator.outputs}
    needed: set[int] = set()
    pending = [index for index in end if index not in begin]
    while pending:
        index = pending.pop()
        if index in needed or index < 0:
            continue
        needed.add(index)
        operator = writers.get(index)
        if operator is None:
            if graph.tensors[index].data is None:
                names = ", ".join(graph.tensors[one].name for one in begin)
                raise BackendError(
                    f"{graph.description}: the part after {names} also needs {graph.tensors[index].name}",
                    fix="cut the graph somewhere else",
                )
            continue
        pending += [one for one in operator.inputs if one not in begin]
    operators = [operator for operator in graph.operators if needed.intersection(operator.outputs)]
    kept = sorted(
        {*begin, *end, *(one for operator in operators for one in (*operator.inputs, *operator.outputs))} - {-1}
    )
    place = {-1: -1, **{old: new for new, old in enumerate(kept)}}

    def moved(operator: Operator) -> Operator:
        inputs, outputs = (tuple(place[one] for one in ends) for ends in (operator.inputs, operator.outputs))
        return replace(operator, inputs=inputs, outputs=outputs)

    ends = [tuple(place[one] for one in ends) for ends in (begin, end)]
    tensors = tuple(graph.tensors[index] for index in kept)
    return Graph(tensors, tuple(map(moved, operators)), ends[0], ends[1], graph.description)


def computed(graph: Graph) -> list[str]:
    """Names of what a graph is given and what it computes: everything but its constants."""
    return [tensor.name for tensor in graph.tensors if tensor.data is None]


def frames(graph: Graph) -> int:
    """Frames of the graph's window: the longest of its inputs."""
    return max(graph.tensors[index].shape[TIME] for index in graph.inputs)


def rate(graph: Graph) -> int:
    """How many frames come out for each that goes in."""
    return graph.tensors[graph.outputs[0]].shape[TIME] // frames(graph)


def products(graph: Graph) -> int:
    """Multiplications of the convolutions for one window."""
    found = 0
    for operator in graph.operators:
        if operator.kind == "CONV_2D":
            weights = int(np.prod(graph.tensors[operator.inputs[1]].shape))
            found += graph.tensors[operator.outputs[0]].shape[TIME] * weights
    return found


def context(graph: Graph) -> tuple[int, int]:
    """(left, right): how many input frames before and after one the output frames that belong to it depend on.

    An interval of wanted frames is carried backwards. A convolution with kernel k, dilation d, stride s and p frames of
    padding in front makes of [low, high) the interval [low·s - p, (high-1)·s - p + (k-1)·d + 1). The zeros that fill a
    polyphase kernel count as taps, so a frame too many may be looked at.
    """
    wanted: dict[int, tuple[int, int]] = {index: (0, rate(graph)) for index in graph.outputs}
    for operator in reversed(graph.operators):
        low, high = wanted[operator.outputs[0]]
        x, y = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
        if operator.kind == "CONV_2D":
            step, dilation = int(operator.options["stride_w"]), int(operator.options["dilation_w_factor"])
            span = (graph.tensors[operator.inputs[1]].shape[TIME] - 1) * dilation
            before = span // 2 if operator.options["padding"] == "SAME" else 0
            low, high = low * step - before, (high - 1) * step - before + span + 1
        elif operator.kind == "PAD":
            before = int(graph.tensors[operator.inputs[1]].data[TIME, 0])  # type: ignore[index]
            low, high = low - before, high - before
        elif operator.kind == "RESHAPE":
            step = y.shape[TIME] // x.shape[TIME]
            low, high = low // step, -(-high // step)
        for index in operator.inputs:
            if index >= 0:
                known = wanted.get(index, (low, high))
                wanted[index] = (min(low, known[0]), max(high, known[1]))
    ends = [wanted.get(index, (0, 1)) for index in graph.inputs if graph.tensors[index].shape[TIME] == frames(graph)]
    return max(-low for low, _ in ends), max(high - 1 for _, high in ends)
