"""The element type of every tensor, from ONNX's own operator schemas.

A schema names a type variable for each input and output ("T", say); two ports with one variable carry one type. That is
what a strongly typed runtime demands: nothing is promoted, every conversion is a Cast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
import onnx_ir as ir

from gsvexport.errors import PassError


def annotate_types(model: ir.Model) -> None:
    """Give every tensor of `model` its element type, in place; types that are there already are checked.

    Raises:
        PassError: an edge whose two ends disagree, or an operator without a schema; all of them.
    """
    if problems := list(type_errors(model)):
        raise PassError(
            f"stage {model.graph.name} is not typed throughout", problems=problems[:20], found=f"{len(problems)} places"
        )


def type_errors(model: ir.Model) -> Iterator[str]:
    """Every place where types disagree, in words; tensors without a type get theirs on the way."""
    opsets = model.graph.opset_imports
    for node in model.graph:
        try:
            schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
        except onnx.defs.SchemaError:
            yield f"{node.name}: operator {node.domain or 'ai.onnx'}.{node.op_type} has no schema"
            continue
        bound, problems = _bound(node, schema)
        yield from problems
        for index, value in enumerate(node.outputs):
            wanted = _output_type(node, schema, index, bound)
            if wanted is None:
                yield f"{node.name}: the type of {value.name} follows from nothing"
            elif value.dtype is None:
                value.type = ir.TensorType(wanted)
            elif value.dtype != wanted:
                yield f"{node.name} ({node.op_type}): {value.name} is called {value.dtype.name}, it is {wanted.name}"


def _bound(node: ir.Node, schema: onnx.defs.OpSchema) -> tuple[dict[str, ir.DataType], list[str]]:
    """The type of each type variable, and what contradicts it."""
    bound: dict[str, ir.DataType] = {}
    problems = []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        variable = _formal(schema.inputs, index).type_str
        where = f"{node.name} ({node.op_type}) input {index}, {value.name}"
        if value.dtype is None:
            problems.append(f"{where}: its type is not known")
            continue
        if _tensor(value.dtype) not in _allowed(schema, variable):
            problems.append(f"{where}: {value.dtype.name} is not allowed there")
        known = bound.setdefault(variable, value.dtype)
        if known != value.dtype:
            problems.append(f"{where}: {value.dtype.name} beside {known.name}")
    return bound, problems


def _output_type(
    node: ir.Node, schema: onnx.defs.OpSchema, index: int, bound: dict[str, ir.DataType]
) -> ir.DataType | None:
    for name in ("to", "dtype"):
        if name in node.attributes:
            return ir.DataType(node.attributes[name].as_int())
    if node.op_type in ("Constant", "ConstantOfShape") and "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype
    variable = _formal(schema.outputs, index).type_str
    if variable in bound:
        return bound[variable]
    allowed = _allowed(schema, variable)
    return _DTYPES.get(next(iter(allowed))) if len(allowed) == 1 else None


def _formal(ports: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> onnx.defs.OpSchema.FormalParameter:
    """The declared port of an argument; the last one of a variadic operator stands for all that follow."""
    return ports[min(index, len(ports) - 1)]


def _allowed(schema: onnx.defs.OpSchema, variable: str) -> set[str]:
    for constraint in schema.type_constraints:
        if constraint.type_param_str == variable:
            return set(constraint.allowed_type_strs)
    return {variable}  # a concrete type such as tensor(int64)


def _tensor(dtype: ir.DataType) -> str:
    return f"tensor({_NAMES[dtype]})" if dtype in _NAMES else ""


_NAMES = {
    ir.DataType.FLOAT: "float",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.DOUBLE: "double",
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.INT64: "int64",
    ir.DataType.INT32: "int32",
    ir.DataType.INT16: "int16",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.BOOL: "bool",
}
_DTYPES = {f"tensor({name})": dtype for dtype, name in _NAMES.items()}
