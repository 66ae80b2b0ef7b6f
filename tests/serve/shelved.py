"""Artifacts of a tiny voice under many names, in order or not, for tests of the server."""

from __future__ import annotations

import json
import shutil

from gsvexport.artifact import container
from gsvexport.artifact.manifest import Manifest, StageEntry
from gsvexport.artifact.signature import add_signature, sign
from gsvexport.target.machine import this_machine
from gsvexport.verify.report import Check, Report

PRIVATE = bytes(range(32))
CHECK = Check(1, "step", "snr", "source", 90.0, 60.0, "min", 3, "pass")
REPORTS = {
    "passed": Report((CHECK,)),
    "failed": Report((Check(1, "step", "snr", "source", 50.0, 60.0, "min", 3, "fail"),)),
    "none": Report((Check(2, "step", "pesq", "source", None, 4.0, "min", 0, "not_run", reason="no pesq"),)),
}


def make(parts, out, name, *, report="passed", signed=True, arch=None):
    """An artifact called `name` in the folder `out`."""
    files, model = parts
    work = out / f".{name}"
    shutil.copytree(files, work)
    if report:
        (work / "report.json").write_text(json.dumps(REPORTS[report].to_json()))
    stages = {stage: StageEntry(model.files[stage], "onnxruntime", "fp32") for stage in model.stages}
    target = {"name": "here", "device": {"arch": arch or this_machine().arch, "os": "linux", "features": []}}
    manifest = Manifest(name, model.version, target, "s" * 64, None, {"onnx": "1"}, stages, {})
    path = out / f"{name}.gsv"
    container.write(container.with_members(manifest, work), work, path)
    shutil.rmtree(work)
    if signed:
        add_signature(path, lambda data: sign(PRIVATE, data))
    return path
