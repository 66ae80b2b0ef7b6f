"""Artifacts and reports made by hand, for tests that compare or show them: nothing in them can be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from gsvexport.artifact import container
from gsvexport.artifact.manifest import REPORT, Decisions, Group, Manifest, StageEntry, Weights
from gsvexport.files import canonical_json
from gsvexport.verify.gates import judge, not_run, resolve
from gsvexport.verify.report import Check, Report

GATES = resolve("int8")
NAMES = ("prefill", "step", "acoustic", "vocoder")
DECIDED = Decisions(0.7, 0.5, (Group("x1", 2, 480, 0.25, "int8"), Group("last", 1, 20, 13.0, "float")))
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>&"\'\x1b[31m\u202egnp'


def check(metric: str, value: float, stage: str = "vocoder") -> Check:
    return judge(GATES, stage, metric, "source", value, 2)


def idle(metric: str, stage: str = "vocoder", reason: str = "no source was given") -> Check:
    return not_run(GATES, stage, metric, "source", reason)


SNR, LOG_MEL, TOP1 = check("snr_db", 34.0), check("log_mel_l1", 0.02), check("top1", 0.98, "step")
FREE = check("token_prefix", 0.5, "free_run")  # no limit below FP32
REPORT_A = Report((SNR, LOG_MEL, TOP1, FREE))


def manifest(name: str = "alice", target: str = "x86-64-int8", **changed: object) -> Manifest:
    stages = {stage: StageEntry(f"{stage}.onnx", "onnxruntime", "int8-weights", ("as asked",)) for stage in NAMES}
    stages["vocoder"] = StageEntry("vocoder.onnx", "onnxruntime", "int8", ("9 are INT8",), DECIDED)
    weights = (Weights(("prefill", "step"), "int8", 3000), Weights(("vocoder",), "fp16", 2000))
    profile = {"name": target, "title": "A PC", "device": {"arch": "x86-64", "features": ["avx2"]}}
    made = Manifest(name, "v2", profile, "s" * 64, "k" * 64, {"onnx": "1"}, stages, {}, weights=weights)
    return replace(made, **changed)  # type: ignore[arg-type]


def artifact(
    path: Path,
    report: Report | None = REPORT_A,
    *,
    filler: int = 5000,
    made: Manifest | None = None,
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a `.gsv` that holds graphs of no use, `filler` bytes of weights, a report, and `more` files."""
    folder = path.with_suffix(".files")
    folder.mkdir(parents=True)
    for stage in NAMES:
        (folder / f"{stage}.onnx").write_bytes(b"graph")
    (folder / "weights.safetensors").write_bytes(b"w" * filler)
    for name, data in (more or {}).items():
        (folder / name).write_bytes(data)
    if report is not None:
        (folder / REPORT).write_text(canonical_json(report.to_json()), encoding="utf-8")
    container.write(container.with_members(made or manifest(), folder), folder, path)
    return path
