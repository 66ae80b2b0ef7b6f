"""A float graph on integers from end to end, by TFLite's specification of quantised operators.

    activation   x ≈ s·(x_q - z)      int8, one s and z for each tensor, zero itself exact; or int16, z = 0
    weight       w ≈ s_o·w_q          int8 within ±127, one s_o for each output channel o
    bias         b ≈ s·s_o·b_q        int32; int64 beside int16

TANH and LOGISTIC have fixed outputs. RESHAPE, SLICE and PAD move integers, so they keep s and z; MAXIMUM and
CONCATENATION compare or collect them, so all operands have those of the result. An operand that is needed for nothing
else is computed with them at once, another one goes through a QUANTIZE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from gsvexport.backends.tflite.graph import Graph, Operator, Quantisation, Tensor
from gsvexport.errors import BackendError
from gsvexport.passes.quantise_conv import affine, channel_scales, to_int8

_WEIGHT = 127
_HEADROOM = 2.0  # of 16 bits: a sentence may be louder than those that were heard, and one bit of sixteen is little
_MOVES = {"RESHAPE", "SLICE", "PAD"}
_EQUAL = {"MAXIMUM", "CONCATENATION"}
_FREE = {"CONV_2D", "ADD", "SUB", "MUL"}  # what can write any s and z


def int8(low: float, high: float) -> Quantisation:
    """s and z with which int8 covers [low, high]."""
    scale, zero = affine(low, high)
    return Quantisation((scale,), (zero - 128,))


def int16(low: float, high: float) -> Quantisation:
    """s with which int16 covers twice [low, high]: both ends may clip far out, and nothing is lost that is heard."""
    peak = max(-low, high) or 1.0
    return Quantisation((float(np.float32(_HEADROOM * peak / 32767)),), (0,))


@dataclass(frozen=True)
class Integers:
    """What activations are: their type, its least and greatest value, how it covers a range, the type of a bias, what
    fixed operators give, and the version of each operator: TensorFlow's converter writes those, and a compiler for an
    accelerator refuses others."""

    dtype: str
    low: int
    high: int
    covering: Callable[[float, float], Quantisation]
    bias: str
    fixed: Mapping[str, Quantisation]
    versions: Mapping[str, int]


EIGHT = Integers(
    "int8",
    -128,
    127,
    int8,
    "int32",
    {"TANH": Quantisation((1 / 128,), (0,)), "LOGISTIC": Quantisation((1 / 256,), (-128,))},
    {
        **dict.fromkeys(
            ("ADD", "SUB", "MUL", "MAXIMUM", "TANH", "LOGISTIC", "CONCATENATION", "SLICE", "PAD", "RELU"), 2
        ),
        **{"CONV_2D": 3, "RESHAPE": 1, "QUANTIZE": 2},
    },
)
SIXTEEN = Integers(
    "int16",
    -32767,
    32767,
    int16,
    "int64",
    dict.fromkeys(("TANH", "LOGISTIC"), Quantisation((1 / 32768,), (0,))),
    {
        **dict.fromkeys(("CONV_2D", "MUL", "MAXIMUM", "SLICE"), 4),
        **dict.fromkeys(("ADD", "TANH", "LOGISTIC", "CONCATENATION", "PAD", "RELU"), 3),
        **{"SUB": 5, "RESHAPE": 1, "QUANTIZE": 2},
    },
)
BY_PRECISION = {"int8": EIGHT, "int16x8": SIXTEEN}


def quantise(graph: Graph, ranges: Mapping[str, tuple[float, float]], integers: Integers = EIGHT) -> Graph:
    """`graph` with int8 weights, and inputs, outputs and activations as `integers` says; `ranges` gives (low, high) by
    a tensor's name.

    Raises:
        BackendError: tensors without a range, or operators that have no integer form here; all of them.
    """
    unknown = sorted({operator.kind for operator in graph.operators} - integers.versions.keys())
    computed = [*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)]
    missing = [graph.tensors[index].name for index in computed if graph.tensors[index].name not in ranges]
    if unknown or missing:
        problems = [f"no integer form of {kind}" for kind in unknown] + [f"no range of {name}" for name in missing]
        raise BackendError(f"{graph.description} cannot run on integers", problems=problems)
    known = {index: integers.covering(*ranges[graph.tensors[index].name]) for index in computed}
    _constrain(graph, known, integers.fixed)
    writer = _Writer(graph, known, integers)
    for operator in graph.operators:
        writer.add(operator)
    ends = [tuple(writer.place[index] for index in ends) for ends in (graph.inputs, graph.outputs)]
    return Graph(tuple(writer.tensors), tuple(writer.operators), ends[0], ends[1], graph.description)


def _constrain(graph: Graph, known: dict[int, Quantisation], fixed: Mapping[str, Quantisation]) -> None:
    """Settle what operators demand of their results, and let operands that nothing else needs follow."""
    uses = Counter(index for operator in graph.operators for index in operator.inputs)
    uses.update(graph.outputs)
    writers = {index: operator.kind for operator in graph.operators for index in operator.outputs}
    for operator in graph.operators:
        (y,) = operator.outputs
        if operator.kind in fixed:
            known[y] = fixed[operator.kind]
        elif operator.kind in _MOVES:
            known[y] = known[operator.inputs[0]]
        elif operator.kind in _EQUAL:
            for x in operator.inputs:
                if uses[x] == 1 and writers.get(x) in _FREE:
                    known[x] = known[y]


@dataclass
class _Writer:
    """The integer graph so far; `place` maps a tensor of the float graph to that of the integer one."""

    graph: Graph
    known: dict[int, Quantisation]
    integers: Integers
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    place: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index in self.graph.inputs:
            self._computed(index)

    def add(self, operator: Operator) -> None:
        """One operator on integers, with what its operands need before it."""
        inputs = [self._operand(operator, position, index) for position, index in enumerate(operator.inputs)]
        outputs = tuple(self._computed(index) for index in operator.outputs)
        options = dict(operator.options)
        if self.integers is SIXTEEN and operator.kind in ("ADD", "SUB"):
            options["pot_scale_int16"] = False  # else scales would have to be powers of two
        version = self.integers.versions[operator.kind]
        self.operators.append(
            replace(operator, version=version, inputs=tuple(inputs), outputs=outputs, options=options)
        )

    def _operand(self, operator: Operator, position: int, index: int) -> int:
        tensor = self.graph.tensors[index]
        if tensor.data is None:
            wanted = self.known[operator.outputs[0]]
            equal = operator.kind not in _EQUAL or self.known[index] == wanted
            return self.place[index] if equal else self._requantised(index, wanted, operator)
        if tensor.dtype == "int32":  # a shape, or bounds
            return self._once(index, tensor)
        if operator.kind == "CONV_2D":
            return self._weight(index) if position == 1 else self._bias(operator, tensor)
        if operator.kind in _EQUAL:
            return self._append(self._stored(tensor, self.known[operator.outputs[0]], f"{operator.name}/{tensor.name}"))
        peak = float(np.abs(tensor.data).max()) or 1.0
        q = Quantisation((float(np.float32(peak / self.integers.high)),), (0,))
        return self._once(index, self._stored(tensor, q, tensor.name))

    def _weight(self, index: int) -> int:
        tensor = self.graph.tensors[index]
        assert tensor.data is not None
        scales = channel_scales(tensor.data, _WEIGHT)
        q = Quantisation(tuple(scales.tolist()), (0,) * len(scales))
        data = to_int8(tensor.data, scales, _WEIGHT)
        return self._once(index, Tensor(tensor.name, tensor.shape, "int8", data, q))

    def _bias(self, operator: Operator, tensor: Tensor) -> int:
        x, w = (self.tensors[self.place[index]].quantisation for index in operator.inputs[:2])
        assert x is not None
        assert w is not None
        assert tensor.data is not None
        scales = (np.float32(x.scale[0]) * np.array(w.scale, np.float32)).astype(np.float32)
        limit = 2**31 - 1  # of 64 bits, too: accelerators add in fewer
        data = np.clip(np.rint(tensor.data.astype(np.float64) / scales), -limit, limit).astype(self.integers.bias)
        q = Quantisation(tuple(scales.tolist()), (0,) * len(scales))
        return self._append(Tensor(f"{operator.name}/bias", tensor.shape, self.integers.bias, data, q))

    def _requantised(self, index: int, wanted: Quantisation, operator: Operator) -> int:
        tensor = self.graph.tensors[index]
        name = f"{tensor.name}/for/{operator.name}"
        y = self._append(Tensor(name, tensor.shape, self.integers.dtype, None, wanted))
        version = self.integers.versions["QUANTIZE"]
        self.operators.append(Operator("QUANTIZE", version, (self.place[index],), (y,), {}, name))
        return y

    def _computed(self, index: int) -> int:
        tensor = self.graph.tensors[index]
        return self._once(index, replace(tensor, dtype=self.integers.dtype, quantisation=self.known[index]))

    def _stored(self, tensor: Tensor, q: Quantisation, name: str) -> Tensor:
        """A float constant as an activation is stored."""
        assert tensor.data is not None
        data = np.rint(tensor.data / q.scale[0]) + q.zero_point[0]
        data = np.clip(data, self.integers.low, self.integers.high).astype(self.integers.dtype)
        return Tensor(name, tensor.shape, self.integers.dtype, data, q)

    def _once(self, index: int, tensor: Tensor) -> int:
        if index not in self.place:
            self.place[index] = self._append(tensor)
        return self.place[index]

    def _append(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1
