"""A pickle reader that cannot run anything.

Python's own unpickler calls what a file tells it to call, and even a restricted one can be made to set attributes or to
reserve gigabytes for its memo. A voice needs dictionaries, lists, numbers, strings and tensors, so this is a small
stack machine for exactly that. Names of classes and functions stay names; the few that upstream writes have a fixed
inert meaning here, every other one is refused and listed.
"""

from __future__ import annotations

import pickletools
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 16 << 20  # a full-size voice needs about 0.2 MB
MAX_OPERATIONS = 250_000  # a full-size voice needs 40,000
# An operation makes a value of a few words, but for those that copy what was made before: they `spend` from what the
# stream's own bytes allow, because an honest stream writes what it copies, each once.
COPIES_PER_BYTE = 0.25
MAX_NODES = 200_000  # of the plain values made from it; shared parts count once for each place
MAX_DEPTH = 32
_FREE_COPIES = 1000
_MOST_NAMES = 50  # of refused globals that a message lists

STORAGE_TYPES = {
    "torch.HalfStorage": "float16",
    "torch.FloatStorage": "float32",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.BoolStorage": "bool",
    "torch.DoubleStorage": "float64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
}
_OTHER_STORAGE = re.compile(r"torch\.(?:\w+Storage|storage\.\w+|float8\w*)")  # harmless, and not read
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_SIZE = "torch.Size"
_ORDERED = "collections.OrderedDict"
_HPARAMS = "utils.HParams"
ALLOWED_GLOBALS = frozenset({_TENSOR, *_PARAMETERS, _SIZE, _ORDERED, _HPARAMS, *STORAGE_TYPES})


class PickleError(ValueError):
    """The stream is damaged or asks for something that no voice needs; `names` lists the globals it must not use."""

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True)
class Global:
    """The name of a class or function; nothing is imported for it."""

    name: str


@dataclass(frozen=True)
class StorageRef:
    """A run of `count` elements in the archive member `data/<key>`."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class TensorRef:
    """A strided view of a storage; `offset` and `stride` count elements."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Bag(dict[Any, Any]):
    """Stands for `utils.HParams`: the attributes as a dictionary."""


class Ordered(dict[Any, Any]):
    """Stands for `collections.OrderedDict`; attributes set on it (`_metadata`) are dropped."""


class _Mark:
    pass


_MARK = _Mark()


def _layout(operation: pickletools.OpcodeInfo) -> int | str:
    """How an operation's argument is stored: so many bytes, "line", "lines" (two), or a length field and its bytes."""
    if operation.arg is None:
        return 0
    if operation.arg is pickletools.stringnl_noescape_pair:
        return "lines"
    lengths = {
        pickletools.UP_TO_NEWLINE: "line",
        pickletools.TAKEN_FROM_ARGUMENT1: "<B",
        pickletools.TAKEN_FROM_ARGUMENT4: "<I",
        pickletools.TAKEN_FROM_ARGUMENT4U: "<I",
        pickletools.TAKEN_FROM_ARGUMENT8U: "<Q",
    }
    return lengths.get(operation.arg.n, operation.arg.n)


_OPERATIONS = {ord(operation.code): (operation.name, _layout(operation)) for operation in pickletools.opcodes}


def operations(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Split a pickle into (operation, raw argument) up to STOP, without giving any of them a meaning.

    Raises:
        PickleError: an unknown operation, an argument that runs past the end, no STOP, or too many operations.
    """
    position = 0
    for _ in range(MAX_OPERATIONS):
        if position >= len(data):
            raise PickleError("the pickle ends before its STOP")
        if (entry := _OPERATIONS.get(data[position])) is None:
            raise PickleError(f"byte {position} of the pickle is no operation ({data[position]:#04x})")
        name, layout = entry
        start, end = _argument(data, position + 1, layout)
        if end > len(data):
            raise PickleError(f"{name} at byte {position} runs past the end of the pickle")
        yield name, data[start:end]
        if name == "STOP":
            return
        position = end
    raise PickleError(f"the pickle has more than {MAX_OPERATIONS} operations")


def _argument(data: bytes, start: int, layout: int | str) -> tuple[int, int]:
    """Where an argument starts and ends (just past `data` when it is cut short)."""
    beyond = len(data) + 1
    if isinstance(layout, int):
        return start, start + layout
    if layout in ("line", "lines"):
        end = start
        for _ in range(len(layout) - 3):  # "line" is one, "lines" two
            end = data.find(b"\n", end) + 1
            if end == 0:
                return start, beyond
        return start, end
    size = struct.calcsize(layout)
    if start + size > len(data):
        return start, beyond
    (length,) = struct.unpack_from(layout, data, start)
    return start + size, start + size + length


def read_pickle(data: bytes) -> Any:
    """The value of a torch pickle, made of plain values, `Bag`, `Ordered` and `TensorRef`.

    Raises:
        PickleError: damaged, too large, or it uses operations or globals that no voice needs.
    """
    if len(data) > MAX_BYTES:
        raise PickleError(f"the pickle has {len(data)} bytes, more than {MAX_BYTES}")
    machine = _Machine(len(data))
    for name, argument in operations(data):  # look at the whole stream before any of it gets a meaning
        if name in ("GLOBAL", "INST"):
            machine.named(_dotted(argument))
    machine.refuse_globals()
    try:
        return machine.run(data)
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        machine.refuse_globals()
        if isinstance(error, PickleError):
            raise
        raise PickleError(f"the pickle is damaged: {type(error).__name__} {error}") from error


def _dotted(argument: bytes) -> str:
    module, name, _ = argument.decode("utf-8", "backslashreplace").split("\n")
    return f"{module}.{name}"


def printable(text: str, limit: int = 120) -> str:
    """Text from a file, safe to show on a terminal: escapes for what cannot be printed, cut at `limit` characters."""
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:limit])
    return shown if len(text) <= limit else shown + "..."


def _kind(value: Any) -> str:
    """What a refused value is. Its content is never formatted: shared parts could make that text endless."""
    return printable(value.name) if isinstance(value, Global) else f"a {type(value).__name__}"


class _Machine:
    """Stack, memo and the globals met so far."""

    def __init__(self, size: int = 0) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.refused: dict[str, None] = {}
        self.left = _FREE_COPIES + int(COPIES_PER_BYTE * size)

    def spend(self, values: int) -> None:
        """Pay for so many copied values or letters, before they are copied."""
        self.left -= values
        if self.left < 0:
            raise PickleError("the pickle copies what it made before over and over, as no voice does")

    def run(self, data: bytes) -> Any:
        for name, argument in operations(data):
            if name == "STOP":
                self.refuse_globals()
                return self.pop()
            if (action := _ACTIONS.get(name)) is None:
                raise PickleError(f"the pickle uses {name}, which no voice file needs")
            action(self, argument)
        raise PickleError("the pickle ends before its STOP")

    def named(self, name: str) -> Global:
        if name not in ALLOWED_GLOBALS and len(self.refused) < _MOST_NAMES:
            self.refused[printable(name)] = None
        return Global(name)

    def refuse_globals(self) -> None:
        if self.refused:
            names = tuple(self.refused)
            if other := [name for name in names if _OTHER_STORAGE.fullmatch(name)]:
                raise PickleError(
                    f"its tensors are stored as {', '.join(other)}, which is not read: save them as float32 or float16 "
                    "(model.float() before torch.save)",
                    () if len(other) == len(names) else names,
                )
            raise PickleError(f"the pickle asks for {', '.join(names)}; nothing was run", names)

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if self.stack[-1] is _MARK:
            raise PickleError("the pickle takes a value where a mark is")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise PickleError("the pickle closes a mark that it never opened")

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(pairs) % 2:
            raise PickleError("the pickle sets items on something that is no dictionary")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str):
                raise PickleError(f"the pickle has a dictionary key of type {type(key).__name__}")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise PickleError("the pickle appends to something that is no list")
        self.stack[-1].extend(values)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise PickleError("the pickle names a global with something that is no string")
        self.spend(len(module) + len(name))
        self.push(self.named(f"{module}.{name}"))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if function == Global(_ORDERED) and arguments == ():
            self.push(Ordered())
        elif function == Global(_TENSOR):
            self.push(_tensor(arguments))
        elif isinstance(function, Global) and function.name in _PARAMETERS:
            self.push(_parameter(arguments))
        elif function == Global(_SIZE) and isinstance(arguments, tuple) and len(arguments) == 1:
            self.push(arguments[0])
        elif isinstance(function, Global) and function.name not in ALLOWED_GLOBALS:
            self.push(None)  # read on, so that every refused name gets listed
        else:
            raise PickleError(f"the pickle calls {_kind(function)} in an unknown way")

    def new_object(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if arguments != () or kind not in (Global(_HPARAMS), Global(_ORDERED)):
            raise PickleError(f"the pickle makes an object of {_kind(kind)}")
        self.push(Bag() if kind == Global(_HPARAMS) else Ordered())

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if type(target) is Bag and isinstance(state, dict):
            self.spend(len(state))
            target.update(state)
        elif type(target) is not Ordered:
            raise PickleError(f"the pickle sets the state of a {type(target).__name__}")

    def persistent(self) -> None:
        identity = self.pop()
        if not (isinstance(identity, tuple) and len(identity) == 5 and identity[0] == "storage"):
            raise PickleError("the pickle refers to something that is no torch storage")
        _, kind, key, _, count = identity
        if not (isinstance(kind, Global) and kind.name in STORAGE_TYPES and isinstance(key, str) and _is_size(count)):
            raise PickleError(f"the pickle describes a storage that no voice has (its type is {_kind(kind)})")
        self.push(StorageRef(STORAGE_TYPES[kind.name], key, count))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 48


def _parameter(arguments: Any) -> TensorRef:
    """An `nn.Parameter` is the tensor that it wraps."""
    if not (isinstance(arguments, tuple) and len(arguments) in (3, 4) and isinstance(arguments[0], TensorRef)):
        raise PickleError("the pickle builds a parameter of something that is no tensor")
    return arguments[0]


def _tensor(arguments: Any) -> TensorRef:
    if not (isinstance(arguments, tuple) and len(arguments) in (6, 7)):
        raise PickleError("the pickle builds a tensor from the wrong number of arguments")
    storage, offset, shape, stride = arguments[:4]
    sizes = (shape, stride)
    if not (
        isinstance(storage, StorageRef)
        and _is_size(offset)
        and all(isinstance(part, tuple) and len(part) <= 8 and all(map(_is_size, part)) for part in sizes)
        and len(shape) == len(stride)
    ):
        raise PickleError("the pickle describes an impossible tensor")
    return TensorRef(storage, offset, shape, stride)


def _unsigned(argument: bytes) -> int:
    return int.from_bytes(argument, "little")


def _text(argument: bytes) -> str:
    return argument.decode("utf-8")


def _top_tuple(length: int) -> Callable[[_Machine, bytes], None]:
    def action(machine: _Machine, _: bytes) -> None:
        machine.push(tuple(reversed([machine.pop() for _ in range(length)])))

    return action


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.stack[-1]


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items([key, value])


_ACTIONS: dict[str, Callable[[_Machine, bytes], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.push(_MARK),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "BININT": lambda machine, argument: machine.push(int.from_bytes(argument, "little", signed=True)),
    "BININT1": lambda machine, argument: machine.push(_unsigned(argument)),
    "BININT2": lambda machine, argument: machine.push(_unsigned(argument)),
    "LONG1": lambda machine, argument: machine.push(int.from_bytes(argument, "little", signed=True)),
    "BINFLOAT": lambda machine, argument: machine.push(struct.unpack(">d", argument)[0]),
    "BINUNICODE": lambda machine, argument: machine.push(_text(argument)),
    "SHORT_BINUNICODE": lambda machine, argument: machine.push(_text(argument)),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _top_tuple(1),
    "TUPLE2": _top_tuple(2),
    "TUPLE3": _top_tuple(3),
    "SETITEM": lambda machine, _: _set_item(machine),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "BINPUT": lambda machine, argument: _put(machine, _unsigned(argument)),
    "LONG_BINPUT": lambda machine, argument: _put(machine, _unsigned(argument)),
    "MEMOIZE": lambda machine, _: _put(machine, len(machine.memo)),
    "BINGET": lambda machine, argument: machine.push(machine.memo[_unsigned(argument)]),
    "LONG_BINGET": lambda machine, argument: machine.push(machine.memo[_unsigned(argument)]),
    "GLOBAL": lambda machine, argument: machine.push(machine.named(_dotted(argument))),
    "STACK_GLOBAL": lambda machine, _: machine.stack_global(),
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new_object(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.persistent(),
}


def plain(value: Any) -> Any:
    """A config as nested dict, list and scalars, free of shared parts and cycles.

    Raises:
        PickleError: deeper than `MAX_DEPTH`, more than `MAX_NODES` values, or something that is no plain value.
    """
    left = MAX_NODES

    def convert(item: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise PickleError(f"the config is deeper than {MAX_DEPTH} or has more than {MAX_NODES} values")
        if isinstance(item, dict):
            return {key: convert(part, depth + 1) for key, part in item.items()}
        if isinstance(item, (list, tuple)):
            return [convert(part, depth + 1) for part in item]
        if item is None or isinstance(item, (str, int, float)):
            return item
        raise PickleError(f"the config holds a {type(item).__name__}")

    return convert(value, 0)
