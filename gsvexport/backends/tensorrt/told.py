"""What a builder says: which of its errors mean what, in lines that can be read, and what its log tells of an engine.

An engine can be asked for its layers where there is a GPU (`Engine.half_share`). Where there is none, the builder's log
says the same: with detailed profiling verbosity it lists every kernel with the types of its inputs and outputs, the
scratch memory of each profile, and where each port lies. The forms of these lines are those of tensorrt_rtx 1.7.1.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

# What a build can fail for: a graph or setting that no other attempt helps; a workspace that is too small; a machine
# that has no more memory to give; a full disk or a missing package; something else that the builder says, or does not.
GRAPH, MEMORY, KILLED, MACHINE = "graph", "memory", "killed", "machine"
BUILD, CRASHED = "build", "crashed"

# In the order in which they are asked: what no other attempt helps, and what a larger workspace does.
_USAGE = re.compile(r"API Usage Error|Shape Error|values are not self-consistent", re.IGNORECASE)
_TIGHT = re.compile(
    r"OutOfMemory \(Requested size was|within workspace limit|Could not find any implementation|Insufficient workspace"
    r"|insufficient memory on requested size",
    re.IGNORECASE,
)
_FULL = re.compile(r"could not be allocated|out of memory|cudaErrorMemoryAllocation|bad_alloc", re.IGNORECASE)
# What a builder without a GPU says after everything else, and what `node_name` says already.
_NOISE = re.compile(r"cudaError 35|^Invalid Node -|^\s*$")
_NUMBER = re.compile(r"Error Code \d+")

_KERNEL = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<type>\w+), Inputs: .*?, Outputs: (?P<outputs>.*?)"
    r"(?:, TacticName|, StreamId|$)"
)
_PART = re.compile(r"_myl(\d+)_\d+$")  # the compiled part that a kernel belongs to; each profile has as many of them
_SCRATCH = re.compile(r"Max Scratch Memory: (\d+)")
_WEIGHTS = re.compile(r"Total Weights Memory: (\d+)")
_PORT = re.compile(r"Name: (\S+), IOMode: (?:Input|Output), .*?Location: (\w+), IsShapeInferenceIO: (\w+)")
_NO_KERNELS = ("signal", "wait", "shape_call", "ShapeHostToDevice")  # what happens between streams and on the host
_LOUD = ("ERROR", "INTERNAL_ERROR", "WARNING")
_MOST = 40  # messages that are kept


def kind_of(errors: list[str]) -> str:
    """What a build that gave no engine failed for, from its errors."""
    text = "\n".join(errors)
    if _USAGE.search(text):
        return GRAPH
    return MEMORY if _TIGHT.search(text) else KILLED if _FULL.search(text) else BUILD


def described(error: Any) -> str:
    """A parser error in one line: the node that it is about, as far as the release tells, and what is wrong with it."""
    lines = [line.strip() for line in str(error.desc()).splitlines()]
    told = [line for line in lines if not _NOISE.search(line)] or [line for line in lines if line]
    node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
    return ": ".join(filter(None, (node, " ".join(dict.fromkeys(told)))))


def readable(messages: list[str]) -> list[str]:
    """Messages of a logger without what a missing GPU adds to each."""
    lines = [" ".join(line for line in text.splitlines() if not _NOISE.search(line)) for text in messages]
    return [line for line in lines if _NUMBER.search(line) or line.partition(": ")[2].strip()]


class Layers:
    """Listens to a builder's log and keeps what it tells of the engine. `summary` is empty where it told nothing."""

    def __init__(self) -> None:
        self._kernels: Counter[int] = Counter()  # by compiled part
        self._types: Counter[str] = Counter()
        self._scratch: list[int] = []
        self._weights = 0
        self._host: list[str] = []
        self._ports = 0

    def hear(self, message: str) -> None:
        """One message, of any severity."""
        for line in message.splitlines():
            if "LayerType: " in line:
                self._kernel(line)
            elif "IsShapeInferenceIO: " in line and (port := _PORT.search(line)):
                self._ports += 1
                self._host += [port[1]] if port[2] != "Device" or port[3] != "false" else []
            elif found := _SCRATCH.search(line):
                self._scratch.append(int(found[1]))
            elif found := _WEIGHTS.search(line):
                self._weights = int(found[1])

    def _kernel(self, line: str) -> None:
        found = _KERNEL.search(line)
        if found is None or found["type"] in _NO_KERNELS:
            return
        part = _PART.search(found["name"])
        self._kernels[int(part[1]) if part else 0] += 1
        kinds = [kind for kind in ("Half", "Float") if f"Datatype: {kind}" in found["outputs"]]
        self._types[kinds[0] if kinds else "other"] += 1

    def summary(self, profiles: list[str]) -> dict[str, Any]:
        """Kernels and bytes of scratch by profile, bytes of weights, FP16's share of the kernels that put out floats,
        and the ports that are not on the device."""
        floats = self._types["Half"] + self._types["Float"]
        if not self._kernels:
            return {}
        parts, each = sorted(self._kernels), len(self._kernels) // max(1, len(profiles))
        split = {
            name: sum(self._kernels[part] for part in parts[index * each : (index + 1) * each])
            for index, name in enumerate(profiles)
        }
        return {
            "kernels": split if each * len(profiles) == len(parts) else {},
            "kernels_of_all": sum(self._kernels.values()),
            "scratch": dict(zip(profiles, self._scratch)),  # noqa: B905 - `strict` is Python 3.10's
            "weights": self._weights,
            "half_share": round(self._types["Half"] / floats, 4) if floats else 0.0,
            "ports": self._ports,
            "host_ports": self._host,
        }


def make_logger(trt: Any, layers: Layers | None = None) -> Any:
    """A TensorRT logger that keeps warnings and errors in `messages`; parser and builder report nowhere else. `layers`
    hears everything."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []
            self.heard = 0  # loud messages so far, also those that are no longer kept

        def log(self, severity: Any, message: str) -> None:
            word = str(severity).split(".")[-1]
            if layers is not None:
                layers.hear(message)
            if word in _LOUD:
                self.heard += 1
                self.messages = [*self.messages, f"{word}: {message}"][-_MOST:]

        def errors(self) -> list[str]:
            """The errors among them."""
            return [message for message in self.messages if not message.startswith("WARNING")]

    return Logger()
