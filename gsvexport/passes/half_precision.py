"""FP32 → FP16, typed throughout: every edge has one element type, and every change of type is a Cast.

Operators fall into three kinds:

    half    computed in FP16: products and convolutions, and what costs as much as it moves
    single  computed in FP32: norms, softmax, exponentials, and whatever measurement adds by name
    all others follow their inputs: FP32 as soon as one of them is, else FP16

What is computed from integers alone (positions, interpolation) stays FP32: float16 counts exactly to 2048 only. A sum
that one operand gives in FP32 is made there, so residual streams between norms keep their digits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, constant, initializer
from gsvexport.passes.types import annotate_types

FP32, FP16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
LARGEST = float(np.finfo(np.float16).max)  # 65504
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
# What only moves data is walked through when an output asks for FP32.
_MOVES = ("Squeeze", "Unsqueeze", "Reshape", "Transpose", "Slice")


@dataclass(frozen=True)
class HalfPrecision:
    """See the module. `half` and `single` are operator types; `keep` names nodes that stay FP32 because their values
    were measured beyond FP16. The ports of `half_ports` become FP16, all others stay as they are; the outputs of
    `exact_outputs` are computed in FP32 by the operators that make them."""

    name: ClassVar[str] = "half-precision"
    version: ClassVar[int] = 1
    half: tuple[str, ...]
    single: tuple[str, ...]
    keep: tuple[str, ...] = ()
    half_ports: tuple[str, ...] = ()
    exact_outputs: tuple[str, ...] = ()

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`, whose edges are all typed afterwards (checked)."""
        annotate_types(model)
        work = _Conversion(model, self)
        work.ports()
        for node in list(model.graph):
            work.convert(node)
        work.outputs()
        annotate_types(model)
        return work.outcome()


@dataclass
class _Conversion:
    model: ir.Model
    settings: HalfPrecision
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)
    exact: set[ir.Value] = field(default_factory=set)  # float values that come from integers alone
    count: dict[ir.DataType, int] = field(default_factory=lambda: {FP16: 0, FP32: 0})
    too_large: list[str] = field(default_factory=list)
    vanished: int = 0

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.kept = set(self.settings.keep)
        for output in graph.outputs:
            if output.name in self.settings.exact_outputs:
                self.kept.add(_maker(output).name or "")

    def ports(self) -> None:
        """Inputs that arrive in FP16."""
        for value in self.model.graph.inputs:
            if value.name in self.settings.half_ports and value.dtype == FP32:
                value.type = ir.TensorType(FP16)

    def convert(self, node: ir.Node) -> None:
        """Give one node its precision, and its inputs the Casts that this takes."""
        floats = [index for index, value in enumerate(node.inputs) if value is not None and value.dtype in (FP32, FP16)]
        if node.op_type == "Cast":
            if not floats and node.outputs[0].dtype == FP32:
                self.exact.update(node.outputs)
            return
        if not floats:
            return  # integers and booleans
        wanted = self._precision(node, floats)
        self.count[wanted] += 1
        for index in floats:
            node.replace_input_with(index, self._as(node.inputs[index], wanted))  # type: ignore[arg-type]
        for value in node.outputs:
            if value.dtype in (FP32, FP16):
                value.type = ir.TensorType(wanted)

    def outputs(self) -> None:
        """Let every output port have its own type."""
        graph = self.model.graph
        for index, value in enumerate(graph.outputs):
            if value.dtype not in (FP32, FP16):
                continue
            wanted = FP16 if value.name in self.settings.half_ports else FP32
            if value.dtype != wanted:
                name, shape = value.name, value.shape
                value.name = f"{name}/{'half' if wanted == FP32 else 'single'}"
                cast = ir.node("Cast", [value], {"to": wanted}, name=f"{name}/Cast")
                cast.outputs[0].name, cast.outputs[0].shape = name, shape
                cast.outputs[0].type = ir.TensorType(wanted)
                graph.append(cast)
                graph.outputs[index] = cast.outputs[0]

    def outcome(self) -> Outcome:
        """What was done."""
        notes = [
            f"{self.count[FP16]} operators in FP16, {self.count[FP32]} in FP32, {len(self.casts)} casts between them"
        ]
        if self.vanished:
            notes.append(f"{self.vanished} weights below {SMALLEST:.0e} became 0")
        notes += [f"{name} exceeds {LARGEST:g} and stays FP32" for name in dict.fromkeys(self.too_large)]
        return Outcome(self.count[FP16], tuple(notes))

    def _precision(self, node: ir.Node, floats: list[int]) -> ir.DataType:
        values = [value for index in floats if (value := node.inputs[index]) is not None]
        constants = [array for array in map(constant, values) if array is not None]
        computed = [value for value in values if constant(value) is None]
        if node.name in self.kept or node.op_type in self.settings.single:
            return FP32
        if large := [array for array in constants if array.size and np.abs(array).max() > LARGEST]:
            self.too_large += [f"a constant of {node.name} ({np.abs(large[0]).max():.4g})"]
            return FP32
        if node.op_type in self.settings.half:
            return FP16
        if computed and all(value in self.exact for value in computed):
            self.exact.update(node.outputs)
            return FP32
        # Constants take either type, and what comes from integers is rounded once, where it meets the signal.
        deciding = [value for value in computed if value not in self.exact]
        return FP32 if any(value.dtype == FP32 for value in deciding) else FP16

    def _as(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """`value` in the wanted type: itself, a converted weight, or a Cast that all users share."""
        if value.dtype == wanted:
            return value
        array = constant(value)
        if array is not None:
            half = array.astype(np.float16)
            name = f"{value.name}:f16"
            if name not in self.model.graph.initializers:
                self.vanished += int(np.count_nonzero((half == 0) & (array != 0)))
            return initializer(self.model, name, half)
        key = (value, wanted)
        if key not in self.casts:
            suffix = "f16" if wanted == FP16 else "f32"
            cast = ir.node("Cast", [value], {"to": wanted}, name=f"{value.name}/Cast:{suffix}")
            cast.outputs[0].name, cast.outputs[0].shape = f"{value.name}:{suffix}", value.shape
            cast.outputs[0].type = ir.TensorType(wanted)
            graph = self.model.graph
            maker = value.producer()
            if maker is None:
                graph.insert_before(next(iter(graph)), cast)
            else:
                graph.insert_after(maker, cast)
            self.casts[key] = cast.outputs[0]
        return self.casts[key]


def _maker(value: ir.Value) -> ir.Node:
    """The operator that computes an output, behind what only moves it, and behind a point-wise last step."""
    node = value.producer()
    assert node is not None
    while node.op_type in (*_MOVES, "Tanh") and (before := node.inputs[0]) is not None and before.producer():
        node = before.producer()
        assert node is not None
    return node
