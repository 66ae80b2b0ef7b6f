"""Reading a `.ckpt` or `.pth` as upstream writes them, without torch and without running anything in them."""

from __future__ import annotations

import hashlib
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from gsvexport.errors import VoiceError
from gsvexport.untrusted.reading import Refused
from gsvexport.untrusted.reading import opened as opened_file
from gsvexport.voice.archive import ArchiveError, Member, content, members, small_content
from gsvexport.voice.pickle import MAX_BYTES, PickleError, TensorRef, plain, printable, read_pickle
from gsvexport.voice.saved import WRAPPERS, renamed, unwrapped

Array = npt.NDArray[Any]

HEADERS = ("PK", "00", "01", "02", "03", "04", "05", "06")  # upstream's save writes two digits over the zip magic
_START = 8192  # bytes that upstream's table of known files is made of
_ZIP_REST = b"\x03\x04"
_TENSOR_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_DTYPES = {"float16": "<f2", "float32": "<f4", "bfloat16": "<u2", "int64": "<i8", "bool": "?"}
_DTYPES |= {"float64": "<f8", "int32": "<i4", "int16": "<i2", "int8": "i1", "uint8": "u1"}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One weights file.

    `header` is "PK" or upstream's two digits. `tensors` are read-only views of the mapped file in the stored dtype and
    strides (bfloat16 becomes float32); the mapping lives as long as one of them. `config` is plain dict, list and
    scalars. `info` is upstream's "GPT-e15" or "8epoch_1234iteration". `lora_rank` is set in LoRA files only. `start` is
    the MD5 of the first 8192 bytes, by which upstream knows its own base models.
    """

    path: Path
    sha256: str
    size: int
    header: str
    tensors: Mapping[str, Array]
    config: dict[str, Any]
    info: str
    lora_rank: int | None = None
    start: str = ""


@dataclass(frozen=True, eq=False)
class TensorFile:
    """Tensors alone, as in `Checkpoint`: what upstream's pretrained vocoders are stored as."""

    path: Path
    sha256: str
    size: int
    tensors: Mapping[str, Array]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a GPT or SoVITS weights file.

    Nothing in the file is run, and every size is checked before it is used. Which network it holds is not looked at.

    Raises:
        VoiceError: absent, not a torch zip file, damaged, hostile, or without the parts that a voice has.
    """
    opened = _open(Path(path))
    try:
        weight, config, info, rank = _parts(opened.value)
        tensors = opened.tensors(weight)
    except (PickleError, ArchiveError) as error:
        _refuse(opened.path, error)
    start = hashlib.md5(opened.header.encode() + opened.data[2:_START], usedforsecurity=False).hexdigest()
    return Checkpoint(opened.path, opened.sha256(), len(opened.data), opened.header, tensors, config, info, rank, start)


def read_tensor_file(path: Path, key: str) -> TensorFile:
    """Read a file that holds tensors by name, below `key` or at its top.

    Raises:
        VoiceError: as `read_checkpoint`, or other things than tensors.
    """
    opened = _open(Path(path))
    try:
        value = opened.value.get(key, opened.value) if isinstance(opened.value, dict) else None
        if not isinstance(value, dict):
            raise PickleError("it holds no tensors by name")
        weights = renamed(_named(dict(unwrapped(value))))
        return TensorFile(opened.path, opened.sha256(), len(opened.data), opened.tensors(weights))
    except (PickleError, ArchiveError) as error:
        _refuse(opened.path, error)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A torch file whose pickle has been read: `data` with the zip magic repaired, `header` what stood there."""

    path: Path
    data: mmap.mmap
    header: str
    entries: Mapping[str, Member]
    root: str
    value: Any

    def tensors(self, references: Mapping[str, TensorRef]) -> dict[str, Array]:
        return _Tensors(self.data, self.entries, self.root).read(references)

    def sha256(self) -> str:
        digest = hashlib.sha256(self.header.encode())  # of the file as it is, not as repaired
        digest.update(memoryview(self.data)[2:])
        return digest.hexdigest()


def _open(path: Path) -> _Opened:
    data = _map(path)
    header = _repair(path, data)
    try:
        entries = members(data)
        root = _root(entries)
        order = entries.get(f"{root}/byteorder")
        if order is not None and small_content(data, order, 64).strip() != b"little":
            raise ArchiveError("the tensors are not stored in little-endian byte order")
        value = read_pickle(small_content(data, entries[f"{root}/data.pkl"], MAX_BYTES))
    except PickleError as error:
        _refuse(path, error, hostile=bool(error.names))
    except ArchiveError as error:
        _refuse(path, error)
    return _Opened(path, data, header, entries, root, value)


def without(checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> Checkpoint:
    """The same file without some of its tensors."""
    if not any(name.startswith(prefixes) for name in checkpoint.tensors):
        return checkpoint
    kept = {name: array for name, array in checkpoint.tensors.items() if not name.startswith(prefixes)}
    return replace(checkpoint, tensors=kept)


def _refuse(path: Path, error: ValueError, *, hostile: bool = False) -> NoReturn:
    if hostile:
        fix = (
            "do not load this file with other software either: it can run code; get the voice from somewhere you trust"
        )
    else:
        fix = "copy or download the file again; use what training puts into GPT_weights*/ and SoVITS_weights*/"
    raise VoiceError(f"{path}: {error}", fix=fix) from error


def _map(path: Path) -> mmap.mmap:
    try:
        with opened_file(path) as stream:
            # private and copy-on-write: the repaired header never reaches the file
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
    except Refused as error:
        raise VoiceError(f"{path} {error}", fix="check the path in voice.toml") from error
    except ValueError as error:
        raise VoiceError(f"{path} is empty", fix="copy or download the file again") from error
    except OSError as error:
        raise VoiceError(f"{path} cannot be read: {error.strerror}", fix="check the path in voice.toml") from error


def _repair(path: Path, data: mmap.mmap) -> str:
    """Put the zip magic back where upstream wrote a version over it, and return what stood there."""
    start = data[:16]
    header = start[:2].decode("ascii", "replace")
    if start[2:4] == _ZIP_REST and header in HEADERS:
        data[:2] = b"PK"
        return header
    fix = "use what training puts into GPT_weights*/ and SoVITS_weights*/"
    if start[2:4] == _ZIP_REST and header.isdigit():
        raise VoiceError(
            f"{path} is of a GPT-SoVITS version that this release does not know",
            found=f"header {header}",
            limit=f"headers {', '.join(HEADERS)}",
            fix="update gsvexport",
        )
    if start.startswith(b"\x80"):
        what, fix = (
            "a bare pickle or a legacy torch file, not a torch zip file",
            "save it again with torch 1.6 or newer",
        )
    elif start.startswith(b"version https://"[:16]):
        what, fix = "a git-lfs pointer, not the file itself", "git lfs pull"
    else:
        what = "not a torch zip file, or its start is damaged"
    raise VoiceError(f"{path} is {what}", found=f"first bytes {start[:8].hex(' ')}", fix=fix)


def _root(entries: Mapping[str, Member]) -> str:
    """The folder inside the zip: upstream names it after the clock, other writers `archive`."""
    roots = [name[: -len("/data.pkl")] for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ArchiveError(f"the zip holds {len(roots)} entries named data.pkl; a torch file has exactly one")
    return roots[0]


def _parts(value: Any) -> tuple[dict[str, TensorRef], dict[str, Any], str, int | None]:
    keys = [printable(key, 40) for key in list(value)[:12]] if isinstance(value, dict) else [type(value).__name__]
    weight, config = (None, None)
    if isinstance(value, dict):
        config = value.get("config")
        weight = value.get("weight") or next(
            (value[name] for name in WRAPPERS if isinstance(value.get(name), dict)), None
        )
    if not isinstance(weight, dict) or not isinstance(config, dict):
        raise PickleError(
            f"it has no 'weight' and 'config' (it holds: {', '.join(keys)}), so it is no exported voice; "
            f"a training state cannot be used{_advice(value)}"
        )
    info, rank = value.get("info"), value.get("lora_rank")
    try:
        weight = renamed(_named(dict(unwrapped(weight))))
    except PickleError:
        raise
    except ValueError as error:
        raise PickleError(str(error)) from error
    return weight, plain(config), printable(info) if isinstance(info, str) else "", _rank(rank)


def _named(weight: dict[Any, Any]) -> dict[str, TensorRef]:
    """The same dictionary, once it is known to hold tensors by decent names."""
    if strange := [name for name in weight if not isinstance(name, str) or not _TENSOR_NAME.fullmatch(name)]:
        raise PickleError(f"it has a tensor named {printable(strange[0])!r}")
    if others := [name for name, item in weight.items() if not isinstance(item, TensorRef)]:
        raise PickleError(f"its weight {others[0]} is no tensor")
    return weight


def _advice(value: Any) -> str:
    """What to do about ways of saving that are known, and cannot be read."""
    names = {str(name) for name in value} if isinstance(value, dict) else set()
    if names & {"optimizer", "optimizer_states", "lr_schedulers", "iteration", "global_step"}:
        return ": use what training exports beside it, in GPT_weights*/ or SoVITS_weights*/"
    if names & {"shadow_params", "collected_params"}:
        return ": it holds an EMA's parameters without names; copy them into the model (ema.copy_to) and export that"
    if names & set(WRAPPERS):
        return ": its weights come without the config that says their sizes; export the voice with both"
    return ""


def _rank(value: Any) -> int | None:
    if value is None:
        return None
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise PickleError("its lora_rank is no number") from None


class _Tensors:
    """Turns references into arrays, reading each storage once."""

    def __init__(self, data: mmap.mmap, entries: Mapping[str, Member], root: str) -> None:
        self.data, self.entries, self.root = data, entries, root
        self.storages: dict[str, memoryview] = {}
        # a few bytes of storage could pose as any number of large tensors
        self.budget = sum(member.size for member in entries.values())

    def read(self, references: Mapping[str, TensorRef]) -> dict[str, Array]:
        return {name: self.tensor(name, reference) for name, reference in references.items()}

    def tensor(self, name: str, reference: TensorRef) -> Array:
        storage, shape, stride = reference.storage, reference.shape, reference.stride
        dtype = np.dtype(_DTYPES[storage.dtype])
        held = self.storage(name, storage.key)
        count = prod(shape)
        last = reference.offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        # count > storage catches views that repeat elements, last is the highest element that the strides reach
        if storage.count * dtype.itemsize > len(held) or count > storage.count or last >= storage.count:
            raise ArchiveError(
                f"the tensor {name} does not fit its storage: shape {list(shape)}, strides {list(stride)}, offset "
                f"{reference.offset}, of {storage.count} {storage.dtype} elements in {len(held)} bytes"
            )
        if count == 0:
            raise ArchiveError(f"the tensor {name} is empty: shape {list(shape)}")
        self.budget -= count * dtype.itemsize
        if self.budget < 0:
            raise ArchiveError("its tensors overlap: together they are larger than the bytes that the file stores")
        array: Array = np.ndarray(
            shape,
            dtype,
            buffer=held,
            offset=reference.offset * dtype.itemsize,
            strides=tuple(step * dtype.itemsize for step in stride),
        )
        if storage.dtype == "bfloat16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        if storage.dtype == "float64":  # what upstream has in float32; somebody called .double()
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
        array.flags.writeable = False
        return array

    def storage(self, name: str, key: str) -> memoryview:
        if key not in self.storages:
            member = self.entries.get(f"{self.root}/data/{key}")
            if member is None:
                raise ArchiveError(f"the tensor {name} is stored in the entry data/{printable(key)}, which is absent")
            self.storages[key] = content(self.data, member)
        return self.storages[key]
