# ruff: noqa: A002, D103 - arguments are called as in operators.toml, where the meaning of each kind stands too
"""The kinds of rule that operators.toml may use: one function each, which yields a `Hit` for everything that breaks it.

A kind is called with the node or graph that it judges and, by name, with the arguments of its line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from gsvexport.backends.tensorrt.rules_attention import ATTENTION_KINDS
from gsvexport.backends.tensorrt.scope import Hit, Hits, Scope, Site, dtype_name
from gsvexport.passes.base import attribute

_HALF = ("FP16", "BF16")
_INT32 = np.iinfo(np.int32)
# Their inputs alone do not decide what they give: a seed does, or what a branch or body takes from around it.
_NEVER_FOLDED = (
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial",
    "If", "Loop", "Scan",
)  # fmt: skip


# --- a node, decided by looking -------------------------------------------------------------------------------------


def dtype(site: Site, *, allowed: Sequence[str], inputs: Sequence[int] | str, outputs: Sequence[int] | str) -> Hits:
    for name, value in site.inputs(inputs) + site.outputs(outputs):
        yield from _typed(site, name, value, allowed)


def dtype_in(site: Site, *, input: int, allowed: Sequence[str]) -> Hits:
    for name, value in site.inputs([input]):
        yield from _typed(site, name, value, allowed)


def const_input(site: Site, *, input: int, value: Any = None) -> Hits:
    for name, found in site.inputs([input]):
        array = site.constant(found)
        if array is None and _foldable(site, found):
            yield Hit(f"{name} is computed from constants alone; fold it into one", unsure=True)
        elif array is None:
            yield Hit(f"{name} is computed; must be a constant")
        elif value is not None and not np.all(array == value):
            yield Hit(f"{name} is {_short(array)}; must be {value}")


def const_or_integer(site: Site, *, input: int) -> Hits:
    for name, found in site.inputs([input]):
        kind = site.dtype(found)
        if site.constant(found) is None and kind not in ("INT32", "INT64"):
            yield Hit(f"{name} is computed and {kind or 'of an unknown type'}; must be a constant", unsure=kind is None)


def tensor_input(site: Site, *, input: int) -> Hits:
    for name, value in site.inputs([input]):
        if site.constant(value) is not None:
            yield Hit(f"{name} is a constant; must be computed")


def rank(site: Site, *, input: int, min: int, max: int) -> Hits:
    for name, value in site.inputs([input]):
        if value.shape is None:
            yield Hit(f"{name} has an unknown rank; allowed {_range(min, max)}", unsure=True)
        elif not min <= value.shape.rank() <= max:
            yield Hit(f"{name} has rank {value.shape.rank()}; allowed {_range(min, max)}")


def spatial_rank(site: Site, *, allowed: Sequence[int]) -> Hits:
    for name, value in site.inputs([0]):
        if value.shape is None:
            yield Hit(f"{name} has an unknown rank; spatial dimensions allowed: {_list(allowed)}", unsure=True)
        elif value.shape.rank() - 2 not in allowed:
            yield Hit(f"{name} has {value.shape.rank() - 2} spatial dimensions; allowed {_list(allowed)}")


def attr_in(site: Site, *, attr: str, allowed: Sequence[Any]) -> Hits:
    if attr in site.node.attributes and (found := attribute(site.node, attr)) not in allowed:
        yield Hit(f"attribute {attr} is {found!r}; allowed {_list(allowed)}")


def attr_forbidden(site: Site, *, attrs: Sequence[str]) -> Hits:
    for attr in attrs:
        if attr in site.node.attributes:
            yield Hit(f"attribute {attr} is present; must be absent")


def attr_forbidden_if(site: Site, *, attr: str, dims: int) -> Hits:
    found = attribute(site.node, attr, 0)
    for name, value in site.inputs([0]) if np.any(found) else ():
        allowed = f"must be 0 where {name} has {dims} spatial dimensions"
        if value.shape is None:
            yield Hit(f"attribute {attr} is {_short(found)}; {allowed}, and its rank is unknown", unsure=True)
        elif value.shape.rank() == dims + 2:
            yield Hit(f"attribute {attr} is {_short(found)}; {allowed}")


def attr_all_ones(site: Site, *, attr: str) -> Hits:
    if np.any(np.array(attribute(site.node, attr, 1)) != 1):
        yield Hit(f"attribute {attr} is {_short(attribute(site.node, attr))}; must be all ones")


def max_outputs(site: Site, *, value: int) -> Hits:
    for name, _ in site.outputs(range(value, len(site.node.outputs))):
        yield Hit(f"{name} is present; only the first {value} may be")


def max_inputs(site: Site, *, value: int) -> Hits:
    if len(site.node.inputs) > value:
        yield Hit(f"{len(site.node.inputs)} inputs; allowed {value}")


def forbidden_inputs(site: Site, *, inputs: Sequence[int]) -> Hits:
    for name, _ in site.inputs(inputs):
        yield Hit(f"{name} is present; must be absent")


def requires_input(site: Site, *, input: int, or_attr: str = "") -> Hits:
    if site.input(input) is None and or_attr not in site.node.attributes:
        yield Hit(f"input {input} is absent; must be present")


def max_value(site: Site, *, input: int, value: int) -> Hits:
    for name, found in site.inputs([input]):
        array = site.constant(found)
        if array is None:
            yield Hit(f"{name} is computed; must never exceed {value}", unsure=True)
        elif np.any(array > value):
            yield Hit(f"{name} is {_short(array)}; at most {value}")


def same_dtype(site: Site, *, inputs: Sequence[int] | str) -> Hits:
    found = [(name, site.dtype(value)) for name, value in site.inputs(inputs)]
    if len({dtype for _, dtype in found}) > 1:
        text = ", ".join(f"{name} is {dtype or 'of an unknown type'}" for name, dtype in found)
        yield Hit(f"{text}; must be one type", unsure=None in {dtype for _, dtype in found})


def keep_fp32_inputs(site: Site, *, inputs: Sequence[int]) -> Hits:
    for name, value in site.inputs(inputs):
        if site.dtype(value) in _HALF:
            yield Hit(f"{name} is {site.dtype(value)}; must be FP32")


def zero_point_zero(site: Site, *, input: int) -> Hits:
    for name, value in site.inputs([input]):
        array = site.constant(value)
        if array is None:
            yield Hit(f"{name} is computed; must be a constant 0")
        elif np.any(array):
            yield Hit(f"{name} is {_short(array)}; must be 0")


def static_shape(site: Site, *, input: int) -> Hits:
    for name, value in site.inputs([input]):
        if not _static(value):
            yield Hit(f"{name} has shape {_shape(value)}; must be static", unsure=value.shape is None)


def static_dim(site: Site, *, input: int, axis_attr: str) -> Hits:
    axis = attribute(site.node, axis_attr, -1)
    for name, value in site.inputs([input]):
        if value.shape is None or not isinstance(value.shape[axis], int):
            yield Hit(f"{name} has shape {_shape(value)}; dimension {axis} must be static", unsure=value.shape is None)


def einsum_plain(site: Site) -> Hits:
    equation = attribute(site.node, "equation", "").replace(" ", "")
    if "..." in equation:
        yield Hit(f"equation {equation} has an ellipsis; must name every axis")
    sizes: dict[str, int] = {}
    for (name, value), letters in zip(site.inputs("all"), equation.split("->")[0].split(","), strict=False):
        if len(set(letters) - {"."}) < len(letters.replace(".", "")):
            yield Hit(f"equation {equation} repeats an index of {name}; must not")
        if value.shape is None or "." in letters:
            continue
        for letter, size in zip(letters, value.shape, strict=False):
            if isinstance(size, int) and sizes.setdefault(letter, size) != size:
                yield Hit(f"equation {equation} broadcasts axis {letter}; sizes must be equal")


def opset_max(site: Site, *, value: int) -> Hits:
    if site.scope.opset > value:
        yield Hit(f"opset {site.scope.opset}; the form up to opset {value} is needed")


def real_input(site: Site, *, input: int) -> Hits:
    for name, value in site.inputs([input]):
        if value.shape is None or (value.shape.rank() == 3 and value.shape[-1] != 1):
            unsure = value.shape is None or not isinstance(value.shape[-1], int)
            yield Hit(f"{name} has shape {_shape(value)}; must be real, with a last dimension of 1", unsure)


def bidir_same_activations(site: Site) -> Hits:
    names = list(attribute(site.node, "activations", ()))
    half = len(names) // 2
    if attribute(site.node, "direction", "forward") == "bidirectional" and names[:half] != names[half:]:
        yield Hit(f"activations are {_list(names)}; both directions must have the same")


def branch_outputs_same_rank(site: Site) -> Hits:
    for one, other in _branch_outputs(site):
        ranks = [None if value.shape is None else value.shape.rank() for value in (one, other)]
        if ranks[0] != ranks[1] or None in ranks:
            text = f"branches give '{one.name}' rank {ranks[0]} and '{other.name}' rank {ranks[1]}; must be the same"
            yield Hit(text, unsure=None in ranks)


def branch_output_names_differ(site: Site) -> Hits:
    pairs = _branch_outputs(site)
    for name in sorted({str(one.name) for one, _ in pairs} & {str(other.name) for _, other in pairs}):
        yield Hit(f"both branches have an output '{name}'; names must differ")


def loop_static_scan_length(site: Site) -> Hits:
    carried = len(site.node.inputs) - 2
    trips = site.input(0)
    if len(site.node.outputs) > carried and (trips is None or site.constant(trips) is None):
        yield Hit("scan outputs with a trip count that is computed or absent; must be a constant")


def loop_carried_shape_invariant(site: Site) -> Hits:
    body = site.node.attributes["body"].as_graph()
    for (name, before), after in zip(site.inputs(range(2, len(site.node.inputs))), body.outputs[1:], strict=False):
        if before.shape is None or after.shape is None:
            yield Hit(f"{name} is carried with an unknown shape; must keep it", unsure=True)
        elif not _may_equal(before.shape, after.shape):
            yield Hit(f"{name} is carried as {_shape(before)} and comes back as {_shape(after)}; must keep its shape")


def precision(site: Site) -> Hits:
    for name, value in site.inputs([0]):
        if site.dtype(value) in _HALF:
            yield Hit(f"{name} is {site.dtype(value)}; cast to FP32 around it")


def occurs(site: Site) -> Hits:
    yield Hit(f"{site.node.op_type} is used")


# --- a graph --------------------------------------------------------------------------------------------------------


def opset(scope: Scope, *, max: int, min: int = 1) -> Hits:
    if not min <= scope.opset <= max:
        yield Hit(f"opset {scope.opset}; allowed {_range(min, max)}")


def not_surveyed(scope: Scope) -> Hits:
    yield Hit("the rules are older than this version")


def local_functions(scope: Scope) -> Hits:
    if scope.functions:
        yield Hit(f"the model defines {_list(scope.functions)}; inline them")


def external_data(scope: Scope) -> Hits:
    tensors = (value.const_value for value in scope.constants())
    files = {str(tensor.location) for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}
    if files:
        yield Hit(f"weights lie in {_list(sorted(files))}")


def int64_io(scope: Scope) -> Hits:
    for word, value in scope.ports():
        if dtype_name(value) == "INT64":
            yield Hit(f"{word} '{value.name}' is INT64; becomes INT32")


def int64_range(scope: Scope) -> Hits:
    for value in scope.constants():
        array = value.const_value.numpy() if dtype_name(value) == "INT64" and value.const_value is not None else None
        if array is not None and array.size and not _INT32.min <= array.min() <= array.max() <= _INT32.max:
            yield Hit(f"constant '{value.name}' is {_short(array)}; clamped to INT32")


def double(scope: Scope) -> Hits:
    for value in scope.values():
        if dtype_name(value) == "DOUBLE":
            yield Hit(f"'{value.name}' is DOUBLE; becomes FP32")


def bool_io(scope: Scope) -> Hits:
    for word, value in scope.ports():
        if dtype_name(value) == "BOOL":
            yield Hit(f"{word} '{value.name}' is BOOL")


def uint8_inside(scope: Scope) -> Hits:
    ports = {id(value) for _, value in scope.ports()}
    for value in scope.values():
        if dtype_name(value) == "UINT8" and id(value) not in ports:
            yield Hit(f"'{value.name}' is UINT8; only inputs and outputs of the graph may be")


def max_rank(scope: Scope, *, value: int) -> Hits:
    for found in scope.values():
        if found.shape is not None and found.shape.rank() > value:
            yield Hit(f"'{found.name}' has {found.shape.rank()} dimensions; at most {value}")


def empty_tensor(scope: Scope) -> Hits:
    constants = {id(value) for value in scope.constants()}  # an empty list of sizes or axes is nothing to bind
    for value in scope.values():
        if id(value) not in constants and value.shape is not None and 0 in value.shape.dims:
            yield Hit(f"'{value.name}' has shape {_shape(value)}")


# --- shared by them -------------------------------------------------------------------------------------------------


def _typed(site: Site, name: str, value: ir.Value, allowed: Sequence[str]) -> Hits:
    found = site.dtype(value)
    if found is None:
        yield Hit(f"{name} has an unknown type; allowed {_list(allowed)}", unsure=True)
    elif found not in ({"INT32" if item == "INT64" and not site.scope.native_int64 else item for item in allowed}):
        yield Hit(f"{name} is {dtype_name(value)}; allowed {_list(allowed)}")


def _foldable(site: Site, value: ir.Value) -> bool:
    """Whether constants alone, and shapes that are static, decide a computed value."""
    pending, seen = [value], set()
    while pending:
        item = pending.pop()
        node = item.producer()
        if id(item) in seen or site.constant(item) is not None:
            continue
        seen.add(id(item))
        if node is None or not node.inputs or node.op_type in _NEVER_FOLDED:
            return False
        if node.op_type == "Shape" and node.inputs[0] is not None and _static(node.inputs[0]):
            continue
        pending += [one for one in node.inputs if one is not None]
    return True


def _branch_outputs(site: Site) -> list[tuple[ir.Value, ir.Value]]:
    branches = [site.node.attributes[name].as_graph().outputs for name in ("then_branch", "else_branch")]
    return list(zip(*branches, strict=True))


def _static(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(size, int) for size in value.shape)


def _may_equal(one: ir.Shape, other: ir.Shape) -> bool:
    return one.rank() == other.rank() and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(one, other, strict=True)
    )


def _shape(value: ir.Value) -> str:
    return "unknown" if value.shape is None else f"[{_list(value.shape)}]"


def _short(array: Any) -> str:
    text = " ".join(map(str, np.ravel(array)[:4]))
    return text + (" …" if np.size(array) > 4 else "")


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}..{high}"


def _list(items: Any) -> str:
    return ", ".join(map(str, items))


_OCCURS = ("control_flow", "data_dependent_output", "nondeterministic", "slow", "discouraged")
NODE_KINDS: dict[str, Callable[..., Hits]] = {
    function.__name__: function
    for function in (
        dtype, dtype_in, const_input, const_or_integer, tensor_input, rank, spatial_rank, attr_in, attr_forbidden,
        attr_forbidden_if, attr_all_ones, max_outputs, max_inputs, forbidden_inputs, requires_input, max_value,
        same_dtype, keep_fp32_inputs, zero_point_zero, static_shape, static_dim, einsum_plain, opset_max, real_input,
        bidir_same_activations, branch_outputs_same_rank, branch_output_names_differ, loop_static_scan_length,
        loop_carried_shape_invariant, precision,
    )
} | dict.fromkeys(_OCCURS, occurs) | ATTENTION_KINDS  # fmt: skip
GRAPH_KINDS: dict[str, Callable[..., Hits]] = {
    function.__name__: function
    for function in (
        opset, not_surveyed, local_functions, external_data, int64_io, int64_range, double, bool_io, uint8_inside,
        max_rank, empty_tensor,
    )
}  # fmt: skip
