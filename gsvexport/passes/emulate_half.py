"""What FP16 hardware computes, in a graph that a processor without FP16 runs: FP32 arithmetic, explicitly rounded.

Two bounds, because a compiler chooses the accumulator and says so nowhere:

    accumulate "single"  every FP16 tensor is rounded, sums inside an operator are FP32: what tensor cores do at best
    accumulate "half"    products and convolutions also round their running sum to FP16 after every group of products,
                         one group after the other: what FP16 accumulators do at worst

A tensor core adds up to 16 products at once and then rounds into its accumulator (Fasi et al. 2021, "Numerical behavior
of NVIDIA tensor cores"); 16 is therefore the group here. The graph's ports keep their types.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, attribute, constant, initializer
from gsvexport.passes.types import annotate_types

FP32, FP16, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT64, ir.DataType.BOOL
GROUP = 16  # products that are added before the sum is rounded
# What gives back values that it was given: rounding them again changes nothing.
_EXACT = {
    *("Concat", "Expand", "Gather", "GatherElements", "Identity", "Max", "Min", "Pad", "Relu", "Reshape", "Slice"),
    *("Split", "Squeeze", "TensorScatter", "Transpose", "Unsqueeze", "Where"),
}
_SUMS = {"MatMul": (-1, -2), "Conv": (1, 1), "ConvTranspose": (1, 0)}  # the summed axis of the two operands


@dataclass(frozen=True)
class EmulateHalf:
    """See the module."""

    name: ClassVar[str] = "emulate-half"
    version: ClassVar[int] = 1
    accumulate: Literal["single", "half"] = "single"

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`, whose edges are all typed, before and afterwards."""
        annotate_types(model)
        graph = model.graph
        outputs = [value.name for value in graph.outputs if value.dtype == FP16]
        nodes = list(graph)
        if self.accumulate == "half":
            for node in nodes:
                _ungroup(model, node)
        given = [*graph.inputs, *graph.initializers.values()]
        single = {value: _cast(graph, value, FP32, f"{value.name}/single") for value in given if value.dtype == FP16}
        rounded = summed = 0
        for node in nodes:
            for index, value in enumerate(node.inputs):
                if value in single:
                    node.replace_input_with(index, single[value])
            results = [value for value in node.outputs if value.dtype == FP16]
            if not results:
                continue
            for value in results:
                value.type = ir.TensorType(FP32)
            if node.op_type == "Cast":
                node.attributes["to"] = ir.AttrInt64("to", int(FP32))
            elif self.accumulate == "half" and node.op_type in _SUMS:
                results = [_sum_in_half(model, node)]
                summed += 1
            if node.op_type not in _EXACT:
                for value in results:
                    _round(graph, value)
                rounded += len(results)
        for index, value in enumerate(graph.outputs):
            if value.name in outputs:
                name = str(value.name)
                value.name = f"{name}/single"
                graph.outputs[index] = _cast(graph, value, FP16, name)
        graph.sort()
        return Outcome(rounded, (f"{rounded} tensors rounded to FP16, {summed} operators with FP16 sums",))


def _cast(graph: ir.Graph, value: ir.Value, to: ir.DataType, name: str) -> ir.Value:
    """A Cast at the end of the graph; `apply` sorts the nodes."""
    node = ir.node("Cast", [value], {"to": to}, name=name)
    out = node.outputs[0]
    out.name, out.type, out.shape = name, ir.TensorType(to), value.shape
    graph.append(node)
    return out


def _round(graph: ir.Graph, value: ir.Value) -> None:
    """Let everything that reads `value` (FP32) read what FP16 keeps of it; an output of the graph hands its name on."""
    users, name, is_output = list(value.uses()), str(value.name), value.is_graph_output()
    if is_output:
        value.name = f"{name}/exact"
    half = _cast(graph, value, FP16, f"{name}/half")
    back = _cast(graph, half, FP32, name if is_output else f"{name}/rounded")
    for user, index in users:
        user.replace_input_with(index, back)
    if is_output:
        graph.outputs[[output is value for output in graph.outputs].index(True)] = back


def _ungroup(model: ir.Model, node: ir.Node) -> None:
    """Give a convolution in groups of channels the weight of one over all channels; its zeros add nothing."""
    groups = int(attribute(node, "group", 1))
    weight = constant(node.inputs[1]) if node.op_type == "Conv" and groups > 1 else None
    if weight is None:
        return
    outputs, width = len(weight), weight.shape[1]
    whole = np.zeros((outputs, groups * width, *weight.shape[2:]), weight.dtype)
    for index in range(groups):
        mine = slice(index * outputs // groups, (index + 1) * outputs // groups)
        whole[mine, index * width : (index + 1) * width] = weight[mine]
    node.replace_input_with(1, initializer(model, f"{node.name}/whole", whole))
    del node.attributes["group"]


def _sum_in_half(model: ir.Model, node: ir.Node) -> ir.Value:
    """The same product or convolution, summed group by group; returns its value, which takes the old one's place.

    s = 0;  for each group g of the summed axis:  s = half(s + op(a[g], b[g]));  s + bias
    """
    graph, axes = model.graph, _SUMS[node.op_type]
    width = max(1, GROUP // _taps(node))
    a, b, bias = (*node.inputs, None)[:3]

    def add(into: ir.Graph, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        made = ir.node(op_type, inputs, attributes)
        made.outputs[0].name = f"{node.name}/{len(into)}{'g' if into is not graph else ''}"
        into.append(made)
        return made.outputs[0]

    def ints(*values: int) -> ir.Value:
        return initializer(model, f"emulate:ints:{','.join(map(str, values))}", np.array(values, np.int64))

    def part(into: ir.Graph, start: ir.Value, end: ir.Value) -> ir.Value:
        """The operator on a part of the summed axis; a Slice beyond the end stops there."""
        sliced = [add(into, "Slice", [x, start, end, ints(axis)]) for x, axis in zip((a, b), axes, strict=True)]
        return add(into, node.op_type, sliced, **{key: item.value for key, item in node.attributes.items()})

    length = add(graph, "Gather", [add(graph, "Shape", [a]), ints(axes[0])], axis=0)
    groups = add(graph, "Div", [add(graph, "Add", [length, ints(width - 1)]), ints(width)])
    zero = initializer(model, "emulate:zero", np.zeros((), np.float32))
    start = add(graph, "Mul", [part(graph, ints(0), ints(1)), zero])  # zeros of the result's shape

    number, go_on, total = (
        ir.Value(name=f"{node.name}/{name}", type=ir.TensorType(dtype), shape=shape)
        for name, dtype, shape in (("number", INT64, ir.Shape([])), ("go", BOOL, ir.Shape([])), ("sum", FP32, None))
    )
    body = ir.Graph([number, go_on, total], [], nodes=[], name=f"{node.name}/group", opset_imports={"": 17})
    first = add(body, "Mul", [number, ints(width)])
    grown = add(body, "Add", [total, part(body, first, add(body, "Add", [first, ints(width)]))])
    halved = add(body, "Cast", [add(body, "Cast", [grown], to=FP16)], to=FP32)
    same = add(body, "Identity", [go_on])
    same.type, same.shape, halved.type = ir.TensorType(BOOL), ir.Shape([]), ir.TensorType(FP32)
    body.outputs.extend([same, halved])
    count = add(graph, "Squeeze", [groups, ints(0)])
    loop = ir.node("Loop", [count, None, start], {"body": body}, name=f"{node.name}/groups")
    loop.outputs[0].name = f"{node.name}/total"
    graph.append(loop)
    result = loop.outputs[0]
    if bias is not None:
        result = add(graph, "Add", [result, add(graph, "Unsqueeze", [bias, ints(0, 2)])])
    result.type = ir.TensorType(FP32)
    old = node.outputs[0]
    for user, index in list(old.uses()):
        user.replace_input_with(index, result)
    if old.is_graph_output():
        graph.outputs[[output is old for output in graph.outputs].index(True)] = result
        result.name, old.name = old.name, f"{old.name}/replaced"
        result.shape = old.shape
    return result


def _taps(node: ir.Node) -> int:
    """How many products of one channel each result of a convolution sums; 1 for a matrix product."""
    if node.op_type == "MatMul":
        return 1
    taps = int(np.prod(attribute(node, "kernel_shape")))
    return taps if node.op_type == "Conv" else -(-taps // int(np.prod(attribute(node, "strides", [1]))))
