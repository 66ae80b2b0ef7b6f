"""edgetpu_compiler: run it where it is, read its log, and hold it against what was predicted.

Its output, MODEL_edgetpu.tflite, holds one operator of Google's own for everything that was mapped, and the operators
that were not. How it is called and what its log says is data (`edgetpu.toml`).
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gsvexport.backends.tflite.flatbuffer import CUSTOM, load
from gsvexport.backends.tflite.graph import Graph, Operator
from gsvexport.backends.tflite.placement import MAPPED, Placement
from gsvexport.backends.tflite.report import DONE, FAILED, NOT_RUN, Compile
from gsvexport.backends.tflite.table import table
from gsvexport.errors import BackendError
from gsvexport.files import sha256_file

OPERATOR = "edgetpu-custom-op"
LATER = "gsvexport finalize ARTIFACT does it later, on x86-64 Linux with the compiler, or with a file that it wrote"
_LARGEST_LOG = 1 << 20  # bytes
_TAIL = 300  # characters of the compiler's words that an error shows
_ROW = re.compile(r"([A-Z][A-Z0-9_]*|[a-z][\w-]*)\s+(\d{1,9})\s{2,}(\S.*)")
_VERSION = re.compile(r"Edge TPU Compiler version (\S+)")


@dataclass(frozen=True)
class Log:
    """The compiler's version, and how many operators of a kind have which status."""

    version: str
    counts: Mapping[tuple[str, str], int]


def compiler() -> str | None:
    """Where edgetpu_compiler is on PATH; None where it is not."""
    return shutil.which(table().compiler.name)


def version() -> str:
    """What the compiler says its version is, "absent" without one and "unknown" where it says nothing sensible."""
    program = compiler()
    if program is None:
        return "absent"
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, encoding="utf-8", errors="replace", timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = _VERSION.search(done.stdout + done.stderr)
    return found[1] if found else "unknown"


def not_run() -> Compile:
    """What is said where there is no compiler."""
    name = table().compiler.name
    here = "" if platform.machine() in table().compiler.hosts else f" (this is {platform.machine()}; it needs x86-64)"
    return Compile(NOT_RUN, f"{name} is not on PATH{here}; {LATER}")


def compile_model(model: Path, out: Path, placement: Placement) -> Compile:
    """Compile `model` into the folder `out` if the compiler is there; whatever it does becomes a result, not an error.

    A crash, an end of its time, and a log or a file that make no sense are "failed", with its last words.
    """
    known, program = table().compiler, compiler()
    if program is None:
        return not_run()
    words = {"compiler": program, "runtime": str(placement.runtime), "out": str(out), "model": str(model)}
    words["seconds"] = str(known.seconds)
    command = [part.format(**words) for part in known.command]
    made = out / known.output.format(stem=model.stem)
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=known.seconds)
    except subprocess.TimeoutExpired:
        return _failed(made, f"{known.name} took longer than {known.seconds} s")
    except OSError as error:
        return _failed(made, f"{known.name} cannot be started: {error}")
    if done.returncode:
        said = _tail(done.stdout + done.stderr)
        return _failed(made, f"{known.name} ended with {done.returncode}: {said}")
    if not made.is_file():
        return _failed(made, f"{known.name} wrote no {made.name}: {_tail(done.stdout + done.stderr)}")
    log = out / known.log.format(stem=model.stem)
    try:
        found = read_log(log.read_text(encoding="utf-8", errors="replace") if log.is_file() else "", log.name)
        problems = foreign(load(model), load(made))
    except BackendError as error:
        return _failed(made, " ".join(str(error).split()))
    if problems:
        return _failed(made, f"{made.name} is not made of {model.name}: {'; '.join(problems)}")
    return replace(
        _confirmed(model, made, f"{_mapped(found)} of {sum(found.counts.values())} operators mapped"),
        version=found.version,
        disagreements=tuple(disagreements(placement, found)),
        mapped=_mapped(found),
    )


def carried(model: Path, compiled: Path) -> Compile:
    """What is known of a file that the compiler wrote elsewhere.

    Raises:
        BackendError: it is not what the compiler makes of `model`; everything that differs.
    """
    before, after = load(model), load(compiled)
    if problems := foreign(before, after):
        raise BackendError(
            f"{compiled} was not compiled from this artifact's {model.name}",
            problems=problems,
            fix=f"compile the artifact's own {model.name}: {table().compiler.name} -s {model.name}",
        )
    mapped = len(before.operators) - (len(after.operators) - 1)
    text = f"{mapped} of {len(before.operators)} operators mapped, as the carried file says; its log was not seen"
    return replace(_confirmed(model, compiled, text), carried=True, mapped=mapped)


def read_log(text: str, where: str) -> Log:
    """The operators of a log that `-s` made.

    Raises:
        BackendError: it lists none, or is too large.
    """
    if len(text) > _LARGEST_LOG:
        raise BackendError(f"{where} is too large", found=f"{len(text)} characters", limit=_LARGEST_LOG)
    counts: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if row := _ROW.fullmatch(line.strip()):
            counts[row[1], row[3].strip()] += int(row[2])
    if not counts:
        raise BackendError(f"{where} lists no operators", found=_tail(text) or "nothing")
    version = _VERSION.search(text)
    return Log(version[1] if version else "", counts)


def disagreements(placement: Placement, log: Log) -> list[str]:
    """Where the log and the prediction differ: how many of a kind are mapped, and why the others are not."""
    known, found = table().compiler, []
    for kind in dict.fromkeys([*(row.kind for row in placement.rows), *(kind for kind, _ in log.counts)]):
        mine = [row for row in placement.rows if row.kind == kind]
        theirs = {status: count for (name, status), count in log.counts.items() if name == kind}
        predicted, mapped = sum(row.verdict == MAPPED for row in mine), theirs.get(known.mapped, 0)
        if (predicted, len(mine)) != (mapped, sum(theirs.values())):
            said = "; ".join(f"{count}: {status}" for status, count in theirs.items()) or "it has none"
            found.append(f"{kind}: predicted {predicted} of {len(mine)} mapped; the compiler: {said}")
            continue
        rules = {finding.rule for row in mine for finding in row.findings}
        rules |= {"limits"} if rules - table().general.keys() else set()
        for status in theirs.keys() - {known.mapped}:
            if status not in known.refused:
                found.append(f"{kind}: the compiler says '{status}', which is no status that is known")
            elif not rules & {*known.refused[status]}:
                found.append(f"{kind}: predicted {', '.join(sorted(rules))}; the compiler: {status}")
    return found


def foreign(model: Graph, compiled: Graph, custom: str = OPERATOR) -> list[str]:
    """Why `compiled` is not what a compiler made of `model`; empty where nothing speaks against it.

    `custom` is what that compiler calls its operator.

    Ports with all their scales, one operator of the compiler's own, and, behind it, the model's own last operators with
    their constants: what it keeps as it was. The program inside cannot be read.
    """
    problems = []
    for side, mine, theirs in (
        ("input", _ports(model, model.inputs), _ports(compiled, compiled.inputs)),
        ("output", _ports(model, model.outputs), _ports(compiled, compiled.outputs)),
    ):
        problems += [f"{side} {name}: {theirs.get(name, 'absent')}, not {mine.get(name, 'absent')}"
                     for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]  # fmt: skip
    found = [one for one in compiled.operators if _is_compiled(one, custom)]
    if len(found) != 1:
        problems.append(f"{len(found)} operators '{custom}', not one")
    rest = [one for one in compiled.operators if not _is_compiled(one, custom)]
    last = model.operators[len(model.operators) - len(rest) :] if len(rest) < len(model.operators) else ()
    if [one.kind for one in rest] != [one.kind for one in last]:
        problems.append(f"its other operators are {', '.join(one.kind for one in rest)}, not the model's last ones")
    elif any(not _same_constants(model, one, compiled, two) for one, two in zip(last, rest, strict=True)):
        problems.append("an operator that was not mapped has other constants")
    return problems


def _is_compiled(operator: Operator, custom: str) -> bool:
    return operator.kind == CUSTOM and operator.options.get("custom_code") == custom


def _ports(graph: Graph, indices: tuple[int, ...]) -> dict[str, str]:
    found = {}
    for index in indices:
        tensor = graph.tensors[index]
        scale = tensor.quantisation
        text = f"scale {scale.scale} zero point {scale.zero_point}" if scale else "no scale"
        found[tensor.name] = f"{tensor.dtype} {list(tensor.shape)} {text}"
    return found


def _same_constants(one: Graph, mine: Operator, other: Graph, theirs: Operator) -> bool:
    def constants(graph: Graph, operator: Operator) -> list[np.ndarray]:
        found = (graph.tensors[index].data for index in operator.inputs if index >= 0)
        return [data for data in found if data is not None]

    pairs = constants(one, mine), constants(other, theirs)
    return len(pairs[0]) == len(pairs[1]) and all(np.array_equal(a, b) for a, b in zip(*pairs, strict=True))


def _confirmed(model: Path, made: Path, reason: str) -> Compile:
    return Compile(DONE, reason, made.name, sha256_file(model), sha256_file(made))


def _mapped(log: Log) -> int:
    return sum(count for (_, status), count in log.counts.items() if status == table().compiler.mapped)


def _failed(made: Path, reason: str) -> Compile:
    made.unlink(missing_ok=True)
    return Compile(FAILED, reason)


def _tail(text: str) -> str:
    """The last words, on one line and without control characters."""
    plain = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return plain[-_TAIL:]
