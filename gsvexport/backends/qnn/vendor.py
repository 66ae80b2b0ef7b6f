"""Asks Qualcomm's compiler and emulation, with a time limit, and believes nothing that is not there afterwards."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends.qnn.chips import ABOUT, Chip
from gsvexport.errors import BackendError
from gsvexport.system.vendor import Running, Say, Tool

Array = NDArray[Any]
COMMAND: tuple[str, ...] = (sys.executable, "-m", "gsvexport.backends.qnn.child")
TOOL = Tool(
    "Qualcomm's tool",
    "GSVEXPORT_QNN_SECONDS",
    1800.0,  # a full-size vocoder took 120 s on a machine that others used, too
    "choose a target without qnn",
    "LIBNATIVE",
)


def compile_for(graph: Path, context: Path, chip: Chip, say: Say) -> str:
    """Compile `graph` for `chip` into `context`; returns the version of QAIRT that did.

    Raises:
        BackendError: the compiler failed, crashed, took too long, wrote nothing, or wrote what it was not asked for.
    """
    context.unlink(missing_ok=True)  # it replaces none, and one from before would be taken for its own
    _ask(("compile", str(graph), str(context)), chip, f"compiling {graph.stem} for {chip.name}", say)
    if not context.is_file() or not context.stat().st_size:
        raise BackendError(f"{graph.stem}: Qualcomm's compiler ended without an error and wrote no context")
    words = about(context)
    if problem := chip.differs(words):
        raise BackendError(f"{context.name} is not what Qualcomm's compiler was asked for: {problem}")
    return words.split(":")[2]


def emulate(graph: Path, feeds: Sequence[Mapping[str, Array]], chip: Chip, say: Say) -> list[Array]:
    """What the emulation of `chip` computes: the only output of `graph`, or of a context, for each of `feeds`.

    Raises:
        BackendError: it failed, crashed, took too long or gave no result.
    """
    with tempfile.TemporaryDirectory() as work:
        given, result = Path(work) / "feeds.npz", Path(work) / "result.npz"
        np.savez(given, **{f"{name}@{at}": array for at, feed in enumerate(feeds) for name, array in feed.items()})  # type: ignore[arg-type]
        _ask(("run", str(graph), str(given), str(result)), chip, f"emulating {graph.stem} on {chip.name}", say)
        try:
            with np.load(result) as found:
                return [found[str(at)] for at in range(len(feeds))]
        except (OSError, ValueError, KeyError) as error:
            raise BackendError(f"{graph.stem}: the emulation ended without an error and gave no result") from error


def about(context: Path) -> str:
    """What a context says of itself; empty where it is none of the provider's.

    Raises:
        BackendError: it is no ONNX file.
    """
    import onnx

    try:
        graph = onnx.load(context)
    except Exception as error:  # protobuf's exceptions
        raise BackendError(f"{context.name} is no context: it cannot be read as ONNX") from error
    if [node.op_type for node in graph.graph.node] != ["EPContext"]:
        kinds = sorted({node.op_type for node in graph.graph.node})
        raise BackendError(f"{context.name}: not everything is in one context", found=", ".join(kinds) or "nothing")
    return next((one.value for one in graph.metadata_props if one.key == ABOUT), "")


def _ask(arguments: Sequence[str], chip: Chip, doing: str, say: Say) -> None:
    options = [f"{name}={value}" for name, value in chip.options.items()]
    Running(TOOL, [*COMMAND, *arguments, *options]).wait(doing, say)
