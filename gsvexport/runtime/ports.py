"""Are these arrays what a stage takes? Every port is checked before a backend sees it; every finding is reported."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError
from gsvexport.model import Dims
from gsvexport.stages import MEL_POSITIONS, Port, Stage
from gsvexport.text.features import LONGEST

Array = NDArray[Any]

_SHORTEST = {
    ("prefill", "Y"): 0,
    ("prompt", "S"): 2,
    ("ssl", "N"): 400,
    ("bert", "C+2"): 3,
}  # every other axis has at least one entry


def checked(stage: Stage, feeds: Mapping[str, Any], dims: Dims) -> dict[str, Array]:
    """The feeds as arrays of the ports' types.

    Integers of any width become int64, numbers of any width float32. Checked: names, types, axes, fixed sizes, axes
    that share a letter, the shortest and longest length, finiteness, and the range of ids.

    Raises:
        InputError: lists everything that does not fit, with stage and port.
    """
    ports = {port.name: port for port in stage.inputs}
    problems = [f"{stage.name}.{name}: missing; {_wanted(ports[name])}" for name in ports if name not in feeds]
    problems += [
        f"{stage.name}.{name}: no such input; it takes {', '.join(ports)}" for name in feeds if name not in ports
    ]
    arrays: dict[str, Array] = {}
    for name in ports:
        if name in feeds:
            arrays[name], found = convert(stage, ports[name], feeds[name], dims)
            problems += found
    if not problems:
        problems = _inconsistent(stage, arrays)
    if problems:
        raise InputError(f"stage '{stage.name}' cannot take these arrays", problems=problems)
    return arrays


def convert(stage: Stage, port: Port, value: Any, dims: Dims) -> tuple[Array, list[str]]:
    """One port's value as an array of its type, and what is wrong with it on its own."""
    where = f"{stage.name}.{port.name}"
    array = as_array(value)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(port.dtype)  # np.asarray([]) cannot know that it stands for integers
    if array.dtype.kind not in ("iu" if port.dtype == "int64" else "iuf"):
        return array, [f"{where}: is {array.dtype}; {_wanted(port)}"]
    problems = _misshapen(stage, port, array, dims)
    limit = _id_limits(dims).get((stage.name, port.name))
    if limit is not None and array.size and not problems:
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= limit:
            bad = np.flatnonzero((array.ravel() < 0) | (array.ravel() >= limit))
            problems.append(
                f"{where}: {array.ravel()[bad[0]]} at place {bad[0]} is out of range, and {bad.size - 1} more;"
                f" ids run from 0 to {limit - 1}"
            )
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        array = array.astype(port.dtype, copy=False)
    broken = np.count_nonzero(~np.isfinite(array)) if port.dtype == "float32" else 0
    if broken:
        problems.append(f"{where}: {broken} of {array.size} values are NaN, infinite or beyond float32")
    return array, problems


def as_array(value: Any) -> Array:
    """An array of whatever was given; a ragged list becomes one of objects, which every port refuses."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.empty(0, object)


def outside(name: str, value: object, low: float, high: float | None = None, *, integer: bool = False) -> list[str]:
    """What is wrong with an argument that must be a number from `low` to `high`: one finding or none."""
    limit = f"at least {low}" if high is None else f"from {low} to {high}"
    kind = "a whole number" if integer else "a number"
    fits = isinstance(value, Integral if integer else Real) and not isinstance(value, bool)
    if not fits or not low <= value <= (math.inf if high is None else high) or value == math.inf:  # type: ignore[operator]
        return [f"{name} is {value!r}; it must be {kind} {limit}"]
    return []


def _misshapen(stage: Stage, port: Port, array: Array, dims: Dims) -> list[str]:
    if array.ndim != len(port.shape):
        return [f"{stage.name}.{port.name}: has shape {list(array.shape)}; {_wanted(port)}"]
    problems = []
    for axis, (size, wanted) in enumerate(zip(array.shape, port.shape, strict=True)):
        where = f"{stage.name}.{port.name}: axis {axis} is {size} long"
        if isinstance(wanted, int):
            if size != wanted:
                problems.append(f"{where}; {_wanted(port)}")
            continue
        shortest, longest = _SHORTEST.get((stage.name, wanted), 1), _length_limits(dims).get((stage.name, wanted))
        if size < shortest:
            problems.append(f"{where}; {wanted} is at least {shortest}")
        elif longest is not None and size > longest:
            problems.append(f"{where}; {wanted} is at most {longest}, the rows of the position table")
    return problems


def _inconsistent(stage: Stage, arrays: Mapping[str, Array]) -> list[str]:
    """Ports that disagree about the length of an axis with the same letter."""
    seen: dict[str, dict[str, int]] = {}
    for port in stage.inputs:
        for axis, wanted in enumerate(port.shape):
            if isinstance(wanted, str):
                seen.setdefault(wanted, {})[port.name] = arrays[port.name].shape[axis]
    return [
        f"{stage.name}: axis {letter} must be one length, and is "
        + ", ".join(f"{size} in {name}" for name, size in sizes.items())
        for letter, sizes in seen.items()
        if len(set(sizes.values())) > 1
    ]


def _id_limits(dims: Dims) -> dict[tuple[str, str], int]:
    """How many ids a port knows: the rows of the table that it looks them up in."""
    return {
        ("prefill", "phones"): dims.phones,
        ("prefill", "prompt"): dims.V,
        ("step", "token"): dims.V,
        ("step", "position"): dims.positions,
        ("bert", "input_ids"): dims.tokens,
        **{(stage, "codes"): dims.codes for stage in ("acoustic", "features")},
        **{(stage, "phones"): dims.text_phones for stage in ("acoustic", "features")},
    }


def _length_limits(dims: Dims) -> dict[tuple[str, str], int]:
    return {
        ("prefill", "X"): dims.positions,
        ("prefill", "Y"): dims.positions,
        ("cfm", "M"): MEL_POSITIONS,
        ("bert", "C+2"): LONGEST + 2,
    }


def _wanted(port: Port) -> str:
    return f"it takes {port.dtype} [{', '.join(map(str, port.shape))}], {port.meaning}"


def each(value: Any, *, axes: int) -> Sequence[Any]:
    """The entries of a sequence of arrays; a single array with at most `axes` axes is one entry."""
    several = isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > axes)
    return list(value) if several else [value]
