"""TFLite files: a `Graph` as bytes, and bytes as a `Graph`.

Equal graphs give equal bytes. What is read may come from a stranger: every count, index and size is checked before it
is followed, and the reader copies nothing.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tflite.graph import Graph, Operator, Quantisation, Tensor
from gsvexport.errors import BackendError, missing_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURE = "serving_default"  # what the only signature is called: its ports are named like the graph's tensors
LARGEST_FILE = 1 << 30  # bytes; a full-size float vocoder has 60 MB
CUSTOM = "CUSTOM"  # an operator of somebody's own; the option `custom_code` says whose
_SCHEMA, _IDENTIFIER = 3, b"TFL3"
_ALIGNMENT = 16  # bytes, of constants in the file: the schema's own rule
_MOST = 100_000  # tensors, operators or buffers
_MOST_ENDS = 256  # inputs or outputs of one operator, or of the graph
_MOST_AXES = 8
_LONGEST_NAME = 1024
_DTYPES = frozenset(
    ("float16", "float32", "float64", "bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)
# Options are named after their operator, but for these.
_OPTIONS = {
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), "MaximumMinimum"),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), "Pool2D"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), "Reducer"),
}
_ENUMS = {"padding": "Padding", "fused_activation_function": "ActivationFunctionType"}


def dump(graph: Graph) -> bytes:
    """The bytes of a `.tflite` file with `graph` as its only subgraph, and one signature over its inputs and outputs.

    Raises:
        BackendError: an operator, option or type that the schema does not have.
        EnvironmentProblem: ai-edge-litert or flatbuffers is not installed.
    """
    s, flatbuffers = _packages()
    model, sub = s.ModelT(), s.SubGraphT()
    buffers: list[Any] = [s.BufferT()]  # buffer 0 is empty by convention
    codes: dict[tuple[str, int, str], int] = {}
    sub.tensors = [_tensor(s, tensor, buffers) for tensor in graph.tensors]
    sub.operators = []
    for operator in graph.operators:
        custom = str(operator.options.get("custom_code", "")) if operator.kind == CUSTOM else ""
        record = _operator(s, operator)
        record.opcodeIndex = codes.setdefault((operator.kind, operator.version, custom), len(codes))
        sub.operators.append(record)
    sub.inputs, sub.outputs, sub.name = list(graph.inputs), list(graph.outputs), "main"
    model.version, model.description, model.subgraphs = _SCHEMA, graph.description, [sub]
    model.operatorCodes = [_code(s, *key) for key in codes]
    model.buffers, model.signatureDefs = buffers, [_signature(s, graph)]
    builder = flatbuffers.Builder(1024 + sum(tensor.bytes for tensor in graph.tensors if tensor.data is not None))
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def parse(data: bytes, where: str) -> Graph:
    """The graph in the bytes of a `.tflite` file; `where` names it in errors. Constants are views of `data`.

    Every option that the schema knows is there, enumerations by name. A file keeps no names of nodes: an operator is
    called like its first output.

    Raises:
        BackendError: it is no TFLite file, damaged, has several subgraphs, or types that numpy has not.
        EnvironmentProblem: ai-edge-litert or flatbuffers is not installed.
    """
    s, _ = _packages()
    if len(data) > LARGEST_FILE:
        raise BackendError(f"{where} is too large to be read", found=f"{len(data)} bytes", limit=LARGEST_FILE)
    if len(data) < 8 or data[4:8] != _IDENTIFIER:
        raise BackendError(f"{where} is no TFLite file", found=data[4:8], limit=_IDENTIFIER)
    try:
        return _Reader(s, data).graph()
    except BackendError as error:
        raise BackendError(f"{where} cannot be read", problems=[error.what]) from None
    except (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError, MemoryError) as error:
        # What flatbuffers and numpy raise when an offset leads out of the file.
        raise BackendError(f"{where} is damaged", problems=[f"{type(error).__name__}: {error}"]) from error


def load(path: Path) -> Graph:
    """The graph in a `.tflite` file; see `parse`.

    Raises:
        BackendError: it is missing, too large or damaged.
    """
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        raise BackendError(f"{path} is missing or too large", limit=f"{LARGEST_FILE} bytes")
    return parse(path.read_bytes(), path.name)


# --- writing --------------------------------------------------------------------------------------------------------


def _tensor(s: Any, tensor: Tensor, buffers: list[Any]) -> Any:
    record = s.TensorT()
    record.name, record.shape = tensor.name, list(tensor.shape)
    record.type, record.buffer = _type(s, tensor), 0
    if tensor.signature is not None:
        record.shapeSignature = list(tensor.signature)
    if tensor.data is not None:
        data = np.asarray(tensor.data, order="C")
        if data.dtype.name != tensor.dtype or data.size != np.prod(tensor.shape, dtype=np.int64):
            found = f"{data.dtype.name} {list(data.shape)}"
            raise BackendError(f"constant {tensor.name}", found=found, limit=f"{tensor.dtype} {list(tensor.shape)}")
        buffers.append(_aligned(s)(data.reshape(-1).view(np.uint8)))
        record.buffer = len(buffers) - 1
    if tensor.quantisation is not None:
        q = s.QuantizationParametersT()
        q.scale, q.zeroPoint = list(tensor.quantisation.scale), list(tensor.quantisation.zero_point)
        q.quantizedDimension = tensor.quantisation.axis
        record.quantization = q
    return record


def _type(s: Any, tensor: Tensor) -> int:
    if tensor.dtype not in _DTYPES:
        raise BackendError(f"tensor {tensor.name}: TFLite files have no type {tensor.dtype}")
    return int(getattr(s.TensorType, tensor.dtype.upper()))


@cache
def _aligned(s: Any) -> Any:
    """The schema's buffer, with its content aligned as the schema asks; the generated code aligns to 4 bytes."""

    class Aligned(s.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated code's name
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head = builder.Head() - size
            builder.Bytes[builder.Head() : builder.Head() + size] = self.data.tobytes()
            content = builder.EndVector()
            s.BufferStart(builder)
            s.BufferAddData(builder, content)
            return s.BufferEnd(builder)

    return Aligned


def _operator(s: Any, operator: Operator) -> Any:
    record = s.OperatorT()
    record.inputs, record.outputs = list(operator.inputs), list(operator.outputs)
    if operator.kind == CUSTOM:
        return record
    name = _options_name(s, operator.kind)
    if name is None:
        if operator.options:
            raise BackendError(f"{operator.name}: {operator.kind} has no options", found=", ".join(operator.options))
        return record
    options = getattr(s, f"{name}T")()
    for key, value in operator.options.items():
        if (attribute := _camel(key)) not in vars(options):
            raise BackendError(f"{operator.name}: {operator.kind} has no option '{key}'")
        if isinstance(value, str):
            value = getattr(getattr(s, _ENUMS[key]), value)
        setattr(options, attribute, list(value) if isinstance(value, tuple) else value)
    record.builtinOptionsType, record.builtinOptions = getattr(s.BuiltinOptions, name), options
    return record


def _code(s: Any, kind: str, version: int, custom: str) -> Any:
    code = s.OperatorCodeT()
    number = getattr(s.BuiltinOperator, kind, None)
    if number is None:
        raise BackendError(f"TFLite has no operator {kind}")
    code.builtinCode, code.version = number, version
    code.deprecatedBuiltinCode = min(number, s.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
    if custom:
        code.customCode = custom
    return code


def _signature(s: Any, graph: Graph) -> Any:
    def ports(indices: tuple[int, ...]) -> list[Any]:
        found = []
        for index in indices:
            port = s.TensorMapT()
            port.name, port.tensorIndex = graph.tensors[index].name, index
            found.append(port)
        return found

    signature = s.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = ports(graph.inputs), ports(graph.outputs)
    return signature


# --- reading --------------------------------------------------------------------------------------------------------


class _Reader:
    """Reads table by table; every count is bounded before anything is read that often."""

    def __init__(self, s: Any, data: bytes) -> None:
        self.s, self.data = s, data
        self.model = s.Model.GetRootAs(data, 0)

    def graph(self) -> Graph:
        model = self.model
        if model.Version() != _SCHEMA:
            raise BackendError(f"schema {model.Version()} instead of {_SCHEMA}")
        if model.SubgraphsLength() != 1:
            raise BackendError(f"{model.SubgraphsLength()} subgraphs instead of one")
        sub = model.Subgraphs(0)
        counts = (model.BuffersLength(), model.OperatorCodesLength(), sub.TensorsLength(), sub.OperatorsLength())
        if max(counts) > _MOST:
            raise BackendError(f"{max(counts)} tensors, operators or buffers; at most {_MOST} are read")
        tensors = tuple(self._tensor(sub.Tensors(i)) for i in range(sub.TensorsLength()))
        codes = [self._code(model.OperatorCodes(i)) for i in range(model.OperatorCodesLength())]
        operators = tuple(self._operator(sub.Operators(i), codes, tensors) for i in range(sub.OperatorsLength()))
        inputs, outputs = self._ends("the graph", sub, len(tensors))
        if any(index < 0 for index in (*inputs, *outputs)):
            raise BackendError("an input or output of the graph is no tensor")
        return Graph(tensors, operators, inputs, outputs, self._text(model, 10))

    def _tensor(self, tensor: Any) -> Tensor:
        name = self._text(tensor, 10)
        kinds = {number: kind.lower() for kind, number in vars(self.s.TensorType).items() if not kind.startswith("_")}
        dtype = kinds.get(tensor.Type(), "")
        if dtype not in _DTYPES:
            raise BackendError(f"tensor {name} has the type {dtype or tensor.Type()}, which numpy has not")
        shape = self._numbers(f"shape of {name}", tensor.ShapeLength(), tensor.ShapeAsNumpy, _MOST_AXES)
        declared = tensor.ShapeSignatureLength()
        signature = self._numbers(f"shape of {name}", declared, tensor.ShapeSignatureAsNumpy, _MOST_AXES)
        if any(axis < 0 for axis in shape):
            raise BackendError(f"tensor {name} has the shape {list(shape)}")
        data = self._buffer(name, tensor.Buffer(), shape, dtype)
        return Tensor(name, shape, dtype, data, self._quantisation(name, tensor, shape), signature or None)

    def _buffer(self, name: str, index: int, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
        if index >= self.model.BuffersLength():
            raise BackendError(f"tensor {name} is in buffer {index} of {self.model.BuffersLength()}")
        buffer = self.model.Buffers(index)
        if buffer.Offset() > 1 or buffer.Size() > 1:
            raise BackendError(f"tensor {name} lies outside of the file's tables")
        if buffer.DataLength() == 0:
            return None
        size = np.dtype(dtype).itemsize
        for axis in shape:
            size *= axis
        if buffer.DataLength() != size:
            raise BackendError(f"tensor {name} has {buffer.DataLength()} bytes instead of {size}")
        content = np.asarray(buffer.DataAsNumpy(), np.uint8)
        if content.nbytes != size:
            raise BackendError(f"tensor {name} reaches over the end of the file")
        return content.view(dtype).reshape(shape)

    def _quantisation(self, name: str, tensor: Any, shape: tuple[int, ...]) -> Quantisation | None:
        q = tensor.Quantization()
        if q is None or q.ScaleLength() == 0:
            return None
        count, axis = q.ScaleLength(), q.QuantizedDimension()
        fits = count == 1 or (0 <= axis < len(shape) and shape[axis] == count)
        if not fits or q.ZeroPointLength() != count:
            raise BackendError(f"tensor {name} has {count} scales and {q.ZeroPointLength()} zero points on axis {axis}")
        scale, zero = np.asarray(q.ScaleAsNumpy()), np.asarray(q.ZeroPointAsNumpy())
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise BackendError(f"tensor {name} has scales that are not positive numbers")
        return Quantisation(tuple(scale.tolist()), tuple(zero.tolist()), axis)

    def _code(self, code: Any) -> tuple[str, int, str]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = next((kind for kind, value in vars(self.s.BuiltinOperator).items() if value == number), None)
        if kind is None:
            raise BackendError(f"operator code {number} is not known")
        return kind, int(code.Version()), self._text(code, 6) if kind == CUSTOM else ""

    def _operator(self, operator: Any, codes: list[tuple[str, int, str]], tensors: tuple[Tensor, ...]) -> Operator:
        if operator.OpcodeIndex() >= len(codes):
            raise BackendError(f"an operator has the code {operator.OpcodeIndex()} of {len(codes)}")
        kind, version, custom = codes[operator.OpcodeIndex()]
        inputs, outputs = self._ends(kind, operator, len(tensors))
        name = tensors[outputs[0]].name if outputs and outputs[0] >= 0 else ""
        options = {"custom_code": custom} if kind == CUSTOM else self._options(kind, operator)
        return Operator(kind, version, inputs, outputs, options, name)

    def _options(self, kind: str, operator: Any) -> Mapping[str, Any]:
        name, union = _options_name(self.s, kind), operator.BuiltinOptions()
        if name is None or union is None or operator.BuiltinOptionsType() == 0:
            return {}
        if operator.BuiltinOptionsType() != getattr(self.s.BuiltinOptions, name):
            raise BackendError(f"{kind} has the options of another operator")
        record = getattr(self.s, f"{name}T").InitFromBuf(union.Bytes, union.Pos)
        return {_snake(key): self._option(_snake(key), value) for key, value in vars(record).items()}

    def _option(self, key: str, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return tuple(value[:_MOST_AXES].tolist())
        if key not in _ENUMS:
            return value
        return next((text for text, one in vars(getattr(self.s, _ENUMS[key])).items() if one == value), value)

    def _ends(self, what: str, table: Any, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Inputs and outputs of an operator or of the graph, indices among `count` tensors."""
        what = f"ends of {what}"
        inputs = self._numbers(what, table.InputsLength(), table.InputsAsNumpy, _MOST_ENDS)
        outputs = self._numbers(what, table.OutputsLength(), table.OutputsAsNumpy, _MOST_ENDS)
        if wrong := [index for index in (*inputs, *outputs) if not -1 <= index < count]:
            raise BackendError(f"{what} are not among {count} tensors: {wrong}")
        return inputs, outputs

    @staticmethod
    def _numbers(what: str, count: int, read: Callable[[], Any], most: int) -> tuple[int, ...]:
        if count > most:
            raise BackendError(f"{what}: {count} numbers; at most {most} are read")
        return tuple(int(one) for one in read()) if count else ()

    def _text(self, table: Any, slot: int) -> str:
        """A string field by its place in the table (4 + 2·its number); its length is checked before it is read."""
        offset = table._tab.Offset(slot)
        if not offset:
            return ""
        start = table._tab.Pos + offset
        start += struct.unpack_from("<I", self.data, start)[0]
        (length,) = struct.unpack_from("<I", self.data, start)
        if length > _LONGEST_NAME or start + 4 + length > len(self.data):
            raise BackendError(f"a name of {length} bytes; at most {_LONGEST_NAME} are read")
        return self.data[start + 4 : start + 4 + length].decode("utf-8", "replace")


# --- names ----------------------------------------------------------------------------------------------------------


def _options_name(s: Any, kind: str) -> str | None:
    """The schema's table of options for an operator; None when it has none."""
    name = _OPTIONS.get(kind, kind.title().replace("_", "")) + "Options"
    return name if hasattr(s.BuiltinOptions, name) else None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _snake(name: str) -> str:
    return re.sub(r"(?=[A-Z])", "_", name).lower()


def _packages() -> tuple[Any, Any]:
    try:
        import flatbuffers
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        name = "flatbuffers" if error.name == "flatbuffers" else "ai-edge-litert"
        raise missing_package(name, "a TFLite file", "compile") from error
    return schema_py_generated, flatbuffers
