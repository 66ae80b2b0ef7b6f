"""What an ML program computes, by our own reading of what coremltools' documentation says of each operator.

It is no run of Core ML. It finds what was written wrongly: padding, the order of axes, a weight that is another. Every
result that the program has in FP16 is rounded to it; sums inside an operator are FP32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.coreml.package import Operation, Program
from gsvexport.untrusted.reading import Refused

Array = NDArray[Any]
Taken = Mapping[str, Any]
_CASTS = {"fp16": "float16", "fp32": "float32"}
_MOST = 1 << 28  # numbers in an array; a full-size vocoder's largest has 10 million


@np.errstate(over="ignore", invalid="ignore")  # what FP16 cannot hold is infinite, there and here
def run(program: Program, feeds: Mapping[str, Array]) -> Array:
    """The output for one array for each input.

    Raises:
        Refused: an operator that is not known, that is given what it cannot take, or whose result is not of the shape
            that the program says.
    """
    known: dict[str, Any] = {**program.constants, **{name: np.asarray(feeds[name]) for name in program.inputs}}
    for name, kind in program.inputs.items():
        if known[name].shape != kind.shape:
            raise Refused(f"takes '{name}' {list(kind.shape)}, and not {list(known[name].shape)}")
    left = _last_use(program)
    for at, one in enumerate(program.operations):
        try:
            taken = {parameter: known[name] for parameter, name in one.takes.items()}
            result = _COMPUTED[one.kind](taken)
        except KeyError as error:
            raise Refused(f"has an operator '{one.kind}' without, or called, {error}") from error
        except (ValueError, TypeError, IndexError) as error:
            raise Refused(f"has an operator '{one.kind}', {one.name}, that cannot be computed: {error}") from error
        if result.shape != one.type.shape:
            raise Refused(f"says that '{one.name}' is {list(one.type.shape)}, and it is {list(result.shape)}")
        known[one.name] = _kept(one, result)
        for name in left.get(at, ()):
            del known[name]
    if program.output not in known:
        raise Refused(f"does not compute its output '{program.output}'")
    return np.asarray(known[program.output], np.float32)


def _kept(one: Operation, result: Array) -> Array:
    """A result as the program keeps it; what is of FP16 stays FP32 here, where numpy computes fast."""
    return result.astype(one.type.kind).astype(np.float32) if one.type.kind == "float16" else result


def _last_use(program: Program) -> dict[int, list[str]]:
    """By an operator's place the results that nothing reads after it: a long window's would fill the memory."""
    made = {one.name for one in program.operations} - {program.output}
    last = {name: at for at, one in enumerate(program.operations) for name in one.takes.values() if name in made}
    found: dict[int, list[str]] = {}
    for name, at in last.items():
        found.setdefault(at, []).append(name)
    return found


def _single(value: Array) -> Array:
    return np.asarray(value, np.float32)


def _fits(*sizes: int) -> None:
    """Refuse arrays that nothing here has, before memory is taken for them."""
    if math.prod(sizes) > _MOST:
        raise ValueError(f"more than {_MOST} numbers")


def _pair(taken: Taken) -> tuple[Array, Array]:
    x, y = _single(taken["x"]), _single(taken["y"])
    _fits(*np.broadcast_shapes(x.shape, y.shape))
    return x, y


def _cast(taken: Taken) -> Array:
    kind = _CASTS.get(str(taken["dtype"]))
    if kind is None:
        raise ValueError(f"to {taken['dtype']}")
    return _single(_single(taken["x"]).astype(kind))


def _pads(taken: Taken, axes: int) -> list[tuple[int, int]]:
    """Before and after each axis, one axis after the other: not as ONNX has them."""
    kind = taken.get("pad_type", "valid")
    if kind not in ("valid", "custom"):
        raise ValueError(f"pad_type {kind}")
    pad = [int(one) for one in taken["pad"]] if kind == "custom" else [0] * 2 * axes
    if len(pad) != 2 * axes or min(pad) < 0:
        raise ValueError(f"pad {pad}")
    return list(zip(pad[::2], pad[1::2], strict=True))


def _steps(taken: Taken, name: str, axes: int) -> list[int]:
    found = [int(one) for one in taken.get(name, [1] * axes)]
    if len(found) != axes or min(found) < 1:
        raise ValueError(f"{name} {found}")
    return found


def _parts(taken: Taken) -> tuple[Array, Array, list[int], list[int]]:
    x, weight = _single(taken["x"]), _single(taken["weight"])
    if x.ndim != weight.ndim or len(x) != 1 or int(taken.get("groups", 1)) != 1:
        raise ValueError("several groups or sentences, or a weight of other axes")
    return x[0], weight, _steps(taken, "strides", x.ndim - 2), _steps(taken, "dilations", x.ndim - 2)


def _with_bias(result: Array, taken: Taken) -> Array:
    """The result of a convolution [C, …] with its bias, and the axis of sentences again."""
    bias = taken.get("bias")
    return (result if bias is None else result + _single(bias).reshape(-1, *(1 for _ in result.shape[1:])))[None]


def _conv(taken: Taken) -> Array:
    """y[o, t] = Σ w[o, c, k] · x[c, t·stride + k·dilation - before]; weights are [O, C, …]."""
    x, weight, strides, dilations = _parts(taken)
    axes = x.ndim - 1
    pads = _pads(taken, axes)
    padded = [n + before + after for n, (before, after) in zip(x.shape[1:], pads, strict=True)]
    _fits(*weight.shape[1:], *padded)
    _fits(len(weight), *padded)
    x = np.pad(x, [(0, 0), *pads])
    spans = [(tap - 1) * apart + 1 for tap, apart in zip(weight.shape[2:], dilations, strict=True)]
    seen = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(1, axes + 1)))
    seen = seen[(slice(None), *(slice(None, None, step) for step in (*strides, *dilations)))]
    taps = [0, *range(axes + 1, 2 * axes + 1)]
    return _with_bias(np.tensordot(weight, seen, (list(range(1, axes + 2)), taps)), taken)


def _conv_transpose(taken: Taken) -> Array:
    """y[o, t·stride + k·dilation - before] += w[c, o, k] · x[c, t], tap by tap; weights are [C, O, …]."""
    x, weight, strides, dilations = _parts(taken)
    taps, have = weight.shape[2:], x.shape[1:]
    whole = [
        (n - 1) * step + (tap - 1) * apart + 1
        for n, step, tap, apart in zip(have, strides, taps, dilations, strict=True)
    ]
    _fits(weight.shape[1], *whole)
    result: Array = np.zeros((weight.shape[1], *whole), np.float32)
    for tap, at in zip(weight.reshape(*weight.shape[:2], -1).T, itertools.product(*map(range, taps)), strict=True):
        place = zip(at, dilations, strides, have, strict=True)
        where = (slice(None), *(slice(k * apart, k * apart + (n - 1) * step + 1, step) for k, apart, step, n in place))
        result[where] += np.tensordot(tap, x, 1)  # its axes are [O, C] by now
    cut = zip(_pads(taken, len(taps)), whole, strict=True)
    result = _with_bias(result[(slice(None), *(slice(before, n - after) for (before, after), n in cut))], taken)
    # Said beside the padding, of which it follows; what Core ML would make of two that differ is not known.
    if "output_shape" in taken and [int(one) for one in taken["output_shape"]] != list(result.shape):
        raise ValueError(f"output_shape {list(taken['output_shape'])}, and its padding gives {list(result.shape)}")
    return result


def _leaky_relu(taken: Taken) -> Array:
    x = _single(taken["x"])
    return np.where(x < 0, x * _single(taken["alpha"]), x)


def _squeeze(taken: Taken) -> Array:
    return np.squeeze(_single(taken["x"]), tuple(int(one) for one in taken["axes"]))


def _expand_dims(taken: Taken) -> Array:
    return np.expand_dims(_single(taken["x"]), tuple(int(one) for one in taken["axes"]))


_COMPUTED: dict[str, Callable[[Taken], Array]] = {
    "add": lambda taken: np.add(*_pair(taken)),
    "cast": _cast,
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "expand_dims": _expand_dims,
    "identity": lambda taken: _single(taken["x"]),
    "leaky_relu": _leaky_relu,
    "mul": lambda taken: np.multiply(*_pair(taken)),
    "relu": lambda taken: np.maximum(_single(taken["x"]), 0),
    "squeeze": _squeeze,
    "sub": lambda taken: np.subtract(*_pair(taken)),
    "tanh": lambda taken: np.tanh(_single(taken["x"])),
}
