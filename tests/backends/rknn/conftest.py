"""What is made of the small vocoder of tests/backends/npu_voice.py; Rockchip's toolkit, where it is, and its double."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from npu_voice import write

from gsvexport.backends.rknn import place, toolkit

DOUBLE = Path(__file__).with_name("rknn_double.py")
NPU = {"npu": {"chip": "rk3588"}}
MISSING, COMMAND = place.missing, toolkit.command


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """(folder of the source, its model, what its vocoder was given)."""
    return write(tmp_path_factory.mktemp("rknn-source"))


@pytest.fixture
def double(monkeypatch, tmp_path):
    """Puts the double in the toolkit's place; how it misbehaves is chosen. Gives the file that logs its questions."""

    def choose(how="fine"):
        there = (sys.executable, "-I", str(DOUBLE), how, str(tmp_path / "asked"))
        monkeypatch.setattr(toolkit, "command", lambda: there)
        return tmp_path / "asked"

    monkeypatch.setattr(place, "missing", lambda: "")
    return choose


@pytest.fixture(params=["double", "real"])
def tool(request, double, monkeypatch):
    """The double and the real one: both have to behave as the tests say. `make rknn-test` asks for the real one."""
    if request.param == "double":
        double()
        return request.param
    if os.environ.get("GSVEXPORT_RKNN_TESTS") != "1" or MISSING():
        pytest.skip(f"not run here: make rknn-env, then make rknn-test. {MISSING()}")
    monkeypatch.setattr(place, "missing", MISSING)
    monkeypatch.setattr(toolkit, "command", COMMAND)
    return request.param
