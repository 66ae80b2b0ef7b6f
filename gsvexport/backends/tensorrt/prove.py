"""Golden vectors on the device, judged by a few numbers that need no more than numpy.

`gsvexport verify` measures more. This is what an artifact can tell about itself where gsvexport is not installed. The
limits are those of the artifact's own report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.backends.tensorrt.cuda import Unjudged
from gsvexport.backends.tensorrt.decoder import T2S, DeviceDecoder
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.ports import KINDS, graph_feeds, stage_results
from gsvexport.errors import ArtifactError, BackendError, GsvError
from gsvexport.model import read_model
from gsvexport.signal.loudness import distance, unit
from gsvexport.untrusted import reading, schema

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gsvexport.model import Dims

    Case = dict[str, Any]

_GOLDEN = Path("golden")
_DIRECTIONS = 4  # on which golden vectors keep each row of a cache
_BEST_SNR = 200.0  # dB, of identical arrays
_AGAIN = "get the artifact again"
_NAME = schema.text(200)
_FILES = schema.table(_NAME, 64)
# What is used of these two files; all of them has its readers in `gsvexport.verify`, which no artifact carries.
_CASES = schema.record(
    {
        "seed": schema.whole(0, (1 << 63) - 1),
        "cases": schema.rows(
            schema.record({"name": _NAME, "stage": _NAME, "inputs": _FILES, "outputs": _FILES}, more=True), 1000
        ),
    },
    {
        "ruler": schema.optional(
            schema.record(
                {}, {"loudness": schema.optional(schema.record({"mean": schema.number()}, more=True))}, more=True
            )
        )
    },
    more=True,
)
_REPORT = schema.record(
    {
        "checks": schema.rows(
            schema.record(
                {
                    "stage": _NAME,
                    "metric": _NAME,
                    "limit": schema.optional(schema.number()),
                    "direction": schema.one_of("max", "min"),
                },
                more=True,
            ),
            10_000,
        )
    },
    more=True,
)
_METRICS = {
    "logits": ("max_error", "top1", "kl"),
    "keys": ("cache_error",),
    "values": ("cache_error",),
    **dict.fromkeys(("latent", "fea", "velocity"), ("max_error", "snr_db")),
    "audio": ("max_error", "snr_db"),
}


def read_cases(folder: Path) -> list[Case]:
    """The golden vectors of the unpacked artifact in `folder`: name, stage, inputs and outputs as arrays.

    Raises:
        ArtifactError: they cannot be read.
    """
    index, found = _read(folder / _GOLDEN / "golden.json", _CASES), []
    try:
        for row in index["cases"]:
            sides = {
                side: {port: _load(reading.inside(folder / _GOLDEN, file)) for port, file in row[side].items()}
                for side in ("inputs", "outputs")
            }
            found.append({**row, **sides, "seed": index["seed"]})
    except (OSError, ValueError) as error:
        raise ArtifactError(f"the golden vectors in {folder} cannot be read: {reading.why(error)}") from error
    return found


def read_limits(folder: Path) -> dict[tuple[str, str], tuple[float, str]]:
    """(stage, metric) → (limit, "max" or "min") of the artifact's own report.

    Raises:
        ArtifactError: it has none.
    """
    rows = _read(folder / "report.json", _REPORT)["checks"]
    return {(r["stage"], r["metric"]): (r["limit"], r["direction"]) for r in rows if r["limit"] is not None}


def _read(path: Path, shape: schema.Shape) -> dict[str, Any]:
    try:
        value = reading.read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix=_AGAIN) from error
    if problems := schema.findings(value, shape):
        raise ArtifactError(f"{path} cannot be right", problems=problems, fix=_AGAIN)
    known: dict[str, Any] = value
    return known


def prove(
    engines: Mapping[str, Engine], t2s: T2S | None, folder: Path, dims: Dims, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row for each stage and metric: value, limit, n and status; the worst of all golden vectors.

    Raises:
        Unjudged: the device ran out of memory, say.

    T2S goes through `decoder.DeviceDecoder`, so that cache, strided copies and recorded steps are what is proven.
    """
    limits, cases = read_limits(folder), read_cases(folder)
    heard: list[tuple[Any, Any]] = []
    found: dict[tuple[str, str], list[float]] = {}
    problems: dict[str, str] = {}
    for case in cases:
        stage = str(case["stage"])
        say(f"golden vector {case['name']} of {stage}")
        try:
            rows = _case(engines, t2s, case, dims, heard)
        except Unjudged:
            raise
        except (
            GsvError,
            KeyError,
            ValueError,
            IndexError,
            TypeError,
        ) as error:  # arrays of other shapes than the graph's
            problems[stage] = f"case {case['name']}: {' '.join(str(error).split())}"
            continue
        for name, metric, value in rows:
            found.setdefault((name, metric), []).append(value)
    checks = [_judged(stage, metric, values, limits.get((stage, metric))) for (stage, metric), values in found.items()]
    own = _unit(folder)
    if heard and own is not None:
        share = distance(heard, read_model(folder).rate) / own
        checks.append(_judged("vocoder", "sound_share", [share], limits.get(("vocoder", "sound_share"))))
    checks += [
        {"stage": stage, "metric": "valid", "value": 0.0, "limit": 1.0, "n": 1, "status": "fail", "reason": text}
        for stage, text in problems.items()
    ]
    return checks


def _unit(folder: Path) -> float | None:
    """The voice's own ruler, which lies in the index of the golden vectors; None for a voice that has none."""
    own = (_read(folder / _GOLDEN / "golden.json", _CASES).get("ruler") or {}).get("loudness")
    return None if own is None else unit(float(own["mean"]))


def forced(decoder: DeviceDecoder, case: Case) -> NDArray[np.float32]:
    """The logits [n, V] of a teacher-forced golden vector."""
    given = case["inputs"]
    rows = [decoder.prefill(given["phones"], given["bert"], given["prompt"])]
    start = given["prompt"].shape[1]
    for index, token in enumerate(given["tokens"][:-1]):
        rows.append(decoder.step(int(token), start + index))
    return np.stack(rows)


def _case(
    engines: Mapping[str, Engine], t2s: T2S | None, case: Case, dims: Dims, heard: list[tuple[Any, Any]]
) -> list[tuple[str, str, float]]:
    """(stage, metric, value) of one golden vector; what there is to hear, expected and found, is added to `heard`."""
    if case["stage"] != "teacher":
        out = stage_results(case["stage"], engines[case["stage"]].run(graph_feeds(case["stage"], case["inputs"], dims)))
        if "audio" in case["outputs"]:
            heard.append((case["outputs"]["audio"].reshape(-1), out["audio"].reshape(-1)))
        return _measured(case["stage"], case["outputs"], out)
    if t2s is None:
        raise BackendError("there is no engine for T2S")
    decoder = t2s.decoder()
    logits = forced(decoder, case)
    first = case["inputs"]["phones"].shape[1] + case["inputs"]["prompt"].shape[1]
    caches = {kind: _project(rows, case["seed"]) for kind, rows in decoder.cache().items()}
    found = []
    for stage, rows, places in (
        ("prefill", slice(0, 1), slice(0, first)),
        ("step", slice(1, None), slice(first, None)),
    ):
        expected = {"logits": case["outputs"]["logits"][rows]}
        expected.update({kind: case["outputs"][kind][:, places] for kind in KINDS})
        got = {"logits": logits[rows], **{kind: caches[kind][:, places] for kind in KINDS}}
        found += _measured(stage, expected, got)
    return found


def _measured(
    stage: str, expected: Mapping[str, NDArray[Any]], found: Mapping[str, NDArray[Any]]
) -> list[tuple[str, str, float]]:
    rows = []
    for port, reference in expected.items():
        value = found[port]
        if value.shape != reference.shape:
            raise BackendError(f"{stage}: {port} has shape {list(value.shape)} instead of {list(reference.shape)}")
        if not np.isfinite(value).all():
            raise BackendError(f"{stage}: {port} holds NaN or infinite values")
        for metric in _METRICS.get(port, ("max_error",)):
            rows.append((stage, metric, _metric(metric, np.float64(reference), np.float64(value))))
    return rows


def _metric(metric: str, r: Any, x: Any) -> float:
    """As `gsvexport.verify` defines them (tensors.py there)."""
    if metric in ("max_error", "cache_error"):
        return float(np.max(np.abs(x - r)) / max(1.0, float(np.max(np.abs(r))))) if r.size else 0.0
    if metric == "top1":
        return float(np.mean(np.argmax(r, axis=-1) == np.argmax(x, axis=-1)))
    if metric == "kl":
        p, q = _log_softmax(r), _log_softmax(x)
        return float(np.mean(np.sum(np.exp(p) * (p - q), axis=-1)))
    noise, signal = float(np.sum((x - r) ** 2)), float(np.sum(r * r))
    return _BEST_SNR if noise == 0 else 10.0 * float(np.log10(max(signal, 1e-300) / noise))


def _judged(stage: str, metric: str, values: list[float], limit: tuple[float, str] | None) -> dict[str, Any]:
    worst = min(values) if metric == "snr_db" else max(values)
    value = float(f"{np.mean(values) if metric in ('top1', 'kl') else worst:.4g}")
    row = {"stage": stage, "metric": metric, "value": value, "limit": None, "n": len(values), "status": "info"}
    if limit is None:
        return row
    kept = value <= limit[0] if limit[1] == "max" else value >= limit[0]
    return {**row, "limit": limit[0], "status": "pass" if kept else "fail"}


def _log_softmax(logits: Any) -> Any:
    shifted = logits - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _project(cache: NDArray[Any], seed: int) -> NDArray[Any]:
    """[L, 1, S, D] → [L, S, 4] on the fixed directions of the golden vectors (`gsvexport.verify.golden.project`)."""
    width = cache.shape[-1]
    raw = np.asarray(np.random.PCG64(seed).random_raw(width * _DIRECTIONS)) >> np.uint64(40)
    directions = (raw.astype(np.float64) / 2**23 - 1.0).reshape(width, _DIRECTIONS) / np.sqrt(width)
    return np.asarray(cache[:, 0].astype(np.float64) @ directions)


def _load(path: Path) -> NDArray[Any]:
    array = reading.read_array(path)
    return array.astype({"f": np.float32, "i": np.int64}.get(array.dtype.kind, array.dtype))
