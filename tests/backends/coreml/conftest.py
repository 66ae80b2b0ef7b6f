"""What is made of the small vocoder of tests/backends/npu_voice.py, with coremltools where it is."""

from __future__ import annotations

import pytest
from npu_voice import write

from gsvexport.backends.coreml import runtime


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """(folder of the source, its model, what its vocoder was given)."""
    return write(tmp_path_factory.mktemp("coreml-source"))


@pytest.fixture(scope="session")
def real():
    """Skips where coremltools cannot be here: CI and every machine that builds has it."""
    if problem := runtime.absent():
        pytest.skip(f"not run here: {problem}; pip install 'gsvexport[coreml]'")


@pytest.fixture(scope="session")
def written(small, real, tmp_path_factory):
    """(folder with the stage as coremltools wrote it, what the lowering said, what it told)."""
    from gsvexport.backends.coreml.lower import lower

    folder, model, seen = small
    out, told = tmp_path_factory.mktemp("coreml-written"), []
    done = lower(folder, model, {"vocoder": "fp16"}, out, device={}, calibration=seen, say=told.append)
    return out, done, told


@pytest.fixture
def copy(written, tmp_path):
    """A folder with a copy of it."""
    for path in written[0].rglob("*"):
        if path.is_file():
            beside = tmp_path / path.relative_to(written[0])
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(path.read_bytes())
    return tmp_path
