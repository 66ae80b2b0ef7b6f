"""One engine from one graph, in a process of its own: TensorRT's builder keeps gigabytes and may be killed for them.

`main` reads a `Request` as JSON from standard input, writes lines {"progress": text} to standard output and at the end
one {"done": …} or {"failed": kind, "problems": […]}. Kinds: "graph" (no other attempt will help) and "build" (one with
less memory may).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt.device import STRONG_SINCE, import_tensorrt, release
from gsvexport.files import atomic_file

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux's prctl
_OFTEN = 1.0  # s between two lines of progress
_LOUD = ("ERROR", "INTERNAL_ERROR", "WARNING")
_MOST = 40  # messages that are kept


class Refused(Exception):
    """TensorRT took the graph, a setting or the whole build not; `kind` as in the module's text."""

    def __init__(self, kind: str, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.kind, self.problems = kind, problems


def make_logger(trt: Any) -> Any:
    """A TensorRT logger that keeps warnings and errors in `messages`; parser and builder report nowhere else."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            word = str(severity).split(".")[-1]
            if word in _LOUD:
                self.messages = [*self.messages, f"{word}: {message}"][-_MOST:]

        def errors(self) -> list[str]:
            """The errors among them."""
            return [message for message in self.messages if not message.startswith("WARNING")]

    return Logger()


def build(trt: Any, request: dict[str, Any], say: Any) -> dict[str, Any]:
    """Build `request["graph"]` into `request["plan"]`; returns what is worth reporting.

    Raises:
        Refused: TensorRT would not.
    """
    started = time.monotonic()
    logger = make_logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, strong=request["strong"]))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request["graph"]):
        errors = [_described(parser.get_error(index)) for index in range(parser.num_errors)]
        raise Refused("graph", errors or logger.errors() or ["the parser gave no reason"])
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace"])
    config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa, where the graph says FP32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or an engine does not tell its types
    if request["level"] is not None and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = request["level"]
    unknown = [] if request["strong"] else _constrain(trt, config, network, request)
    _add_profiles(builder, config, request["profiles"])
    _watch(trt, config, say)
    timing = _timing(config, Path(request["timing_cache"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Refused("build", logger.errors() or ["the builder gave no reason"])
    with atomic_file(Path(request["plan"]), force=True) as work:
        work.write_bytes(plan)
    with contextlib.suppress(OSError), atomic_file(Path(request["timing_cache"]), force=True) as work:
        work.write_bytes(config.get_timing_cache().serialize())
    return {
        "seconds": round(time.monotonic() - started, 1),
        "timing_cache": timing,
        "unknown_layers": unknown,
        "messages": logger.messages,
    }


def _network_flags(trt: Any, *, strong: bool) -> int:
    """By name: the numbers of the flags changed between releases, and from 11 on strong is the only kind there is."""
    flags, names = 0, trt.NetworkDefinitionCreationFlag
    if strong and not hasattr(names, "STRONGLY_TYPED") and release(trt.__version__)[0] == STRONG_SINCE:
        raise Refused("graph", [f"TensorRT {trt.__version__} has no strongly typed networks"])
    if strong and hasattr(names, "STRONGLY_TYPED"):
        flags |= 1 << int(names.STRONGLY_TYPED)
    if not strong:
        flags |= 1 << int(names.EXPLICIT_BATCH)
    return flags


def _constrain(trt: Any, config: Any, network: Any, request: dict[str, Any]) -> list[str]:
    """Where types are advice: allow FP16, and force FP32 where the graph needs it. Returns names that are not there."""
    if not request["half"]:
        return []
    config.set_flag(trt.BuilderFlag.FP16)
    config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    wanted, seen = set(request["single"]), set()
    floats = (trt.float32, trt.float16)
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.name not in wanted:
            continue
        seen.add(layer.name)
        outputs = [number for number in range(layer.num_outputs) if layer.get_output(number).dtype in floats]
        if outputs:
            layer.precision = trt.float32
        for number in outputs:
            layer.set_output_type(number, trt.float32)
    if wanted and not seen:
        raise Refused("graph", [f"none of {len(wanted)} layers that must stay FP32 has its name in the network"])
    return sorted(wanted - seen)


def _add_profiles(builder: Any, config: Any, profiles: list[dict[str, Any]]) -> None:
    for profile in profiles:
        made = builder.create_optimization_profile()
        for name, (low, usual, high) in profile["shapes"].items():
            made.set_shape(name, tuple(low), tuple(usual), tuple(high))
        if config.add_optimization_profile(made) < 0:
            raise Refused("graph", [f"profile {profile['name']} is not valid"])


def _watch(trt: Any, config: Any, say: Any) -> None:
    """Progress in steps, where TensorRT tells it (10 and later)."""
    if not (hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor")):
        return

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.last = 0.0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if time.monotonic() - self.last > _OFTEN:
                self.last = time.monotonic()
                say(f"{phase}: {step + 1} of {self.steps.get(phase, 0)}")
            return True

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    config.progress_monitor = Monitor()


def _timing(config: Any, path: Path) -> str:
    """Give the builder what was measured before, "used"; or nothing where it is not there or of another device."""
    data, word = b"", "new"
    with contextlib.suppress(OSError):
        data = path.read_bytes()
    if data:
        word = "used" if config.set_timing_cache(config.create_timing_cache(data), False) else "of another device"
    if word != "used":
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return word


def _described(error: Any) -> str:
    """A parser error with the node it is about, as far as the release tells."""
    node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
    return f"{node}: {error.desc()}"


def main() -> None:
    """See the module."""
    with contextlib.suppress(OSError, AttributeError):  # a builder without its parent would go on for minutes
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)

    def tell(**value: Any) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    request = json.load(sys.stdin)
    try:
        tell(done=build(import_tensorrt(), request, lambda text: tell(progress=text)))
    except Refused as error:
        tell(failed=error.kind, problems=error.problems)
    except Exception as error:
        tell(failed="build", problems=[f"{type(error).__name__}: {error}"])
