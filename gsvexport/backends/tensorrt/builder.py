"""One engine from one graph, in a process of its own: TensorRT's builder keeps gigabytes and may be killed for them.

`main` reads a `Request` as JSON from standard input, writes lines {"progress": text} to standard output and at the end
one {"done": …} or {"failed": kind, "problems": […]}. Kinds: "graph" (no other attempt will help) and "build" (one with
less memory may).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gsvexport.backends.tensorrt.device import STRONG_SINCE, host_memory_mb, import_tensorrt, release
from gsvexport.backends.tensorrt.told import (
    BUILD,
    CRASHED,
    GRAPH,
    MACHINE,
    Layers,
    described,
    kind_of,
    make_logger,
    readable,
)
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import atomic_file, disk_errors

_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux's prctl
_OFTEN = 1.0  # s between two lines of progress


class Refused(Exception):
    """TensorRT took the graph, a setting or the whole build not; `kind` as in the module's text."""

    def __init__(self, kind: str, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.kind, self.problems = kind, problems


def build(trt: Any, request: dict[str, Any], say: Any) -> dict[str, Any]:
    """Build `request["graph"]` into `request["plan"]`; returns what is worth reporting.

    Raises:
        Refused: TensorRT would not.
    """
    started = time.monotonic()
    layers = Layers() if request.get("detailed") else None
    logger = make_logger(trt, layers)
    builder = trt.Builder(logger)
    if builder is None:
        raise Refused(BUILD, readable(logger.errors()) or ["TensorRT made no builder and gave no reason"])
    network = builder.create_network(_network_flags(trt, strong=request["strong"]))
    if network is None:
        raise Refused(GRAPH, readable(logger.errors()) or ["TensorRT made no network and gave no reason"])
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request["graph"]):
        errors = [described(parser.get_error(index)) for index in range(parser.num_errors)]
        raise Refused(GRAPH, errors or readable(logger.errors()) or ["the parser gave no reason"])
    if request.get("parse_only"):
        return {"layers": network.num_layers, "messages": logger.messages}
    config = builder.create_builder_config()
    if request["workspace"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace"])
    config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa, where the graph says FP32
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or an engine does not tell its types
    if request["level"] is not None and hasattr(config, "builder_optimization_level"):
        config.builder_optimization_level = request["level"]
    unknown = [] if request["strong"] else _constrain(trt, config, network, request)
    _add_profiles(builder, config, network, request["profiles"], logger)
    _watch(trt, config, say)
    timing = _timing(config, request["timing_cache"], logger)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        errors = readable(logger.errors()) or ["the builder gave no reason"]
        raise Refused(kind_of(errors), errors)
    with disk_errors(Path(request["plan"])), atomic_file(Path(request["plan"]), force=True) as work:
        work.write_bytes(plan)
    if timing and (cache := config.get_timing_cache()) is not None:
        with contextlib.suppress(OSError), atomic_file(Path(request["timing_cache"]), force=True) as work:
            work.write_bytes(cache.serialize())
    names = [profile["name"] for profile in request["profiles"]]
    return {
        "seconds": round(time.monotonic() - started, 1),
        "timing_cache": timing,
        "unknown_layers": unknown,
        "messages": logger.messages,
        "layers": network.num_layers,
        **_spent(),
        **({"engine": layers.summary(names)} if layers is not None else {}),
    }


def _spent() -> dict[str, float]:
    """Seconds of processor time and the most memory, in MB, of this process so far."""

    used = os.times()
    return {"cpu": round(used.user + used.system, 1), "peak_mb": host_memory_mb() or 0.0}


def _network_flags(trt: Any, *, strong: bool) -> int:
    """By name: the numbers of the flags changed between releases, and from 11 on strong is the only kind there is."""
    flags, names = 0, trt.NetworkDefinitionCreationFlag
    if strong and not hasattr(names, "STRONGLY_TYPED") and release(trt.__version__)[0] == STRONG_SINCE:
        raise Refused(GRAPH, [f"TensorRT {trt.__version__} has no strongly typed networks"])
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
        raise Refused(GRAPH, [f"none of {len(wanted)} layers that must stay FP32 has its name in the network"])
    return sorted(wanted - seen)


def _add_profiles(builder: Any, config: Any, network: Any, profiles: list[dict[str, Any]], logger: Any) -> None:
    known = {network.get_input(index).name for index in range(network.num_inputs)}
    for profile in profiles:
        if unknown := sorted(set(profile["shapes"]) - known):  # TensorRT would say nothing
            raise Refused(GRAPH, [f"profile {profile['name']} names {', '.join(unknown)}, which the network has not"])
        made = builder.create_optimization_profile()
        for name, (low, usual, high) in profile["shapes"].items():
            try:
                made.set_shape(name, tuple(low), tuple(usual), tuple(high))
            except (ValueError, RuntimeError) as error:  # of sizes below 0 it says so here; the rest comes later
                raise Refused(GRAPH, [f"profile {profile['name']}, {name}: {error}"]) from error
        if config.add_optimization_profile(made) < 0:
            raise Refused(GRAPH, [f"profile {profile['name']} is not valid", *readable(logger.errors())])


def _watch(trt: Any, config: Any, say: Any) -> None:
    """Progress in steps of the outermost phase, where TensorRT tells it (10 and later); those within it begin anew
    again and again, some of them thousands of times."""
    if not (hasattr(trt, "IProgressMonitor") and hasattr(config, "progress_monitor")):
        return

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}
            self.last = 0.0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            if not parent:
                self.steps[phase] = steps

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in self.steps and time.monotonic() - self.last > _OFTEN:
                self.last = time.monotonic()
                say(f"{phase}: {step + 1} of {self.steps[phase]}")
            return True

        def phase_finish(self, phase: str) -> None:
            self.steps.pop(phase, None)

    config.progress_monitor = Monitor()


def _timing(config: Any, path: str, logger: Any) -> str:
    """Give the builder what was measured before, "used", or nothing where it is not there or of another device. Empty
    without a `path`: no cache is asked for.

    TensorRT takes any bytes and makes an empty cache of those that it does not know, which only its log tells.
    """
    if not path:
        return ""
    data, word = b"", "new"
    with contextlib.suppress(OSError):
        data = Path(path).read_bytes()
    if data:
        before = logger.heard
        cache = config.create_timing_cache(data)
        taken = cache is not None and config.set_timing_cache(cache, False)
        new = logger.messages[len(logger.messages) - min(logger.heard - before, len(logger.messages)) :]
        word = "used" if taken and not any("timing cache" in text.lower() for text in new) else "of another device"
    if word != "used":
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return word


def main() -> None:
    """See the module."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # a builder without its parent would go on for minutes
            ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)

    def tell(**value: Any) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    request = json.load(sys.stdin)
    try:
        tell(done=build(_module(request), request, lambda text: tell(progress=text)))
    except Refused as error:
        tell(failed=error.kind, problems=error.problems)
    except EnvironmentProblem as error:
        tell(failed=MACHINE, problems=[" ".join(str(error).split())])
    except OSError as error:  # a file that may not grow, a disk that fails: with less memory it would be the same
        tell(failed=MACHINE, problems=[f"{request['plan']}: {error}"])
    except Exception as error:
        tell(failed=CRASHED, problems=[f"{type(error).__name__}: {error}"])


def _module(request: dict[str, Any]) -> Any:
    """TensorRT, or what stands in its place."""
    if request.get("module") is None:
        return import_tensorrt()
    from gsvexport.backends.tensorrt.rtx import adapter

    return adapter(request["module"]["capabilities"])
