"""The corpus: artifacts, sources, reports and voices that are not what they should be, each made by one small change.

    python tests/hostile/strange.py FOLDER      writes it

A change knows where it goes: a JSON file of an artifact or a source, or a file as bytes.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artifacts import Subject, copied, prepare, repacked

from gsvexport.artifact.manifest import MANIFEST
from gsvexport.compiler.source import _digest

DEEP = b"[" * 60_000 + b"]" * 60_000
LONG, HALF, ESCAPE = "x" * 5000, "\ud800", "\x1b[31m"
VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    1 << 62,
    1 << 200,
    0.5,
    "",
    LONG,
    HALF,
    "../x",
    ESCAPE,
    [],
    [[]],
    {},
    {"": 0},
)
BYTES = {
    "empty": b"",
    "deep": DEEP,
    "deep tables": b'{"a":' * 30_000 + b"1" + b"}" * 30_000,
    "no UTF-8": b"\xff\xfe{\x00}\x00",
    "NaN": b'{"schema": NaN}',
    "infinite": b'{"schema": 1e999}',
    "digits": b'{"schema": ' + b"9" * 20_000 + b"}",
    "list": b"[1]",
    "text": b'"x"',
    "twice": b'{"schema": 1, "schema": 1}',
    "cut": b'{"schema": 1',
    "many": b"[" + b"[]," * 300_000 + b"[]]",
}


def npy(description: str, after: bytes = b"") -> bytes:
    """A `.npy` file with this description."""
    return b"\x93NUMPY\1\0\x76\0" + description.encode().ljust(117)[:117] + b"\n" + after


def described(kind: str, shape: str) -> str:
    """The description of an array."""
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"


ARRAYS = {
    "no array": b"\x93NUMPY",
    "huge": npy(described("'<f4'", "(9223372036854775807,)")),
    "negative": npy(described("'<f4'", "(-1,)")),
    "object": npy(described("'|O'", "(1,)"), b"\x80\x02N."),
    "nested": npy("(" * 117),
    "strings": npy(described("'<U4'", "(0,)")),
    "record": npy(described("[('a','<f4')]", "(0,)")),
    "code": npy("__import__('os').system('false')"),
}
FEW = 100
GRAPHS = {"no graph": b"x" * 100, "cut": b"\x08\x09\x3a\xff\xff\xff\xff\x0f", "empty": b"", "groups": b"\x0b" * 1000}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value; of a list, and of tables of many alike, only the first."""
    yield at
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items[:12] if len(items) < 20 else items[:2]:
        yield from places(item, (*at, key))


def changed(value: Any, at: tuple[Any, ...], how: Callable[[Any, Any], None]) -> Any:
    """A copy in which `how(container, key)` was done at a place."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in at[:-1]:
        inner = inner[key]
    how(inner, at[-1])
    return copy


def edits(data: bytes, stride: int, share: tuple[int, int] = (0, 1)) -> Iterator[tuple[str, bytes]]:
    """Every `stride`-th of the ways to spoil a JSON file: another value at each place, a key less, a key more; and
    `BYTES`: of (first, count) every `count`-th of them, where `stride` asks for few."""
    value = json.loads(data)
    number = 0
    for at in places(value):
        if not at:
            continue
        name = ".".join(map(str, at))

        def put(inner: Any, key: Any, new: Any) -> None:
            inner[key] = new

        for new in VALUES:
            number += 1
            if number % stride == 0:
                spoilt = changed(value, at, lambda inner, key, new=new: put(inner, key, new))
                yield f"{name} = {str(new)[:12]!a}", json.dumps(spoilt).encode("utf-8", "surrogatepass")
        number += 1
        if number % stride == 0:
            yield f"no {name}", json.dumps(changed(value, at, lambda inner, key: inner.__delitem__(key))).encode()
            yield f"more in {name}", json.dumps({**value, f"more{number}": 1}).encode()
    first, count = share if stride > FEW else (0, 1)
    yield from list(BYTES.items())[first::count]


def artifacts(subject: Subject, folder: Path, stride: int = 1) -> Iterator[tuple[str, Path]]:
    """Strange artifacts, one at a time: each replaces the one before. Their manifests list what they hold."""
    files, out = folder / "files", folder / "strange.gsv"

    def packed(name: str, data: bytes) -> Path | None:
        shutil.rmtree(files, ignore_errors=True)
        shutil.copytree(subject.files, files, copy_function=link_or_copy)
        (files / name).unlink(missing_ok=True)
        (files / name).write_bytes(data)
        return repacked(files, out)

    for place, name in enumerate(("model.json", "golden/golden.json", "report.json")):
        for what, data in edits((subject.files / name).read_bytes(), stride, (place, 3)):
            yield f"{name}: {what}", packed(name, data)
    for what, data in ARRAYS.items():
        yield f"baked/ge.npy: {what}", packed("baked/ge.npy", data)
    for what, data in GRAPHS.items():
        yield f"vocoder.onnx: {what}", packed("vocoder.onnx", data)
    for what, data in edits((subject.files / MANIFEST).read_bytes(), stride):
        shutil.rmtree(files, ignore_errors=True)
        shutil.copytree(subject.files, files, copy_function=link_or_copy)
        (files / MANIFEST).unlink()
        (files / MANIFEST).write_bytes(data)
        yield f"manifest.json: {what}", files


def link_or_copy(source: str, target: str) -> str:
    """A second name for large files, a copy of small ones: those are changed."""
    if Path(source).stat().st_size > 1 << 20:
        Path(target).hardlink_to(source)
    else:
        shutil.copyfile(source, target)
    return target


def sources(subject: Subject, folder: Path, stride: int = 1) -> Iterator[tuple[str, Path]]:
    """Strange sources, one at a time, whose digests are right where they can be."""
    for place, name in enumerate(("source.json", "model.json")):
        for what, data in edits((subject.source / name).read_bytes(), stride, (place, 2)):
            out = folder / "source"
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(subject.source, out, copy_function=link_or_copy)
            (out / name).write_bytes(data)
            try:
                meta = json.loads((out / "source.json").read_text())
                if name == "model.json":
                    from artifacts import entry

                    meta["files"]["model.json"] = entry(out / "model.json")
                if what not in ("no digest",) and not what.startswith("digest"):
                    meta["digest"] = _digest(meta)
                (out / "source.json").write_text(json.dumps(meta))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                pass
            yield f"{name}: {what}", out


if __name__ == "__main__":
    place = Path(sys.argv[1])
    made = prepare(place / "subject")
    for index, (title, path) in enumerate(artifacts(made, place / "work", stride=7)):
        kept = place / f"{index:04d}{path.suffix}"
        shutil.copyfile(path, kept) if path.is_file() else copied(path, kept)
        print(f"{kept}  {title}")  # noqa: T201
