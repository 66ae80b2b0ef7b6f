"""Setting up, the guest's protocol and the report: without qemu where that shows as much."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from building import ROOT, gsvexport, left
from emulate.conftest import NativeDouble

from gsvexport.backends import open_session
from gsvexport.emulate import Emulator, Guest, find, install, setup, wire
from gsvexport.emulate.verify import target_core, verify_emulated
from gsvexport.errors import BackendError, EnvironmentProblem, InputError
from gsvexport.verify import Report

ELSEWHERE = {"ID": "fedora", "PRETTY_NAME": "Fedora Linux 43"}
DEBIAN = {"ID": "debian", "VERSION_ID": "12", "VERSION_CODENAME": "bookworm"}


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`tools(name=script)` puts shell scripts where Debian's tools would be; those not named succeed and do nothing."""
    monkeypatch.setattr(install, "_release", lambda: DEBIAN)

    def put(**scripts: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name in ("apt-get", "dpkg", "dpkg-deb"):
            path = folder / name
            path.write_text(f"#!/bin/sh\n{scripts.get(name.replace('-', '_'), 'echo amd64')}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return put


def test_a_command_names_the_core_and_keeps_this_machine_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere/x86")
    monkeypatch.setenv("TOKEN", "secret")
    (tmp_path / "rootfs/usr/bin").mkdir(parents=True)
    (tmp_path / "rootfs/usr/bin/python3.11").touch()
    line, environment = Emulator(tmp_path).command("cortex-a53", ["-c", "pass"])
    root = tmp_path / "rootfs"
    assert line == [
        str(tmp_path / "qemu-aarch64"),
        "-L",
        str(root),
        str(root / "usr/bin/python3.11"),
        "-S",
        "-c",
        "pass",
    ]
    assert environment["QEMU_CPU"] == "cortex-a53"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert "TOKEN" not in environment
    package, site = environment["PYTHONPATH"].split(":")
    assert site == str(tmp_path / "site")
    assert left(Path(package)) == ["gsvexport"], "this machine's numpy must not lie beside it"
    assert (Path(package) / "gsvexport").resolve() == ROOT / "gsvexport"


def test_an_absent_emulator_says_what_to_type(tmp_path, tools):
    tools()
    with pytest.raises(EnvironmentProblem, match=r"not set up(.|\n)*make emulator"):
        find(tmp_path)


def test_other_systems_are_told_what_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "_release", lambda: ELSEWHERE)
    for attempt in (find, setup):
        with pytest.raises(EnvironmentProblem, match=r"Fedora Linux 43(.|\n)*Debian, Ubuntu"):
            attempt(tmp_path)


def test_a_failed_download_is_shown_and_leaves_nothing(tmp_path, tools):
    tools(apt_get="echo E: no such host >&2; exit 100")
    with pytest.raises(EnvironmentProblem, match=r"where packages come from failed(.|\n)*no such host(.|\n)*code 100"):
        setup(tmp_path / "cache")
    assert left(tmp_path / "cache") == []


def test_setup_ends_when_its_time_is_up(tmp_path, tools):
    tools(apt_get="exec sleep 60")
    start = time.monotonic()
    with pytest.raises(EnvironmentProblem, match="did not end in time"):
        setup(tmp_path / "cache", seconds=0.5)
    assert time.monotonic() - start < 20
    assert left(tmp_path / "cache") == []


def test_an_old_release_takes_qemu_from_its_backports():
    listed = "bookworm-security https://one.example/\nbookworm https://two.example/debian/\n"
    assert install._backports(listed, "bookworm") == "deb https://two.example/debian/ bookworm-backports main\n"
    with pytest.raises(EnvironmentProblem, match="no package source of bookworm"):
        install._backports("trixie https://two.example/debian/\n", "bookworm")


def test_another_lock_list_is_another_emulator(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "_release", lambda: DEBIAN)
    before = install._place(tmp_path)
    assert install._place(tmp_path) == before
    monkeypatch.setattr(install, "_wheels", lambda: ["onnxruntime==1.0"])
    assert install._place(tmp_path) != before


def test_messages_come_back_as_they_were_sent():
    pipe = io.BytesIO()
    arrays = {"a": np.arange(6).reshape(2, 3).T, "b": np.float32(0.5), "c": np.empty((1, 0), np.uint8)}
    wire.write(pipe, {"method": "run", "n": 3}, arrays)
    sent = pipe.getvalue()
    found = wire.read(io.BytesIO(sent))
    assert found is not None
    assert found.values == {"method": "run", "n": 3}
    for name, array in arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    for length in (0, 5, len(sent) - 1):
        assert wire.read(io.BytesIO(sent[:length])) is None
    with pytest.raises(TypeError, match="numbers"):
        wire.write(pipe, {}, {"a": np.array([object()])})


def test_an_error_in_the_guest_is_one_here_and_the_guest_lives_on(tmp_path):
    with Guest(NativeDouble(tmp_path), "max") as guest:
        with pytest.raises(BackendError, match=r"emulated max(.|\n)*nothing\.onnx"):
            guest.open_session("onnxruntime", tmp_path, "nothing.onnx")
        assert guest.machine()["numpy"] == np.__version__
    with pytest.raises(BackendError, match="closed"):
        guest.machine()


def test_a_guest_that_dies_says_how(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvexport.emulate.guest._CHILD", "import os; os.write(2, b'last words'); os.abort()")
    with Guest(NativeDouble(tmp_path), "max") as guest:
        with pytest.raises(BackendError, match=r"signal SIGABRT(.|\n)*last words"):
            guest.machine()
        with pytest.raises(BackendError, match="signal SIGABRT"):
            guest.machine()
        assert not guest.timed_out


def test_a_guest_that_does_not_answer_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvexport.emulate.guest._CHILD", "import time; time.sleep(60)")
    with Guest(NativeDouble(tmp_path), "max", timeout=0.2) as guest:
        with pytest.raises(EnvironmentProblem, match=r"no answer within 0\.2 s"):
            guest.machine()
        assert guest.timed_out
        assert guest._process.returncode == -signal.SIGKILL


def test_a_missing_emulator_is_not_run_and_never_a_pass(artifact, tmp_path, tools):
    tools()
    report = verify_emulated(artifact, emulator=lambda: find(tmp_path))
    assert {check.status for check in report.checks} == {"not_run"}
    assert not report.passed
    assert report.emulated is None
    assert "cortex-a72 was not emulated: the aarch64 emulator is not set up" in report.checks[0].reason


def test_the_command_line_says_so_too(artifact, tmp_path):
    done = gsvexport(tmp_path / "cache", "verify", artifact, "--emulate", "-q")
    assert done.returncode == 7
    assert "NOT RUN" in done.stdout
    assert "cortex-a72 was not emulated" in done.stdout


def test_too_slow_an_answer_is_not_run(artifact, tmp_path):
    class Slow(NativeDouble):
        def command(self, core, arguments):
            # Starts as it should, and hangs in the first graph.
            hang = "import time; from gsvexport.emulate import child; child.Server._open = lambda *_: time.sleep(60); "
            return [sys.executable, "-c", hang + "child.main()"], super().command(core, [])[1]

    report = verify_emulated(artifact, emulator=lambda: Slow(tmp_path), timeout=3)
    assert {check.status for check in report.checks} == {"not_run"}
    assert "no answer within 3 s" in report.checks[0].reason


def test_a_core_that_is_not_there_is_refused_or_not_run(artifact, tmp_path):
    with pytest.raises(InputError, match="did you mean 'cortex-a72'"):
        verify_emulated(artifact, "cortex-a27", emulator=lambda: NativeDouble(tmp_path))

    class Old(NativeDouble):
        def cores(self):
            return ("max",)

    report = verify_emulated(artifact, emulator=lambda: Old(tmp_path))
    assert {check.status for check in report.checks} == {"not_run"}
    assert "plays no cortex-a72" in report.checks[0].reason


def test_which_core_a_target_names():
    assert (
        target_core({"emulator": "qemu-aarch64", "device": {"arch": "aarch64", "core": "cortex-a53"}}) == "cortex-a53"
    )
    assert target_core({"emulator": None, "device": {"arch": "aarch64", "core": None}}) == "max"
    with pytest.raises(InputError, match="--emulate cortex-a76"):
        target_core({"name": "pc", "emulator": None, "device": {"arch": "x86-64", "core": None}})


def test_the_whole_verification_goes_through_the_guest(artifact, tmp_path):
    report = verify_emulated(artifact, emulator=lambda: NativeDouble(tmp_path))
    assert report.passed
    assert report.emulated == "cortex-a72"
    stored = json.loads(json.dumps(report.to_json()))
    assert stored["emulated"] == "cortex-a72"
    assert Report.from_json(stored).emulated == "cortex-a72"
    measured = {(check.stage, check.metric) for check in report.checks if check.against.endswith(" kernels")}
    assert {("step", "top1"), ("step", "max_error"), ("vocoder", "snr_db"), ("pipeline", "snr_db")} <= measured
    assert all(check.limit is None or check.metric == "valid" for check in report.checks if "kernels" in check.against)


def test_a_wrong_kernel_fails(artifact, tmp_path):
    class Wrong(NativeDouble):
        def command(self, core, arguments):
            broken = (
                "from gsvexport.emulate import child; run = child.Server._run; "
                "child.Server._run = lambda *a: ({}, {k: v + 0.01 for k, v in run(*a)[1].items()}); child.main()"
            )
            return [sys.executable, "-c", broken], super().command(core, [])[1]

    report = verify_emulated(artifact, emulator=lambda: Wrong(tmp_path))
    assert {"acoustic", "vocoder"} <= {check.stage for check in report.failures}


def test_a_session_in_the_guest_gives_what_one_here_gives(artifact, tmp_path):
    from gsvexport.artifact.container import unpacked

    folder = unpacked(artifact)
    random = np.random.default_rng(0)
    feeds = {
        "phones": random.integers(0, 300, (1, 5)),
        "bert": np.zeros((1, 1024, 5), np.float32),
        "prompt": random.integers(0, 900, (1, 3)),
    }
    with Guest(NativeDouble(tmp_path), "max") as guest:
        found = guest.open_session("onnxruntime", folder, "prefill.onnx").run(feeds)
    expected = open_session("onnxruntime", folder, "prefill.onnx", threads=1).run(feeds)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
