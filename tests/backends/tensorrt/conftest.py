"""A small voice lowered for jetson-orin, and devices that the double plays."""

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.backends.tensorrt import finalize, measure
from gsvexport.backends.tensorrt.lower import lower
from gsvexport.compiler.source import write_source
from gsvexport.files import canonical_json
from gsvexport.synthetic import write_voice
from gsvexport.target.target import Limits, read_target
from gsvexport.verify import golden
from gsvexport.verify.gates import METRICS, not_run, resolve
from gsvexport.verify.report import Report
from gsvexport.voice.voice import read_voice

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIMITS = Limits(phones=60, tokens=300)
HALVES = dict.fromkeys(("prefill", "step", "acoustic", "vocoder"), "fp16")


class Measured:
    """A calibration whose every tensor peaks at 1, but those named."""

    def __init__(self, **peaks):
        self.large = peaks

    def feeds(self, stage):
        return []

    def peaks(self, model, feeds):
        return {value.name: self.large.get(value.name, 1.0) for node in model.graph for value in node.outputs}


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The source of a tiny v2Pro voice."""
    folder = tmp_path_factory.mktemp("tensorrt")
    write_voice(folder / "voice", "v2Pro", seed=3)
    return write_source(read_voice(folder / "voice"), folder / "source")


@pytest.fixture(scope="session")
def unpacked(source, tmp_path_factory):
    """An unpacked artifact for jetson-orin, put together without the emulation that a build goes through."""
    folder = tmp_path_factory.mktemp("orin")
    # Few releases keep the checker short; every form of every graph is made for these two, 8.5.2 and 10.16.
    releases = ">=8.5.2,<11,!=8.6.2,!=10.3,!=10.13"
    device = {"runtimes": {"tensorrt": releases}, "limits": asdict(LIMITS)}
    done = lower(source.path, source.model, HALVES, folder, device=device, calibration=Measured())
    golden.make(source.path, folder / golden.FOLDER)
    for file in source.model.baked.values():
        (folder / file).parent.mkdir(exist_ok=True)
        shutil.copyfile(source.path / file, folder / file)
    for name, path in finalize.carried().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    model = replace(source.model, files=dict(done.files))
    (folder / "model.json").write_text(canonical_json(model.to_json()))
    gates = resolve("fp16")
    rows = [not_run(gates, stage, metric, "golden vectors", "a test") for stage in HALVES for metric in METRICS]
    (folder / "report.json").write_text(canonical_json(Report(tuple(rows)).to_json()))
    target = {**read_target("jetson-orin").to_json(), "limits": asdict(LIMITS)}
    target["device"]["runtimes"] = {"tensorrt": ">=8.5.2,<12"}
    stages = {stage: StageEntry(file, "tensorrt", "fp16") for stage, file in done.files.items()}
    made = Manifest("tiny", "v2Pro", target, source.digest, None, {"gsvexport": "0"}, stages, {})
    (folder / "manifest.json").write_text(canonical_json(container.with_members(made, folder).to_json()))
    return folder


@pytest.fixture(scope="session")
def double_path(tmp_path_factory):
    """A PYTHONPATH on which `import tensorrt` is the double, for processes of their own."""
    folder = tmp_path_factory.mktemp("double")
    for name in ("tensorrt", "tensorrt_rtx"):
        (folder / f"{name}.py").write_text("import tensorrt_double\ntensorrt_double.install()\n")
    return os.pathsep.join((str(folder), str(HERE)))


@pytest.fixture
def device(tmp_path, monkeypatch, double_path):
    """Play a device: `device(version="8.5.2", …)`, here and in child processes. Its cache of engines is its own."""
    import tensorrt_double as double

    script = tmp_path / "device.json"
    monkeypatch.setenv(double.VARIABLE, str(script))
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", double_path)
    for name, value in (("STEPS", 20), ("RUNS", 1), ("CODES", 12)):  # what is measured here is no device
        monkeypatch.setattr(measure, name, value)

    def play(**words):
        script.write_text(json.dumps(words))
        script.with_suffix(".log").unlink(missing_ok=True)
        double.install()
        return double

    play()
    yield play
    double.remove()
