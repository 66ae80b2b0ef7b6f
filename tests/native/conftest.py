"""The native runtime, built from `native/`, and a tiny voice for it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from building import runnable

from gsvexport.system.locks import FOREVER, acquire

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "build" / "native-tools"
# Other flags, such as a sanitizer's, make another build (docs/native.md).
FLAGS = os.environ.get("GSV_NATIVE_FLAGS", "-O0 -g0 -D_GLIBCXX_ASSERTIONS")
BUILD = ROOT / "build" / ("native-test-flags" if "GSV_NATIVE_FLAGS" in os.environ else "native-test")
PROGRAMS = ("cmake", "ninja", "gcc", "g++", "pkg-config")
# The limits of FP32 targets, as a report names them; `gsvsay --verify` judges by those of the artifact's own.
LIMITS = {
    "prefill": {"max_error": 1e-4, "kl": 1e-5},
    "step": {"max_error": 1e-4, "kl": 1e-5, "top1": 1.0},
    "acoustic": {"max_error": 1e-4, "snr_db": 80.0},
    "vocoder": {"max_error": 1e-4, "snr_db": 80.0},
}


@pytest.fixture(scope="session")
def native(testrun_uid: str) -> SimpleNamespace:
    """`gsvsay`, `library`, `fuzz` and the folder `build`; made anew where sources changed, once in a run of tests."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        pytest.skip(f"the native runtime was not tested here: no {', '.join(missing)}")
    if subprocess.run(["pkg-config", "--exists", "libcrypto"], check=False).returncode:
        pytest.skip("the native runtime was not tested here: no libssl-dev")
    BUILD.parent.mkdir(exist_ok=True)
    held = acquire(BUILD.with_suffix(".lock"), wait=FOREVER)  # the other worker's tests wait, and find it made
    assert held is not None
    made = BUILD.with_suffix(".run")
    try:
        # The first worker's tests use it by then: nothing is linked under them.
        if not made.exists() or made.read_text() != testrun_uid:
            _build()
            made.write_text(testrun_uid)
    finally:
        held.release()
    return SimpleNamespace(
        build=BUILD,
        gsvsay=BUILD / "gsvsay",
        library=BUILD / "libgsv.so",
        fuzz=BUILD / "fuzz_readers",
        sanitized="-fsanitize" in FLAGS,
    )


def _build() -> None:
    if not (TOOLS / "onnxruntime/lib/libonnxruntime.so.1").exists():
        tools = [ROOT / "native/tools.sh", TOOLS, sys.executable]
        done = subprocess.run(tools, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            pytest.skip(f"the native runtime was not tested here: its headers are not to be had: {done.stderr[-500:]}")
    options = {
        "CMAKE_BUILD_TYPE": "None",
        "CMAKE_CXX_FLAGS": FLAGS,
        "ONNXRUNTIME_ROOT": TOOLS / "onnxruntime",
        "CMAKE_UNITY_BUILD": "ON",
        "CMAKE_UNITY_BUILD_BATCH_SIZE": "0",  # headers are read once: a third of the time
        "GSV_FUZZ": "ON",
    }
    given = [f"-D{name}={value}" for name, value in options.items()]
    plain = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer for the compiler
    for line in (["-S", ROOT / "native", "-B", BUILD, "-G", "Ninja", *given], ["--build", BUILD, "-j", "1"]):
        done = subprocess.run(["cmake", *line], env=plain, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked artifact of a tiny v2 voice, in FP32 as ONNX Runtime runs it, with golden vectors and a report."""
    from gsvexport.artifact import container
    from gsvexport.artifact.manifest import Manifest, StageEntry
    from gsvexport.files import canonical_json
    from gsvexport.target.machine import this_machine
    from gsvexport.verify import golden

    files, source = runnable(tmp_path_factory.mktemp("native"))
    model = source.model
    golden.make(source.path, files / "golden")
    checks = [
        {"stage": stage, "metric": metric, "against": "golden vectors", "value": limit, "limit": limit}
        for stage, limits in LIMITS.items()
        for metric, limit in limits.items()
    ]
    (files / "report.json").write_text(json.dumps({"checks": checks}))
    stages = {stage: StageEntry(model.files[stage], "onnxruntime", "fp32") for stage in model.stages}
    target = {"name": "here", "device": {"arch": this_machine().arch, "os": "linux", "features": []}}
    manifest = Manifest("tiny", model.version, target, "s" * 64, None, {"onnx": "1"}, stages, {})
    manifest = container.with_members(manifest, files)
    (files / "manifest.json").write_text(canonical_json(manifest.to_json()))
    return files


@pytest.fixture(scope="session")
def binding() -> Any:
    """The binding of the examples."""
    spec = importlib.util.spec_from_file_location("native_example", ROOT / "examples/native.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def spoken(native: SimpleNamespace, voice: Path, binding: Any) -> Iterator[tuple[Any, Any]]:
    """The voice in C, by the binding of the examples, and in Python."""
    own = binding.Voice(str(native.library), str(voice))
    import gsvexport

    with gsvexport.load(voice) as other:
        yield own, other
    own.close()


@pytest.fixture
def copied(voice: Path, tmp_path: Path) -> Path:
    """A copy of the voice, to be damaged."""
    return Path(shutil.copytree(voice, tmp_path / "copied", copy_function=os.link))
