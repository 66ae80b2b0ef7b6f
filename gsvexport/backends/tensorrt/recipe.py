"""Which engines a voice needs and for which shapes each is built: `tensorrt.json`, read on the device.

Pure data from the voice's sizes and the target's limits; nothing here knows ONNX or TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gsvexport.model import Dims
from gsvexport.stages import (
    BERT_WIDTH,
    FEATURE_WIDTH,
    FRAMES_PER_CODE,
    MEL_POSITIONS,
    SPECTROGRAM_BINS,
    SSL_WIDTH,
)
from gsvexport.target.target import Limits

FILE = "tensorrt.json"
SCHEMA = 1
# Stages that share an engine: appending one code is appending a sentence with one row (see passes/one_t2s.py).
ENGINES = {"prefill": "t2s", "step": "t2s"}
IN_PLACE = "kv"  # the form of the T2S graph that writes its cache (passes/in_place_t2s.py), for TensorRT from 10.15 on
WEAK = "trt8"  # the form of a graph for TensorRT below 10, whose types are advice: no LayerNormalization, named layers
# A cache is built for these capacities: each is a recorded graph of its own, and memory is read up to its end.
_SMALLEST_CAPACITY = 256
# Lengths that are alike in cost share a profile; TensorRT tunes at one length and has to serve the others with it.
_CODES = (64, 256)
_SPEEDS = (0.5, 2.0)
_CFM_FRAMES = 640  # a prompt of 4 s and 2.4 s of speech
_PHONES = 64  # of a sentence as most are
_REFERENCE_FRAMES = (50, 300, 1000)  # spectrogram frames of 20 ms: 1, 6 and 20 s

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """Shapes that one tuning of an engine serves: for each input the smallest, the usual and the largest."""

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]


@dataclass(frozen=True)
class InPlace:
    """What is different about an engine that writes its cache in place; `aliases` says which outputs (keys) have to be
    bound to the address of which inputs. The rest is as in `Engine`."""

    graph: str
    profiles: tuple[Profile, ...]
    aliases: dict[str, str]
    ports: dict[str, dict[str, str]]
    half: float


@dataclass(frozen=True)
class Engine:
    """One engine: its graph (`weak` for TensorRT below 10, empty where the target has none), the stages that it runs,
    its profiles, and the layers that must compute in FP32 where the graph's types are only advice. `ports` has the
    numpy type of each input and output, `half` the share of FP16 among the operators that compute with floats. Where
    `context` is not None, longer inputs are run in windows that look at so many frames before and after."""

    name: str
    stages: tuple[str, ...]
    graph: str
    weak: str
    profiles: tuple[Profile, ...]
    single: tuple[str, ...]
    ports: dict[str, dict[str, str]]
    half: float
    in_place: InPlace | None = None
    context: tuple[int, int] | None = None


def to_json(engines: Sequence[Engine], *, phones: int) -> dict[str, Any]:
    """What `tensorrt.json` holds. `phones` is where codes begin in the joined embedding table."""
    made = {engine.name: {**asdict(engine), "trtexec": trtexec(engine)} for engine in engines}
    return {"schema": SCHEMA, "phones": phones, "engines": made}


def trtexec(engine: Engine) -> dict[str, str]:
    """For each profile the line that builds and times it by hand with TensorRT 10: to see what is wrong where
    `gsvexport finalize` fails. What it writes is not opened by gsvexport."""
    lines = {}
    for profile in engine.profiles:
        shapes = []
        for place, word in enumerate(("min", "opt", "max")):
            sizes = {name: "x".join(map(str, one[place])) for name, one in profile.shapes.items()}
            shapes.append(f"--{word}Shapes=" + ",".join(f"{name}:{size}" for name, size in sizes.items()))
        options = ["--timingCacheFile=timing.cache", "--useCudaGraph"]
        plan = f"--saveEngine={engine.name}-{profile.name}.plan"
        lines[profile.name] = " ".join(
            ["trtexec", f"--onnx={engine.graph}", "--stronglyTyped", *shapes, *options, plan]
        )
    return lines


def profiles(
    engine: str,
    dims: Dims,
    limits: Limits,
    prompt: tuple[int, int],
    inputs: Sequence[str],
    *,
    windows: bool = False,
) -> list[Profile]:
    """The profiles of one engine; with `windows` the vocoder gets those of short pieces alone, of which longer ones are
    made. `prompt` is (phones, codes) of what is spoken before every sentence, `inputs` names
    the graph's inputs whose lengths are open."""
    make = {
        "t2s": _t2s,
        "acoustic": _acoustic,
        "features": _features,
        "cfm": _cfm,
        "vocoder": _mel_vocoder if "mel" in inputs else _vocoder,
        "reference": _reference,
        "prompt": _prompt,
    }[engine]
    made = make(dims, limits, prompt)[: 1 if windows else None]
    return [Profile(one.name, {name: shape for name, shape in one.shapes.items() if name in inputs}) for one in made]


def in_place_profiles(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> tuple[Profile, ...]:
    """The profiles of T2S with a cache that is written in place, which has the largest of `capacities`: a step for each
    number of rows that may be read. They come first: a step is none of `prefill`."""

    def shapes(low: int, opt: int, high: int, slots: tuple[int, int, int]) -> dict[str, tuple[Shape, Shape, Shape]]:
        flat = dict.fromkeys(("ids", "positions"), ((1, low), (1, opt), (1, high)))
        bert = _range(lambda n: (1, BERT_WIDTH, n), low, opt, high)
        return {**flat, "bert": bert, "slots": ((slots[0],), (slots[1],), (slots[2],))}

    steps = [Profile(f"step-{size}", shapes(1, 1, 1, (size,) * 3)) for size in capacities(limits, prompt)]
    usual, most = _rows(limits, prompt)
    return (*steps, Profile("prefill", shapes(1, usual, most, (1, usual, most))))


def capacities(limits: Limits, prompt: tuple[int, int]) -> list[int]:
    """How many rows the caches hold that an engine is built for, doubling up to the longest sentence."""
    longest = sum(prompt) + limits.phones + limits.tokens
    sizes = [_SMALLEST_CAPACITY]
    while sizes[-1] < longest:
        sizes.append(2 * sizes[-1])
    sizes[-1] = max(sizes[0], -(-longest // _SMALLEST_CAPACITY) * _SMALLEST_CAPACITY)
    return sizes


def _t2s(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    usual, rows = _rows(limits, prompt)

    def shapes(low: int, opt: int, high: int, capacity: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        cache = (dims.L, 1, capacity, dims.D)
        fixed = dict.fromkeys(("keys", "values"), (cache, cache, cache))
        flat = dict.fromkeys(("ids", "positions"), ((1, low), (1, opt), (1, high)))
        return {**flat, "bert": _range(lambda n: (1, BERT_WIDTH, n), low, opt, high), **fixed}

    steps = [Profile(f"step-{size}", shapes(1, 1, 1, size)) for size in capacities(limits, prompt)]
    return [Profile("prefill", shapes(1, usual, rows, 1)), *steps]


def _rows(limits: Limits, prompt: tuple[int, int]) -> tuple[int, int]:
    """How many rows `prefill` has for a sentence as most are, and for the longest one."""
    most = sum(prompt) + limits.phones
    return min(most, sum(prompt) + _PHONES), most


def _acoustic(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    def shapes(low: int, high: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        slow, fast = _SPEEDS
        least, most = int(FRAMES_PER_CODE * low / fast), int(FRAMES_PER_CODE * high / slow) + 1
        return {
            "codes": _range(lambda n: (1, n), low, high, high),
            "phones": _range(lambda n: (1, n), 1, min(_PHONES, limits.phones), limits.phones),
            "noise": _range(lambda n: (1, dims.I, n), max(1, least), FRAMES_PER_CODE * high, most),
        }

    return [Profile(f"codes-{high}", shapes(low, high)) for low, high in _buckets(limits.tokens)]


def _features(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    def shapes(low: int, high: int) -> dict[str, tuple[Shape, Shape, Shape]]:
        least, usual, most = _mel_frames(low, high)
        return {
            "codes": _range(lambda n: (1, n), low, high, high),
            "phones": _range(lambda n: (1, n), 1, min(_PHONES, limits.phones), limits.phones),
            "mask": _range(lambda n: (1, 1, n), least, usual, most),
        }

    # The prompt goes through it as well, whatever the limit for a sentence.
    return [Profile(f"codes-{high}", shapes(low, high)) for low, high in _buckets(max(limits.tokens, prompt[1]))]


def _cfm(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    """One step of a chunk: up to what a chunk may have, prompt included."""
    ports = {"state": dims.I, "prompt_mel": dims.I, "fea": FEATURE_WIDTH}
    bands = [(1, _CFM_FRAMES), (_CFM_FRAMES + 1, MEL_POSITIONS)]
    return [
        Profile(f"frames-{high}", {name: _range(_rows_of(width), low, high, high) for name, width in ports.items()})
        for low, high in bands
    ]


def _mel_vocoder(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    return [
        Profile(f"codes-{high}", {"mel": _range(_rows_of(dims.I), *_mel_frames(low, high))})
        for low, high in _buckets(limits.tokens)
    ]


def _mel_frames(low: int, high: int) -> tuple[int, int, int]:
    """(least, usual, most) mel frames of so many codes at any speed: at most 4 and, in v3, at least 3.75 a code."""
    slow, fast = _SPEEDS
    return max(1, int(3.75 * low / fast)), 4 * high, int(4 * high / slow) + 2


def _rows_of(width: int) -> Callable[[int], Shape]:
    return lambda n: (1, width, n)


def _vocoder(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    slow = _SPEEDS[0]
    made = []
    for low, high in _buckets(limits.tokens):
        most = int(FRAMES_PER_CODE * high / slow) + 1
        shape = _range(lambda n: (1, dims.I, n), FRAMES_PER_CODE * low - 1, FRAMES_PER_CODE * high, most)
        made.append(Profile(f"codes-{high}", {"latent": shape}))
    return made


def _reference(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    return [Profile("reference", {"spectrogram": _range(lambda n: (1, SPECTROGRAM_BINS, n), *_REFERENCE_FRAMES)})]


def _prompt(dims: Dims, limits: Limits, prompt: tuple[int, int]) -> list[Profile]:
    return [Profile("prompt", {"ssl_content": _range(lambda n: (1, SSL_WIDTH, n), *_REFERENCE_FRAMES)})]


def _buckets(most: int) -> list[tuple[int, int]]:
    """(low, high) ranges of codes that together cover 1..most."""
    highs = [size for size in _CODES if size < most] + [most]
    return list(zip([1, *(high + 1 for high in highs)], highs, strict=False))


def _range(shape: Callable[[int], Shape], low: int, opt: int, high: int) -> tuple[Shape, Shape, Shape]:
    return shape(low), shape(max(low, min(opt, high))), shape(high)
