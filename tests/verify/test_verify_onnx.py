"""Verification through ONNX Runtime, on a tiny voice in upstream's file formats."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gsvexport.errors import BackendError
from gsvexport.files import canonical_json
from gsvexport.model import read_model
from gsvexport.stages import CLONING_STAGES
from gsvexport.verify import Report, golden, verify_artifact

pytest.importorskip("onnx_ir")
pytest.importorskip("soundfile")
safetensors = pytest.importorskip("safetensors.numpy")

_LOGITS = ("max_error", "top1", "top15", "kl")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of a tiny v2Pro voice, with its golden vectors beside it as in an artifact."""
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    folder = tmp_path_factory.mktemp("verify")
    write_source(read_voice(write_voice(folder / "voice", "v2Pro")), folder / "source")
    golden.make(folder / "source", folder / "golden")
    return folder / "source"


def _artifact(source: Path, tmp_path: Path, change: Callable[[str, np.ndarray], np.ndarray] | None = None) -> Path:
    """The source without its cloning stages, with golden vectors; `change(name, array)` alters the weights."""
    artifact = tmp_path / "artifact"
    shutil.copytree(source, artifact)
    model = read_model(source)
    kept = {stage: file for stage, file in model.files.items() if stage not in CLONING_STAGES}
    (artifact / "model.json").write_text(canonical_json(replace(model, files=kept).to_json()))
    shutil.copytree(source.parent / "golden", artifact / golden.FOLDER)
    if change:
        weights = safetensors.load_file(artifact / "weights.safetensors")
        changed = {name: np.ascontiguousarray(change(name, array), array.dtype) for name, array in weights.items()}
        safetensors.save_file(changed, artifact / "weights.safetensors")
    return artifact


def _references(source: Path) -> list[dict[str, Any]]:
    from gsvexport.signal.audio import read_audio, spectrogram
    from gsvexport.voice.voice import read_voice

    reference = read_voice(source.parent / "voice").reference
    assert reference is not None
    parameters = read_model(source).spectrogram
    return [
        {"spectrogram": spectrogram(read_audio(path, parameters.rate), parameters), "speaker": speaker[None]}
        for path, speaker in zip(reference.audio, reference.speaker, strict=True)
    ]


def _failed(report: Report) -> set[str]:
    return {f"{check.stage}.{check.metric}" for check in report.failures}


def test_a_baked_copy_of_the_source_passes_every_check_and_all_of_them_run(source: Path, tmp_path: Path) -> None:
    report = verify_artifact(_artifact(source, tmp_path), source=source, references=_references(source))
    left = {check.reason for check in report.checks if check.status != "pass"}
    no_ruler = "the artifact holds no ruler; absolute limits of SNR, log-mel and STFT stand in"
    assert left == {"no case is a voice: 1 s, 10% of it voiced", no_ruler}, report.table()  # its weights are random
    assert {check.level for check in report.checks} == {1, 2, 3}
    stages = {check.stage for check in report.checks}
    assert stages == {"prefill", "step", "acoustic", "vocoder", "pipeline", "baked", "free_run"}


def test_two_runs_give_the_same_bytes(source: Path, tmp_path: Path) -> None:
    artifact = _artifact(source, tmp_path)
    texts = {canonical_json(verify_artifact(artifact).to_json()) for _ in range(2)}
    assert len(texts) == 1


def test_weights_with_fp16_rounding_pass_the_fp16_limits_and_not_the_fp32_ones(source: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def rounded(name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype != np.float32:
            return array
        return array * (1 + random.uniform(-1, 1, array.shape) * 2.0**-11)  # half a unit in fp16's last place

    artifact = _artifact(source, tmp_path, rounded)
    assert verify_artifact(artifact, precision="fp16").passed
    assert {"step.max_error", "pipeline.snr_db"} <= _failed(verify_artifact(artifact))


@pytest.mark.parametrize("stage", ["step", "acoustic", "vocoder"])
def test_one_changed_tensor_fails_in_its_own_stage(source: Path, tmp_path: Path, stage: str) -> None:
    import onnx

    names = {
        graph.stem: {tensor.name for tensor in onnx.load(graph, load_external_data=False).graph.initializer}
        for graph in source.glob("*.onnx")
    }
    sharing = ("prefill", "step") if stage == "step" else (stage,)
    own = names[stage].difference(*(names[other] for other in names if other not in sharing))
    weights = safetensors.load_file(source / "weights.safetensors")
    victim = max(own & weights.keys(), key=lambda name: weights[name].size)
    changed = _artifact(source, tmp_path, lambda name, array: 1.05 * array if name == victim else array)
    failed = {item.partition(".")[0] for item in _failed(verify_artifact(changed))}
    downstream = {"step": {"prefill"}, "acoustic": {"pipeline"}, "vocoder": {"pipeline"}}[stage]
    assert stage in failed
    assert failed <= {stage, *downstream}


@pytest.fixture(scope="module")
def in_place(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact with its T2S lowered as a target's is."""
    from gsvexport.backends.onnxruntime.lower import lower

    artifact = _artifact(source, tmp_path_factory.mktemp("in-place"))
    lowered = artifact.parent / "lowered"
    lowered.mkdir()
    lower(source, read_model(source), {"prefill": "fp32", "step": "fp32"}, lowered, device={"features": []})
    for name in ("prefill.onnx", "step.onnx", "t2s.safetensors"):
        shutil.copy(lowered / name, artifact / name)
    return artifact


def test_sentences_side_by_side_have_to_agree_with_the_source_too(in_place: Path, monkeypatch: Any) -> None:
    from gsvexport.backends.onnxruntime.rows import InPlaceRows

    passed = verify_artifact(in_place)
    assert passed.passed, passed.table()
    alone = sum(
        case.inputs["tokens"].size - 1 for case in golden.read(in_place / golden.FOLDER) if case.stage == "teacher"
    )
    assert {check.n for check in passed.checks if (check.stage, check.metric) == ("step", "top1")} == {2 * alone}

    step, rows = InPlaceRows.step, []

    def mixed(self: Any, tokens: Any, positions: Any) -> Any:
        rows.append(len(tokens))
        return step(self, tokens, positions)[::-1]

    monkeypatch.setattr(InPlaceRows, "step", mixed)
    assert {"step.max_error", "step.top1"} <= _failed(verify_artifact(in_place)) <= {f"step.{name}" for name in _LOGITS}
    assert len(set(rows)) > 1  # one case ends before the others

    def fails(self: Any, tokens: Any, positions: Any) -> Any:
        raise BackendError("no memory")

    monkeypatch.setattr(InPlaceRows, "step", fails)
    report = verify_artifact(in_place)
    assert "step.valid" in _failed(report)
    assert "side by side: no memory" in report.table()
