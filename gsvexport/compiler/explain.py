"""Why a plan is as it is: the reason for each choice, and what memory and its bandwidth will allow. Nothing is run."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from gsvexport.backends import reasons, scratch
from gsvexport.compiler.plan import Plan
from gsvexport.stages import CLONING_STAGES, CODES_PER_SECOND, FRAMES_PER_CODE, VERSIONS, stages
from gsvexport.target.target import Target

if TYPE_CHECKING:
    from gsvexport.compiler.inputs import Opened

RUNTIME_MB = 55  # resident with Python, numpy and ONNX Runtime imported and nothing loaded (1.32, x86-64)
_ARRAYS = 3  # of the vocoder's widest size that are alive at once: a block's input, its sum, and what it computes
_FLOAT = 4  # bytes
_WIDTH = 110
_IN = " " * 6


@dataclass(frozen=True)
class Sizes:
    """What speed and memory depend on.

    `layers` and `width` of T2S, its `vocab` (codes), all `t2s` and all `sovits` weights, the latent (or mel) `frames`
    of a code, and `widest`, the floats for each of those frames in the vocoder's widest array.
    """

    layers: int
    width: int
    vocab: int
    t2s: int
    sovits: int
    widest: int
    frames: float = FRAMES_PER_CODE

    @property
    def layer_weights(self) -> int:
        """Weights of the products in T2S's layers: attention 4·D², feed-forward 2·D·4D."""
        return 12 * self.layers * self.width**2

    @property
    def head_weights(self) -> int:
        """Weights of the product that gives the scores."""
        return self.vocab * self.width


# Upstream's own v2 dimensions; a test counts them.
FULL_V2 = Sizes(24, 512, 1025, 77_606_402, 42_389_633, 10_240)


def sizes(opened: Opened) -> Sizes:
    """The sizes of what was opened, a voice or a source."""
    from dataclasses import asdict

    if opened.voice is not None:
        t2s, acoustics = asdict(opened.voice.t2s), asdict(opened.voice.acoustics)
    else:
        assert opened.source is not None
        t2s, acoustics = (opened.source.meta["hyperparameters"][name] for name in ("t2s", "acoustics"))
    return count(t2s, acoustics)


def count(t2s: Mapping[str, Any], acoustics: Mapping[str, Any]) -> Sizes:
    """The sizes that follow from the fields of `T2SDims` and `SovitsDims`."""
    from gsvexport.voice.dims import SovitsDims, T2SDims
    from gsvexport.voice.layout import expected_sovits, expected_t2s
    from gsvexport.voice.matching import MatchingDims

    rates = accumulate(acoustics["upsample_rates"], lambda one, other: one * other)
    widths = (acoustics["upsample_initial"] >> place for place in range(1, len(acoustics["upsample_rates"]) + 1))
    matching = acoustics.get("matching") and MatchingDims(**acoustics["matching"])
    tables = (expected_t2s(T2SDims(**t2s)), expected_sovits(SovitsDims(**{**acoustics, "matching": matching})))
    weights = [sum(math.prod(shape) for shape in table.values()) for table in tables]
    widest = max(rate * width for rate, width in zip(rates, widths, strict=True))
    mel = VERSIONS[acoustics["version"]].mel
    up, down = mel.stretch if mel else (1, 1)
    return Sizes(t2s["layers"], t2s["width"], t2s["vocab"], weights[0], weights[1], widest, FRAMES_PER_CODE * up / down)


def explain(plan: Plan, found: Sizes) -> str:
    """Reasons and estimates for a plan, as a page of text."""
    target = plan.target
    lines = ["why", *_choices(plan)]
    for name, text in (
        ("memory", _memory(target, found)),
        ("speed", _speed(target, found)),
        ("calibration", _calibration(plan)),
        ("portability", _portability(target)),
        ("emulator", _emulator(target)),
    ):
        if text:
            lines += _entry(name, text)
    return "\n".join(lines) + "\n"


def costs(plan: Plan, found: Sizes) -> str:
    """The estimates of memory and speed alone, for a voice of these sizes, as text."""
    lines = [*_entry("memory", _memory(plan.target, found)), *_entry("speed", _speed(plan.target, found))]
    return "\n".join(lines) + "\n"


def _choices(plan: Plan) -> list[str]:
    target, lines = plan.target, []
    every = stages(plan.subject.version)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for stage in plan.subject.stages(target):
        place = target.place(stage)
        groups.setdefault((every[stage].role, place.backend, place.precision), []).append(stage)
    for (role, backend, precision), names in groups.items():
        at = _where(target, f"placement.{target.placed_by(names[0])}.precision", "placement.default.precision")
        reason = reasons(backend).why(role, precision, target.device.features)
        lines += _entry(f"{', '.join(names)}: {precision}", f"{reason} ({at})")
    if plan.subject.baked:
        left = [stage for stage in plan.subject.every if stage in CLONING_STAGES]
        lines += _entry(", ".join(left), "left out: the voice is baked, so their results are stored instead")
    return lines


def _memory(target: Target, found: Sizes) -> str:
    parts = memory_mb(target, found)
    said = " + ".join(f"{name} {size:.0f}" for name, size in parts.items())
    total, has = sum(parts.values()), target.device.memory_mb
    text = f"estimate: {said} = {total:.0f} MB"
    longest = f"for a sentence of {target.limits.phones} phones and {target.limits.tokens} codes, the target's limits"
    if has is None:
        return f"{text} {longest}; the profile does not say what the device has"
    verdict = "fits" if total <= has else "does NOT fit: lower [limits] or the precision"
    return f"{text} {longest}; the device has {has} MB ({_where(target, 'device.memory_mb')}): {verdict}"


def memory_mb(target: Target, found: Sizes) -> dict[str, float]:
    """An estimate of what speaking the longest sentence takes, in 10^6 bytes by purpose: every weight once, a cache
    of FP32 rows for phones and codes, the vocoder's widest arrays, and the runtime itself."""
    rows = target.limits.phones + target.limits.tokens
    frames = found.frames * min(target.limits.tokens, target.limits.seconds * CODES_PER_SECOND)
    places = [target.place(stage) for stage in ("acoustic", "vocoder")]
    sovits = max(reasons(place.backend).weight_bytes(place.precision) for place in places) * found.sovits
    step = target.place("step")
    others = found.t2s - found.layer_weights - found.head_weights
    embeddings = others * head_bytes(step.backend, step.precision)
    return {
        "weights": (step_bytes(target, found) + embeddings + sovits) / 1e6,
        "cache": 2 * found.layers * found.width * _FLOAT * rows / 1e6,
        **_arrays(target, found, frames),
        "runtime": float(RUNTIME_MB),
    }


def _arrays(target: Target, found: Sizes, frames: float) -> dict[str, float]:
    """What the vocoder, or a backend that plans it as a whole, computes in."""
    planned = scratch(target.place("vocoder").backend)
    if planned is not None:
        return {"scratch": planned.scratch_bytes(target.limits.tokens, found.widest, found.frames) / 1e6}
    return {"vocoder": _ARRAYS * found.widest * frames * _FLOAT / 1e6}


def head_bytes(backend: str, precision: str) -> float:
    """Bytes of a weight that a backend leaves in floats."""
    found: float = reasons(backend).head_bytes(precision)
    return found


def step_bytes(target: Target, found: Sizes) -> float:
    """Bytes of weights that one token reads: those of the layers and of the scores, once each."""
    step = target.place("step")
    backend = reasons(step.backend)
    layers: float = found.layer_weights * backend.weight_bytes(step.precision)
    return layers + found.head_weights * head_bytes(step.backend, step.precision)


def _speed(target: Target, found: Sizes) -> str:
    bandwidth, each = target.device.bandwidth_gbs, step_bytes(target, found)
    read = f"a token reads {each / 1e6:.1f} MB of weights"
    if bandwidth is None:
        return f"{read}; the profile gives no memory bandwidth"
    tokens = bandwidth * 1e9 / each
    word = target.device.confidence.get("bandwidth_gbs", "unconfirmed")
    bound = f"at most {tokens:.0f} tokens/s, {tokens / CODES_PER_SECOND:.1f} times real time"
    return (
        f"{read}; {bandwidth:g} GB/s ({word}, {_where(target, 'device.bandwidth_gbs')}) allow {bound}: an upper bound"
    )


def _calibration(plan: Plan) -> str:
    target = plan.target
    if not any(step.name == "calibrate" for step in plan.steps):
        return "none: no stage computes with integers whose ranges have to be known"
    chosen = target.calibration
    assert chosen is not None
    corpus = f"{chosen.sentences} sentences of corpus '{chosen.corpus}', which sets how widely ranges are seen"
    return f"{corpus} ({_where(target, 'calibration.sentences', 'calibration')})"


def _portability(target: Target) -> str:
    return {
        "portable": "portable: the build makes all of it, and every device that the runtime supports can open it",
        "build_on_device": "build_on_device: gsvexport finalize makes on the device what nobody else can",
    }[target.portability]


def _emulator(target: Target) -> str:
    if target.emulator is None:
        return ""
    return f"{target.emulator} plays a {target.device.core}: gsvexport verify ARTIFACT --emulate"


def _where(target: Target, *names: str) -> str:
    """File and line of the first key that is set, the folder left out."""
    found = next((target.where[name] for name in names if name in target.where), target.name)
    return found.rpartition("/")[2]


def _entry(name: str, text: str) -> list[str]:
    return [
        f"   {name}",
        *textwrap.wrap(text, _WIDTH, initial_indent=_IN, subsequent_indent=_IN, break_on_hyphens=False),
    ]
