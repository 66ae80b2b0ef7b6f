"""How fast the finished engines are on this device: a step with and without its record, and a whole sentence."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt.decoder import T2S, DeviceDecoder
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import graph_feeds
from gsvexport.stages import BERT_WIDTH, CODES_PER_SECOND, FRAMES_PER_CODE

if TYPE_CHECKING:
    from gsvexport.model import Dims

PHONES, CODES, STEPS, RUNS = 40, 100, 200, 5  # a sentence of 4 s, or as long a one as the engines take


def measure(engines: Mapping[str, Engine], t2s: T2S, constants: Mapping[str, Any], dims: Dims) -> dict[str, Any]:
    """Milliseconds of a step, seconds of each stage for a sentence of `CODES` codes, and its real-time factor.

    `constants` is the conditioning. What is said does not matter for the time: codes are given.
    """
    found: dict[str, Any] = {}
    for name, recorded in (("step_ms_graph", True), ("step_ms_plain", False)):
        found[name] = _steps(T2S(t2s.engine, dims, recorded=recorded and t2s.recorded), dims)
    if not {"acoustic", "vocoder"} <= set(engines):
        return found
    profiles = engines["acoustic"].profiles.values()
    phones, codes = (max(shapes[port][2][1] for shapes in profiles) for port in ("phones", "codes"))
    codes = min(CODES, codes)
    sentence = _Sentence(dims, constants, min(PHONES, phones), codes)
    seconds: dict[str, list[float]] = {"t2s": [], "acoustic": [], "vocoder": []}
    for _ in range(RUNS + 1):  # the first one is thrown away
        for stage, taken in seconds.items():
            began = time.perf_counter()
            sentence.run(t2s if stage == "t2s" else engines[stage])
            taken.append(time.perf_counter() - began)
    found["seconds"] = {stage: _summary(taken[1:]) for stage, taken in seconds.items()}
    total = sum(one["median"] for one in found["seconds"].values())
    return {**found, "codes": codes, "rtf": round(total / (codes / CODES_PER_SECOND), 4)}


class _Sentence:
    """Arbitrary phones and codes, and what each stage makes of them."""

    def __init__(self, dims: Dims, constants: Mapping[str, Any], phones: int, codes: int) -> None:
        self._dims = dims
        random = np.random.Generator(np.random.PCG64(0))
        self._values: dict[str, Any] = {
            **constants,
            "phones": np.ones((1, phones), np.int64),
            "codes": random.integers(min(dims.codes, dims.V - 1), size=(1, codes)),
            "noise": random.standard_normal((1, dims.I, FRAMES_PER_CODE * codes)).astype(np.float32),
            "noise_scale": np.float32(0.5),
        }

    def run(self, by: T2S | Engine) -> None:
        """One stage; what it puts out is there for the next one."""
        if isinstance(by, Engine):
            feeds = {name: np.asarray(self._values[name]) for name in by.inputs}
            self._values.update(by.run(graph_feeds(by.name, feeds, self._dims)))
            return
        decoder = _started(by, self._values["phones"])
        for position, code in enumerate(self._values["codes"][0, :-1]):
            decoder.step(int(code), position)


def _started(t2s: T2S, phones: Any) -> DeviceDecoder:
    """A decoder after a sentence without a prompt."""
    decoder = t2s.decoder()
    decoder.prefill(phones, np.zeros((1, BERT_WIDTH, phones.shape[1]), np.float32), np.zeros((1, 0), np.int64))
    return decoder


def _steps(t2s: T2S, dims: Dims) -> dict[str, Any]:
    """Milliseconds of a step, from its launch to its logits, by events in the stream and by the host's clock."""
    engine, phones = t2s.engine, min(PHONES, t2s.longest)
    decoder = _started(t2s, np.ones((1, phones), np.int64))
    events: list[float] = []
    host = []
    room = min(STEPS, max(t2s.capacities) - phones)
    for position in range(room):
        began = time.perf_counter()
        with engine.cuda.timed(engine.stream) as elapsed:
            decoder.step(position % dims.codes, position)
        host.append(1000 * (time.perf_counter() - began))
        events += elapsed
    warm = max(1, room // 10)  # the first ones record, and a GPU needs a while to clock up
    return {
        "recorded": decoder.replays(),
        "reason": t2s.problem,
        "rows": decoder.rows,
        "events": _summary(events[warm:]),
        "host": _summary(host[warm:]),
    }


def _summary(values: list[float]) -> dict[str, Any]:
    ordered = np.sort(values)
    return {
        "median": float(f"{np.median(ordered):.4g}"),
        "p95": float(f"{ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]:.4g}"),
        "n": len(ordered),
    }
