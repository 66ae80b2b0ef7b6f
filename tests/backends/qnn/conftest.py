"""What is made of the small vocoder of tests/backends/npu_voice.py, and Qualcomm's tool where it is."""

from __future__ import annotations

import pytest
from npu_voice import write

from gsvexport.backends.qnn import plugin

NPU = {"npu": {"chip": "SM8650"}}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """(folder of the source, its model, what its vocoder was given)."""
    return write(tmp_path_factory.mktemp("qnn-source"))


@pytest.fixture(scope="session")
def real():
    """Skips where Qualcomm's tool cannot be here: CI and every machine that builds has it."""
    if problem := plugin.missing():
        pytest.skip(problem)


@pytest.fixture(scope="session")
def compiled(small, real, tmp_path_factory):
    """(folder with the stage compiled by the real compiler, what the lowering said, what it told)."""
    from gsvexport.backends.qnn.lower import lower

    folder, model, seen = small
    out, told = tmp_path_factory.mktemp("qnn-compiled"), []
    done = lower(folder, model, {"vocoder": "fp16"}, out, device=NPU, calibration=seen, say=told.append)
    return out, done, told
