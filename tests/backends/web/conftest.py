"""onnxruntime-web as npm has it, and a tiny voice that is lowered for a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DRIVE = Path(__file__).with_name("drive.mjs")


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The runtime's files, in gsvexport's cache: npm fetches them once."""
    from gsvexport.backends.web import runtime as web
    from gsvexport.errors import EnvironmentProblem

    if problem := web.missing():
        pytest.skip(f"onnxruntime-web was not run here: {problem}")
    try:
        return web.files()
    except EnvironmentProblem as error:
        pytest.skip(f"onnxruntime-web was not run here: {error}")


@pytest.fixture(scope="session")
def drive(runtime: Path) -> Callable[..., Any]:
    """What the page's modules say in node."""
    from gsvexport.backends.web.site import PAGE

    def asks(job: str, **what: Any) -> Any:
        line, text = ["node", "--no-warnings", str(DRIVE), str(PAGE), str(runtime)], json.dumps({"job": job, **what})
        done = subprocess.run(line, input=text, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    return asks


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of a tiny v2 voice for a browser, in FP32, with golden vectors and a report."""
    from gsvexport.artifact import container
    from gsvexport.artifact.manifest import Manifest, StageEntry
    from gsvexport.backends.web.lower import lower
    from gsvexport.compiler.source import write_source
    from gsvexport.stages import CLONING_STAGES
    from gsvexport.synthetic import write_voice
    from gsvexport.verify import golden
    from gsvexport.voice.voice import read_voice

    folder = tmp_path_factory.mktemp("web")
    source = write_source(read_voice(write_voice(folder / "voice", seed=3)), folder / "source")
    model, files = source.model, folder / "files"
    files.mkdir()
    placement = {stage: "fp32" for stage in model.stages if stage not in CLONING_STAGES}
    lower(source.path, model, placement, files, device={"features": []})
    for name in model.baked.values():
        (files / name).parent.mkdir(exist_ok=True)
        shutil.copy(source.path / name, files / name)
    from dataclasses import replace

    model = replace(model, files={stage: model.files[stage] for stage in placement})
    (files / "model.json").write_text(json.dumps(model.to_json()), encoding="utf-8")
    golden.make(source.path, files / "golden")
    figures = {"max_error": 1e-6, "kl": 1e-9, "snr_db": 100.0}
    stages = {"prefill": ("max_error", "kl"), "step": ("max_error", "kl")}
    stages |= dict.fromkeys(("acoustic", "vocoder"), ("max_error", "snr_db"))
    checks = [
        {"stage": stage, "metric": metric, "against": "golden vectors", "value": figures[metric]}
        for stage, metrics in stages.items()
        for metric in metrics
    ]
    (files / "report.json").write_text(json.dumps({"checks": checks}), encoding="utf-8")
    entries = {stage: StageEntry(model.files[stage], "web", "fp32") for stage in placement}
    target = {"name": "browser", "device": {"arch": "wasm32", "os": "browser", "features": []}}
    manifest = Manifest("tiny", model.version, target, "s" * 64, model.baked_key, {"onnx": "1"}, entries, {})
    container.write(container.with_members(manifest, files), files, folder / "tiny-browser.gsv")
    return folder / "tiny-browser.gsv"


@pytest.fixture(scope="session")
def voice(packed: Path) -> Path:
    """It, unpacked."""
    from gsvexport.artifact import container

    container.unpack(packed, packed.parent / "unpacked")
    return packed.parent / "unpacked"


@pytest.fixture(scope="session")
def native(voice: Path) -> Any:
    """The same graphs in native ONNX Runtime."""
    from gsvexport.backends.web import stand_in
    from gsvexport.runtime.pipeline import load

    with load(voice, any_machine=True, opener=stand_in.opener(next(iter(stand_in.MODES)))) as found:
        yield found
