"""Level 0: each fault of a package is found and named, and a package in order has none."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gsvexport.artifact import container
from gsvexport.artifact.manifest import MANIFEST, Manifest, StageEntry
from gsvexport.files import canonical_json
from gsvexport.model import read_model
from gsvexport.stages import CLONING_STAGES
from gsvexport.verify.gates import resolve
from gsvexport.verify.package import audit
from gsvexport.verify.report import Check, Report

pytest.importorskip("onnx_ir")
pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked artifact of a tiny voice whose graphs are the source's."""
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    folder = tmp_path_factory.mktemp("package")
    out = write_source(read_voice(write_voice(folder / "voice")), folder / "source").path
    (out / "source.json").unlink()
    model = read_model(out)
    kept = {stage: file for stage, file in model.files.items() if stage not in CLONING_STAGES}
    for stage in model.files.keys() - kept.keys():
        (out / model.files[stage]).unlink()
    (out / "model.json").write_text(canonical_json(replace(model, files=kept).to_json()))
    entries = {stage: StageEntry(file, "onnxruntime", "fp32") for stage, file in kept.items()}
    _seal(out, Manifest("tiny", "v2", {"name": "somewhere"}, "0" * 64, None, {}, entries, {}))
    return out


def _seal(folder: Path, manifest: Manifest) -> None:
    value = container.with_members(manifest, folder).to_json()
    (folder / MANIFEST).write_text(canonical_json(value))


def _changed(made: Path, tmp_path: Path, change: Callable[[Path], None], *, seal: bool = True) -> Path:
    folder = tmp_path / "artifact"
    shutil.copytree(made, folder)
    change(folder)
    if seal:
        _seal(folder, container.read_manifest(folder))
    return folder


def _graph(stage: str, change: Callable[[object], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        import onnx

        model = onnx.load(folder / f"{stage}.onnx", load_external_data=False)
        change(model)
        (folder / f"{stage}.onnx").write_bytes(model.SerializeToString())

    return apply


def _faults(folder: Path, precision: str = "fp32") -> dict[str, Check]:
    checks = audit(folder, resolve(precision))
    assert all(check.level == 0 for check in checks)
    return {f"{check.stage}.{check.metric}": check for check in checks if check.status != "pass"}


def test_a_package_in_order_passes_every_check_and_is_no_comparison(made: Path) -> None:
    assert _faults(made) == {}
    checks = audit(made, resolve())
    metrics = {check.metric for check in checks}
    known = {"members", "machine_local", "unreferenced", "ports", "external_data", "declared_precision"}
    assert metrics == known
    assert not Report(tuple(checks)).passed


def _rename_port(model: object) -> None:
    model.graph.input[0].name = "latents"  # type: ignore[attr-defined]


def _outside(model: object) -> None:
    tensor = next(item for item in model.graph.initializer if item.external_data)  # type: ignore[attr-defined]
    entry = next(item for item in tensor.external_data if item.key == "offset")
    entry.value = str(10**9)


def _says_home(model: object) -> None:
    model.doc_string = "made in /home/alice/voices"  # type: ignore[attr-defined]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


# name: (what is done to the folder, whether the manifest is written anew, the check that must fail, what it names)
FAULTS: dict[str, tuple[Callable[[Path], None], bool, str, str]] = {
    "a changed byte": (lambda f: _flip(f / "weights.safetensors"), False, "package.members", "weights.safetensors"),
    "a foreign file": (lambda f: (f / "notes.bin").write_bytes(b"x"), False, "package.members", "notes.bin"),
    "a member that nothing uses": (
        lambda f: (f / "spare.npy").write_bytes(b"x"),
        True,
        "package.unreferenced",
        "spare.npy",
    ),
    "a port with another name": (_graph("vocoder", _rename_port), True, "vocoder.ports", "no input latent"),
    "weights outside their file": (_graph("vocoder", _outside), True, "vocoder.external_data", "weights.safetensors"),
    "the path of a builder": (_graph("vocoder", _says_home), True, "package.machine_local", "/home/alice/voices"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_named(made: Path, tmp_path: Path, name: str) -> None:
    change, seal, check, said = FAULTS[name]
    found = _faults(_changed(made, tmp_path, change, seal=seal))
    assert check in found, found
    assert found[check].status == "fail"
    assert said in found[check].reason


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8-weights", "int4-weights"])
def test_a_stage_that_holds_nothing_of_its_declared_precision_fails(made: Path, tmp_path: Path, precision: str) -> None:
    def declare(folder: Path) -> None:
        value = json.loads((folder / MANIFEST).read_text())
        value["stages"]["vocoder"]["precision"] = precision
        (folder / MANIFEST).write_text(canonical_json(value))

    found = _faults(_changed(made, tmp_path, declare), precision)
    assert found["vocoder.declared_precision"].value == 0
    assert f"{precision}: " in found["vocoder.declared_precision"].reason


def test_without_onnx_the_graphs_are_not_looked_at_and_everything_else_is(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    checks = audit(made, resolve())
    assert {check.metric for check in checks if check.status == "pass"} == {"members", "machine_local"}
    absent = [check for check in checks if check.status == "not_run"]
    assert absent
    assert all("'onnx' is not installed: pip install" in check.reason for check in absent)


def test_a_source_has_no_package_to_audit(made: Path, tmp_path: Path) -> None:
    folder = _changed(made, tmp_path, lambda f: None)
    (folder / MANIFEST).unlink()
    assert audit(folder, resolve()) == []
