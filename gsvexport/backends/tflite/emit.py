"""ONNX → TFLite: one operator after another, in float, with time on the axis that images call width.

[1, C, T] and [1, C, 1, T] become [1, 1, T, C], so nothing is ever transposed. Equal numbers but for the order of sums.

    Conv            CONV_2D, SAME where that is its padding, else PAD and VALID; dilation (d, d), which a kernel of
                    height 1 cannot tell from (1, d) and an Edge TPU takes
    polyphase       RESHAPE: phases are the outer half of the channels, so interleaving them moves nothing
    Mul, Add, …     as they are

The axis of time has the length that was asked for, but no constant depends on it: LiteRT may resize a graph's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from gsvexport.backends.tflite.graph import Graph, Operator, Tensor
from gsvexport.errors import BackendError
from gsvexport.passes.base import attribute, constant, producer

# Where the axes of ONNX lie in [N, 1, T, C], by rank.
_LAYOUT = {2: (0, 2), 3: (0, 3, 2), 4: (0, 3, 1, 2)}
_NONE = {"fused_activation_function": "NONE"}


class _Refused(Exception):
    """Why a node cannot be emitted."""


@dataclass
class _Emitter:
    """What was emitted so far; `known` maps an ONNX value to the tensor that holds it, `ranks` to its axes in ONNX."""

    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    known: dict[ir.Value | None, int] = field(default_factory=dict)
    ranks: dict[ir.Value | None, int] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)

    def tensor(self, name: str, shape: Sequence[int], data: np.ndarray | None = None) -> int:
        dtype = "float32" if data is None else data.dtype.name
        self.tensors.append(Tensor(name, tuple(int(axis) for axis in shape), dtype, data))
        return len(self.tensors) - 1

    def constant(self, name: str, array: np.ndarray) -> int:
        if name not in self.constants:
            # A copy: weights are views of a mapped file, which could not be closed while they are held.
            self.constants[name] = self.tensor(name, array.shape, np.array(array, order="C"))
        return self.constants[name]

    def computed(self, value: ir.Value | None) -> int:
        """The tensor of an ONNX value that is no constant."""
        if value not in self.known:
            raise _Refused(f"its input {value.name if value else '(none)'} is a constant or not there")
        return self.known[value]

    def operand(self, value: ir.Value | None, rank: int) -> int:
        """The tensor of a value, constants included; `rank` is that of the node's result, in ONNX."""
        array = constant(value)
        if array is None or value is None:
            return self.computed(value)
        if array.dtype != np.float32:
            raise _Refused(f"its constant {value.name} is {array.dtype}, not float32")
        if array.size == 1:
            return self.constant(f"{value.name}", array.reshape(1))
        if array.ndim != rank:
            raise _Refused(f"its constant {value.name} has {array.ndim} axes instead of {rank}")
        return self.constant(f"{value.name}:{rank}", _nhwc(array))

    def rank(self, value: ir.Value | None) -> int:
        array = constant(value)
        return self.ranks[value] if array is None else array.ndim

    def shape(self, index: int) -> tuple[int, ...]:
        return self.tensors[index].shape

    def add(
        self, node: ir.Node, kind: str, inputs: Sequence[int], shape: Sequence[int], part: str = "", **options: Any
    ) -> int:
        """One operator with one output, which is called like the node's first (`part` tells several apart)."""
        index = self.tensor(f"{node.outputs[0].name}{part}", shape)
        self.operators.append(Operator(kind, _FLOAT_VERSION, tuple(inputs), (index,), options, str(node.name)))
        return index


_FLOAT_VERSION = 1


def emit(model: ir.Model, sizes: Mapping[str, int]) -> Graph:
    """The float graph of `model`, whose free axes have the given `sizes` ("F" -> 32).

    Inputs and outputs keep the names of its ports, [1, 1, T, C] instead of [1, C, T].

    Raises:
        BackendError: what cannot be emitted, every node with its reason.
    """
    emitter, problems = _Emitter(), []
    for port in model.graph.inputs:
        try:
            shape = _static(port, sizes)
            emitter.known[port], emitter.ranks[port] = emitter.tensor(str(port.name), _nhwc_shape(shape)), len(shape)
        except _Refused as reason:
            problems.append(f"input {port.name}: {reason}")
    inputs = tuple(range(len(emitter.tensors)))
    reached = set(model.graph.inputs)
    for node in model.graph:
        reached.update(node.outputs)
        # What hangs on a refused node is not reported as well.
        if any(value in reached and value not in emitter.known for value in node.inputs):
            continue
        try:
            rule = _RULES.get(node.op_type if not node.domain else "")
            if rule is None:
                raise _Refused(_HINTS.get(node.op_type, "there is no rule for it"))
            emitter.known.update(zip(node.outputs, rule(emitter, node), strict=True))
            emitter.ranks.update(dict.fromkeys(node.outputs, _result_rank(emitter, node)))
        except _Refused as reason:
            problems.append(f"{node.name} ({node.op_type}): {reason}")
    if problems:
        raise BackendError(
            f"stage {model.graph.name} cannot be written as a TFLite file",
            problems=problems,
            limit=", ".join(sorted(_RULES)),
        )
    outputs = tuple(emitter.known[value] for value in model.graph.outputs)
    for index, value in zip(outputs, model.graph.outputs, strict=True):
        held = emitter.tensors[index]
        emitter.tensors[index] = Tensor(str(value.name), held.shape, held.dtype)
    return Graph(tuple(emitter.tensors), tuple(emitter.operators), inputs, outputs, str(model.graph.name))


# --- one rule for each operator: it returns the tensors of the node's outputs -----------------------------------------


def _conv(e: _Emitter, node: ir.Node) -> list[int]:
    weight, x = constant(node.inputs[1]), e.computed(node.inputs[0])
    if weight is None or weight.ndim not in (3, 4) or (weight.ndim == 4 and weight.shape[2] != 1):
        raise _Refused("its weight is no constant [O, I, k] or [O, I, 1, k]")
    if attribute(node, "group", 1) != 1:
        raise _Refused(f"it has {attribute(node, 'group')} groups")
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        raise _Refused(f"its padding is {attribute(node, 'auto_pad')}")
    axes = weight.ndim - 2
    stride, dilation = (attribute(node, name, [1] * axes)[-1] for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * 2 * axes)
    if axes == 2 and (pads[0] or pads[2]):
        raise _Refused(f"it pads its axis of height 1: {list(pads)}")
    begin, end = pads[axes - 1], pads[-1]
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        raise _Refused("its bias is computed")
    outputs, span = weight.shape[0], (weight.shape[-1] - 1) * dilation
    _, _, length, channels = e.shape(x)
    # SAME at stride 1 pads span // 2 before and the rest behind.
    same = stride == 1 and (begin, end) == (span // 2, span - span // 2)
    if not same and (begin or end):
        widths = e.constant(f"pads:{begin},{end}", np.array([[0, 0], [0, 0], [begin, end], [0, 0]], np.int32))
        x = e.add(node, "PAD", [x, widths], (1, 1, length + begin + end, channels), "/padded")
    name = node.inputs[1].name  # type: ignore[union-attr]
    kernel = weight.reshape(outputs, channels, 1, -1).transpose(0, 2, 3, 1)
    w = e.constant(f"{name}", kernel)
    if e.shape(w) != kernel.shape:
        raise _Refused(f"its weight {name} is also used in another form")
    b = (
        e.constant(str(node.inputs[2].name), bias)  # type: ignore[union-attr]
        if bias is not None
        else e.constant(f"zeros:{outputs}", np.zeros(outputs, np.float32))
    )
    found = (length + begin + end - span - 1) // stride + 1
    if found < 1:
        raise _Refused(f"{length} frames are too few for its kernel")
    padding = "SAME" if same else "VALID"
    steps = {"stride_h": 1, "stride_w": stride}
    dilations = {"dilation_h_factor": dilation, "dilation_w_factor": dilation}
    return [e.add(node, "CONV_2D", [x, w, b], (1, 1, found, outputs), padding=padding, **steps, **dilations, **_NONE)]


def _reshape(e: _Emitter, node: ir.Node) -> list[int]:
    """Only the last of the three nodes with which `Polyphase` interleaves phases; the two before it pass through."""
    x, wanted = e.computed(node.inputs[0]), constant(node.inputs[1])
    if wanted is None or attribute(node, "allowzero", 0):
        raise _Refused("its shape is computed")
    turned = producer(node.inputs[0], "Transpose")
    split = producer(turned.inputs[0], "Reshape") if turned is not None else None
    _, _, length, channels = e.shape(x)
    if split is None:  # the first of them
        phases, outputs = (wanted[1], wanted[2]) if len(wanted) == 4 else (0, 0)
        users = [user for user, _ in node.outputs[0].uses()]
        fits = len(wanted) == 4 and wanted[0] == 1 and wanted[3] in (-1, length) and phases * outputs == channels
        if not fits or any(user.op_type != "Transpose" for user in users):
            raise _Refused(f"only the interleaving of phases may reshape, not {list(wanted)}")
        return [x]
    _, phases, outputs, _ = constant(split.inputs[1])  # type: ignore[misc]
    if len(wanted) != 4 or tuple(wanted[:3]) != (1, outputs, 1) or wanted[3] not in (-1, length * phases):
        raise _Refused(f"only the interleaving of phases may reshape, not {list(wanted)}")
    shape = e.constant(f"shape:1,1,-1,{outputs}", np.array([1, 1, -1, outputs], np.int32))
    return [e.add(node, "RESHAPE", [x, shape], (1, 1, length * phases, outputs), new_shape=(1, 1, -1, int(outputs)))]


def _transpose(e: _Emitter, node: ir.Node) -> list[int]:
    x = e.computed(node.inputs[0])
    users = [user for user, _ in node.outputs[0].uses()]
    inside = producer(node.inputs[0], "Reshape") is not None and all(user.op_type == "Reshape" for user in users)
    if not inside or list(attribute(node, "perm", [])) != [0, 2, 3, 1] or node.outputs[0].is_graph_output():
        raise _Refused("only the interleaving of phases may transpose")
    return [x]


def _elementwise(kind: str, options: Mapping[str, Any]) -> Callable[[_Emitter, ir.Node], list[int]]:
    def rule(e: _Emitter, node: ir.Node) -> list[int]:
        if len(node.inputs) != 2:
            raise _Refused(f"it has {len(node.inputs)} operands instead of 2")
        rank = max(e.rank(value) for value in node.inputs)
        operands = [e.operand(value, rank) for value in node.inputs]
        shape = np.broadcast_shapes(*(e.shape(one) for one in operands))
        return [e.add(node, kind, operands, shape, **options)]

    return rule


def _unary(kind: str) -> Callable[[_Emitter, ir.Node], list[int]]:
    def rule(e: _Emitter, node: ir.Node) -> list[int]:
        x = e.computed(node.inputs[0])
        return [e.add(node, kind, [x], e.shape(x))]

    return rule


def _concat(e: _Emitter, node: ir.Node) -> list[int]:
    operands = [e.computed(value) for value in node.inputs]
    axis = _axis(node, attribute(node, "axis"), e.rank(node.inputs[0]))
    shape = list(e.shape(operands[0]))
    shape[axis] = sum(e.shape(one)[axis] for one in operands)
    return [e.add(node, "CONCATENATION", operands, shape, axis=axis, **_NONE)]


def _split(e: _Emitter, node: ir.Node) -> list[int]:
    x, count = e.computed(node.inputs[0]), len(node.outputs)
    axis = _axis(node, attribute(node, "axis", 0), e.rank(node.inputs[0]))
    total = e.shape(x)[axis]
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axis == 2 or (len(node.inputs) > 1 and given is None) or (given is None and total % count):
        raise _Refused("only channels are split, into constant parts")
    sizes = [total // count] * count if given is None else [int(size) for size in given]
    starts = np.cumsum([0, *sizes])
    return [
        _cut(e, node, x, axis, int(s), size, f"/{i}") for i, (s, size) in enumerate(zip(starts, sizes, strict=False))
    ]


def _slice(e: _Emitter, node: ir.Node) -> list[int]:
    x, given = e.computed(node.inputs[0]), [constant(value) for value in node.inputs[1:]]
    if any(array is None or array.size != 1 for array in given) or len(given) < 3:
        raise _Refused("its bounds are no constants on one axis")
    start, stop, axis, *step = (int(array.reshape(-1)[0]) for array in given if array is not None)
    axis = _axis(node, axis, e.rank(node.inputs[0]))
    if step not in ([], [1]) or axis == 2:
        raise _Refused("only channels are cut, in steps of 1")
    first, last, _ = slice(start, stop).indices(e.shape(x)[axis])
    if last <= first:
        raise _Refused("it leaves nothing")
    return [_cut(e, node, x, axis, first, last - first)]


def _cut(e: _Emitter, node: ir.Node, x: int, axis: int, start: int, size: int, part: str = "") -> int:
    begin, count, shape = [0] * 4, [-1] * 4, list(e.shape(x))  # -1: all there is
    begin[axis], count[axis], shape[axis] = start, size, size
    operands = [e.constant(f"ints:{values}", np.array(values, np.int32)) for values in (begin, count)]
    return e.add(node, "SLICE", [x, *operands], shape, part)


def _same(e: _Emitter, node: ir.Node) -> list[int]:
    """A node that only renames axes: those of size 1 have a place of their own in [1, 1, T, C]."""
    x = e.computed(node.inputs[0])
    if node.op_type in ("Squeeze", "Unsqueeze"):
        axes, rank = constant(node.inputs[1]) if len(node.inputs) > 1 else None, e.rank(node.inputs[0])
        places = None if axes is None else [int(axis) for axis in axes.reshape(-1)]
        last = places == [1] and rank == 3 and e.shape(x)[3] == 1 and node.outputs[0].is_graph_output()
        height = places == [2] and rank == (4 if node.op_type == "Squeeze" else 3)
        if not height and not (last and node.op_type == "Squeeze"):
            raise _Refused(f"axes {places} of {rank} are not those of height")
    return [x]


_RULES: dict[str, Callable[[_Emitter, ir.Node], list[int]]] = {
    "Conv": _conv,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Add": _elementwise("ADD", _NONE),
    "Sub": _elementwise("SUB", _NONE),
    "Mul": _elementwise("MUL", _NONE),
    "Max": _elementwise("MAXIMUM", {}),
    "Relu": _unary("RELU"),
    "Tanh": _unary("TANH"),
    "Sigmoid": _unary("LOGISTIC"),
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Identity": _same,
}
_HINTS = {
    "ConvTranspose": "the pass polyphase did not rewrite it",
    "LeakyRelu": "the pass split-leaky-relu did not rewrite it",
    "Div": "its divisor is no constant",
}


def _result_rank(e: _Emitter, node: ir.Node) -> int:
    if node.op_type == "Reshape":
        return int(np.size(constant(node.inputs[1])))  # type: ignore[arg-type]
    change = {"Squeeze": -1, "Unsqueeze": 1}.get(node.op_type, 0)
    values = node.inputs if node.op_type in ("Add", "Sub", "Mul", "Max") else node.inputs[:1]
    return max(e.rank(value) for value in values) + change


def _axis(node: ir.Node, axis: int, rank: int) -> int:
    """Where an axis of an ONNX value lies in [N, 1, T, C]."""
    place = _LAYOUT[rank][axis] if rank in (3, 4) else 0
    if place < 2:
        raise _Refused(f"axis {axis} of {rank} is neither channels nor time")
    return place


def _static(port: ir.Value, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if port.dtype != ir.DataType.FLOAT or port.shape is None:
        raise _Refused(f"it is {port.dtype}, not float32 of a known rank")
    found = [axis if isinstance(axis, int) else sizes.get(str(axis.value)) for axis in port.shape]
    if None in found:
        raise _Refused(f"its shape {port.shape} has a free axis, and no size was given for it")
    return tuple(int(axis) for axis in found if axis is not None)


def _nhwc_shape(shape: Sequence[int]) -> tuple[int, ...]:
    if len(shape) not in (3, 4) or shape[0] != 1:
        raise _Refused(f"its shape {list(shape)} is not [1, C, T]")
    full = [1, 1, 1, 1]
    for place, size in zip(_LAYOUT[len(shape)], shape, strict=True):
        full[place] = size
    return tuple(full)


def _nhwc(array: np.ndarray) -> np.ndarray:
    """A constant of 3 or 4 axes as [N, 1, T, C]."""
    if array.ndim not in (3, 4):
        raise _Refused(f"a constant has {array.ndim} axes")
    four = array[:, :, None] if array.ndim == 3 else array
    return four.transpose(0, 2, 3, 1)
