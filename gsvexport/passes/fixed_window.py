"""Forms of fixed size, for compilers that know no free axis: inputs as constants, a window of any length in a longer
one, and the last operator left to the host.

**A window whose end is masked.** A graph of convolutions over T frames, of which only the first n are the sequence's,
gives for those what it gives for a sequence of n frames if every convolution sees zeros beyond n, as its own padding
has them. So what a convolution reads is multiplied by m_r [1, 1, T·r], which is 1 for the first n·r samples and 0
beyond (r samples for a frame): exact for every n from 1 to T. It also takes away whatever a compiler computes wrongly
at the end of the longer window.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, initializer, replace

MASK = "mask_"  # an input's name, before the samples that it has for a frame
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_UNARY = ("LeakyRelu", "Relu", "Tanh")  # f(0) = 0
_KEEP_ZERO = (*_UNARY, "Mul")
_MOVES = ("Squeeze", "Unsqueeze", "Reshape", "Identity")


@dataclass(frozen=True)
class BakeInput:
    """An input becomes the constant `value`: a fixed voice's condition, a factor that the host applies instead."""

    name: ClassVar[str] = "bake-input"
    version: ClassVar[int] = 1
    port: str
    value: np.ndarray

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`, which may have no such input."""
        port = next((one for one in model.graph.inputs if one.name == self.port), None)
        if port is None:
            return Outcome(0)
        model.graph.inputs.remove(port)
        ir.convenience.replace_all_uses_with(port, initializer(model, f"{self.port}/baked", self.value))
        return Outcome(1, (f"{self.port} is a constant",))


@dataclass(frozen=True)
class MaskEnd:
    """See the module. `port` [1, C, frames] is the input that has the time axis, whose size is a number already."""

    name: ClassVar[str] = "mask-end"
    version: ClassVar[int] = 1
    port: str

    def apply(self, model: ir.Model) -> Outcome:
        """Add an input `mask_R` [1, 1, frames·R] for each rate R at which something has to be masked."""
        common.ShapeInferencePass()(model)
        given = next(one for one in model.graph.inputs if one.name == self.port)
        work = _Masking(model, _length(given), {given})
        for node in list(model.graph):
            work.look(node)
        return Outcome(work.masked, (f"{work.masked} arrays are zero beyond the end of what they hold",))


@dataclass
class _Masking:
    """Goes through the nodes of `model` in order; `zero` are the values that are zero beyond the end."""

    model: ir.Model
    frames: int
    zero: set[ir.Value | None]
    masks: dict[int, ir.Value] = field(default_factory=dict)
    masked: int = 0

    def look(self, node: ir.Node) -> None:
        """Mask what a convolution reads, and note whether a result is zero where its operands are."""
        if node.op_type in _CONVOLUTIONS and node.inputs[0] is not None:
            if _length(node.inputs[0]) > 1:
                self._mask(node.inputs[0])
            return
        along = [value for value in node.inputs if value is not None and _runs(value)]
        if along and all(value in self.zero for value in along):
            # A sum keeps zeros where all its operands run along time, a product where any does.
            sums = node.op_type in ("Add", "Sub") and len(along) == len(node.inputs)
            if sums or node.op_type in _KEEP_ZERO:
                self.zero.update(node.outputs)

    def _mask(self, value: ir.Value) -> None:
        if value in self.zero:
            return
        maker = value.producer()
        if maker is not None and maker.op_type in _UNARY and maker.inputs[0] is not None:  # as near to a sum as it goes
            self._mask(maker.inputs[0])
            self.zero.add(value)
            return
        if maker is None:
            raise PassError(f"{value.name}: an input that no one masks")
        after = ir.node("Mul", [value, self._input(_length(value))], name=f"{maker.name}/mask")
        result = after.outputs[0]
        result.name, result.shape, result.type = f"{value.name}/masked", value.shape, value.type
        for user, position in tuple(value.uses()):
            if user is not after:
                user.replace_input_with(position, result)
        self.model.graph.insert_after(maker, after)
        self.zero.add(result)
        self.masked += 1

    def _input(self, length: int) -> ir.Value:
        rate, rest = divmod(length, self.frames)
        if rest or not rate:
            raise PassError(f"{length} samples are no multiple of {self.frames} frames")
        if rate not in self.masks:
            kind, shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, 1, length])
            self.masks[rate] = ir.Value(name=f"{MASK}{rate}", type=kind, shape=shape)
            self.model.graph.inputs.append(self.masks[rate])
        return self.masks[rate]


@dataclass(frozen=True)
class DropLast:
    """Takes the graph's last `operator` out, where what follows only reshapes. The host computes it."""

    name: ClassVar[str] = "drop-last"
    version: ClassVar[int] = 1
    operator: str = "Tanh"

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`."""
        if len(model.graph.outputs) != 1:
            return Outcome(0, (f"its last {self.operator} stays: it has several outputs",))
        node = model.graph.outputs[0].producer()
        while node is not None and node.op_type in _MOVES:
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        if node is None or node.op_type != self.operator or node.inputs[0] is None:
            return Outcome(0, (f"it does not end with {self.operator}",))
        replace(node.outputs[0], node.inputs[0])
        return Outcome(1, (f"the host computes the last {self.operator}",))


def _length(value: ir.Value) -> int:
    """The last axis of a value; a number by now."""
    size = None if value.shape is None else value.shape[-1]
    if not isinstance(size, int):
        raise PassError(f"{value.name}: its length is not known", found=str(value.shape))
    return size


def _runs(value: ir.Value) -> bool:
    """Whether a value has a time axis: it is no constant, scalar, or array of one frame."""
    return value.const_value is None and value.shape is not None and value.shape.rank() > 0 and value.shape[-1] != 1
