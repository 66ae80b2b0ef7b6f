from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from building import ROOT, gsvexport

from gsvexport.emulate import Emulator, Guest, find, setup
from gsvexport.errors import EnvironmentProblem

CORES = ("cortex-a72", "cortex-a76")  # without and with dot products
SETUP_SECONDS = 120.0

TARGET = """\
extends = "_onnxruntime"
title = "an aarch64 board"
emulator = "qemu-aarch64"
[device]
arch = "aarch64"
core = "cortex-a72"
"""


class NativeDouble(Emulator):
    """An emulator that is none: the guest's program on this very machine, so that the rest needs no qemu."""

    def command(self, core, arguments):
        return [sys.executable, *arguments], {"PYTHONPATH": str(ROOT), "QEMU_CPU": core}

    def cores(self):
        return ("cortex-a72", "max")


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    """The one in the user's cache; it is made when it is not there."""
    try:
        try:
            return find()
        except EnvironmentProblem:
            return setup(seconds=SETUP_SECONDS)
    except EnvironmentProblem as problem:
        pytest.skip(f"no emulator: {problem}")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests unpack stays out of the user's cache; `emulator`, which looks there, is made before."""
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path_factory.getbasetemp() / "emulate-cache"))


@pytest.fixture(scope="module", params=CORES)
def guest(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Guest]:
    with Guest(emulator, request.param, timeout=120) as one:
        yield one


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny voice, built for an aarch64 target."""
    pytest.importorskip("onnx_ir")
    pytest.importorskip("soundfile")
    from gsvexport.synthetic import write_voice

    folder = tmp_path_factory.mktemp("emulate")
    (folder / "board.toml").write_text(TARGET)
    voice = write_voice(folder / "voice")
    done = gsvexport(folder / "cache", "--target", folder / "board.toml", voice, "-o", folder, "-q")
    assert done.returncode == 0, done.stderr
    return folder / "synthetic-board.gsv"
