"""1-D convolutions in their 2-D form: Conv(x [1,C,T], w [O,I,k]) = Squeeze(Conv(Unsqueeze(x), w [O,I,1,k])).

Runtimes keep their fast convolution kernels for two spatial axes. What lies between two convolutions is carried along,
so that only the ends of a chain are reshaped: f(Squeeze(x)) = Squeeze(f(x)) for every operator that works element by
element or on the channel axis, and Unsqueeze(Squeeze(x)) = x. Exact but for
the order in which a kernel sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.passes.base import Outcome, constant, initializer, insert_before, producer, replace

_CONVOLUTIONS = {"Conv", "ConvTranspose"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Relu", "LeakyRelu", "Tanh", "Sigmoid", "Exp"}
_ON_CHANNELS = {"Split", "Concat"}  # with axis 1
_HEIGHT, _WIDTH = 2, 3  # where the axis of size 1 goes


@dataclass(frozen=True)
class Conv2d:
    """See the module."""

    name: ClassVar[str] = "conv2d"
    version: ClassVar[int] = 1
    tall: bool = False

    def apply(self, model: ir.Model) -> Outcome:
        """Rewrite every 1-D convolution with a constant weight."""
        common.ShapeInferencePass()(model)
        one = _WIDTH if self.tall else _HEIGHT
        axes = initializer(model, f"int64:{one}", np.array([one], np.int64))
        changed = 0
        for node in list(model.graph):
            if node.op_type in _CONVOLUTIONS and _lift_convolution(model, node, axes, tall=self.tall):
                changed += 1
        while any(_carry(model, node, axes) for node in list(model.graph)):
            pass
        for node in list(model.graph):
            squeezed = producer(node.inputs[0], "Squeeze") if _is(node, "Unsqueeze", axes) else None
            inner = squeezed.inputs[0] if squeezed is not None and squeezed.inputs[1] is axes else None
            if inner is not None:
                replace(node.outputs[0], inner)
        return Outcome(changed, (f"{changed} convolutions have two spatial axes",))


def _lift_convolution(model: ir.Model, node: ir.Node, axes: ir.Value, *, tall: bool) -> bool:
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 3:
        return False
    name = f"{node.inputs[1].name}:2d"  # type: ignore[union-attr]
    node.replace_input_with(1, initializer(model, name, weight[..., None] if tall else weight[:, :, None, :]))
    for key, fill in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        if key in node.attributes:
            node.attributes[key] = ir.AttrInt64s(key, _along(node.attributes[key].as_ints()[0], fill, tall))
    if "pads" in node.attributes:
        begin, end = node.attributes["pads"].as_ints()
        node.attributes["pads"] = ir.AttrInt64s("pads", [*_along(begin, 0, tall), *_along(end, 0, tall)])
    _lift_node(node, [0], axes)
    return True


def _along(time: int, other: int, tall: bool) -> list[int]:
    return [time, other] if tall else [other, time]


def _carry(model: ir.Model, node: ir.Node, axes: ir.Value) -> bool:
    """Move the Squeezes in front of an operator behind it, where every operand allows it."""
    if node.op_type not in _ELEMENTWISE | _ON_CHANNELS or node.domain:
        return False
    if node.op_type in _ON_CHANNELS and node.attributes["axis"].as_int() != 1:
        return False
    operands = [
        index
        for index, value in enumerate(node.inputs)
        if value is not None and not _is_scalar(value) and not (node.op_type == "Split" and index == 1)
    ]
    values = [node.inputs[index] for index in operands]
    if not any(_squeezed(value, axes) for value in values):
        return False
    if not all(_squeezed(value, axes) or _has_rank_3(value) for value in values):
        return False
    _lift_node(node, operands, axes)
    return True


def _lift_node(node: ir.Node, operands: list[int], axes: ir.Value) -> None:
    """Unsqueeze these operands (or take what their Squeeze was given) and squeeze every output."""
    for index in operands:
        value = node.inputs[index]
        assert value is not None
        squeeze = _squeezed(value, axes)
        lifted = (
            squeeze.inputs[0]
            if squeeze
            else insert_before(node, "Unsqueeze", [value, axes], name=f"{node.name}/lift{index}")[0]
        )
        node.replace_input_with(index, lifted)
    graph = node.graph
    assert graph is not None
    after = node
    for number, output in enumerate(node.outputs):
        squeeze = ir.node("Squeeze", [output, axes], name=f"{node.name}/squeeze{number}")
        squeeze.outputs[0].name = f"{output.name}/1d"
        squeeze.outputs[0].shape, squeeze.outputs[0].type = output.shape, output.type
        output.shape = None
        for user, position in tuple(output.uses()):
            user.replace_input_with(position, squeeze.outputs[0])
        squeeze.replace_input_with(0, output)
        for position, value in enumerate(graph.outputs):
            if value is output:
                graph.outputs[position] = squeeze.outputs[0]
                output.name, squeeze.outputs[0].name = f"{output.name}/2d", output.name
        graph.insert_after(after, squeeze)
        after = squeeze


def _squeezed(value: ir.Value | None, axes: ir.Value) -> ir.Node | None:
    node = producer(value, "Squeeze")
    return node if node is not None and node.inputs[1] is axes else None


def _is(node: ir.Node, op_type: str, axes: ir.Value) -> bool:
    return node.op_type == op_type and len(node.inputs) > 1 and node.inputs[1] is axes


def _is_scalar(value: ir.Value) -> bool:
    return value.shape is not None and value.shape.rank() == 0


def _has_rank_3(value: ir.Value | None) -> bool:
    return value is not None and value.shape is not None and value.shape.rank() == 3
