"""`gsvexport doctor`: what is there, what is not, and the command for it; on machines that lack all sorts of things."""

import functools
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from building import ROOT

from gsvexport import backends, cli
from gsvexport.artifact.tools import INSTALL
from gsvexport.backends.tflite.table import table
from gsvexport.compiler import doctor
from gsvexport.errors import TargetError
from gsvexport.target.detect import GpuSeen, Probe
from gsvexport.target.target import target_names
from gsvexport.verify.recogniser import PACKAGE, VARIABLE

FEW = ["a100", "coral-dev-board", "h100", "jetson-orin", "raspberry-pi-5", "x86-64", "x86-64-int8", "x86-64-vnni"]
HERE = Probe("x86-64", "linux", ("avx2", "fma", "f16c"), memory_mb=64_000)
COMPILE = "pip install 'gsvexport[compile]'"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with everything but what is taken away: `machine("onnx")` lacks onnx, seen=… is another device."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    real = importlib.metadata.version

    def make(*absent, seen=HERE, versions=None, emulator=True, more=(), names=FEW):
        def version(name):
            if name in absent:
                raise importlib.metadata.PackageNotFoundError(name)
            if name in (versions or {}):
                return versions[name]
            return "10.3" if name in more else real(name)

        def find():
            if not emulator:
                from gsvexport.errors import EnvironmentProblem

                raise EnvironmentProblem("the aarch64 emulator is not set up", fix="fetch it")

        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(doctor, "probe", lambda root: seen)
        monkeypatch.setattr(doctor, "target_names", lambda: names)
        monkeypatch.setattr("gsvexport.emulate.install.find", find)
        return functools.partial(doctor.examine, emulator=find)

    return make


def of(found, name):
    return next(one for one in found.targets if one.target == name)


def parts(listed):
    return {part.name: part for part in listed}


def test_every_target_and_every_extra_is_told_of(machine):
    found = machine(names=target_names())()
    assert [one.target for one in found.targets] == target_names()
    without = {one.target for one in found.targets if one.build.status != "yes"}
    assert without <= {"rk3566-npu", "rk3576-npu", "rk3588-npu"}  # their compiler has an environment of its own
    assert all("make rknn-env" in of(found, name).build.fix for name in without)
    extras = importlib.metadata.metadata("gsvexport").get_all("Provides-Extra")
    assert [part.name for part in found.extras] == ["gsvexport", *extras]
    assert any(text.startswith("numpy ") for text in parts(found.extras)["gsvexport"].there)
    assert parts(found.extras)["compile"].missing == ()
    assert json.loads(json.dumps(found.to_json()))["machine"]["arch"] == "x86-64"


def test_how_an_artifact_is_run_and_finished_is_told_in_a_word(machine):
    found = machine()()
    assert of(found, "x86-64-int8").verify.brief == "natively"
    assert of(found, "raspberry-pi-5").verify.brief == "other kernels"
    assert of(found, "raspberry-pi-5").emulate == doctor.Step("yes", "qemu-aarch64, cortex-a76")
    assert of(found, "x86-64-int8").emulate.status == of(found, "x86-64-int8").finish.status == "not needed"
    orin = of(found, "jetson-orin")
    assert orin.verify.brief == "emulated by us"
    assert (orin.finish.status, orin.finish.brief) == ("no", "on the device")


def test_the_processors_features_count(machine):
    found = machine(seen=Probe("x86-64", "linux", ("avx2",)))()
    assert of(found, "x86-64-vnni").verify.brief == "other kernels"
    assert "vnni" in of(found, "x86-64-vnni").verify.how
    found = machine(seen=Probe("aarch64", "linux", ("neon", "dotprod", "fp16")))()
    assert of(found, "raspberry-pi-5").verify.brief == "natively"
    assert of(found, "x86-64").verify.brief == "other kernels"


@pytest.mark.parametrize("package", ["onnx", "onnx-ir", "safetensors", "flatbuffers", "soundfile"])
def test_without_a_package_of_the_compiler_nothing_is_built(machine, package):
    found = machine(package)()
    assert {one.build.status for one in found.targets} == {"no"}
    assert all(package in one.build.how and one.build.fix == COMPILE for one in found.targets)
    assert parts(found.extras)["compile"].missing == (package,)
    assert of(found, "x86-64").verify.status == "yes"  # it runs what others built


@pytest.mark.parametrize(
    ("absent", "target", "step", "told", "fix"),
    [
        (("onnxruntime",), "x86-64", "verify", "onnxruntime", "pip install onnxruntime"),
        (("onnxruntime",), "jetson-orin", "verify", "onnxruntime", COMPILE),
        (
            ("ai-edge-litert", "tflite-runtime"),
            "coral-dev-board",
            "verify",
            "ai-edge-litert or tflite-runtime",
            "tflite",
        ),
        (("ai-edge-litert",), "coral-dev-board", "build", "ai-edge-litert", COMPILE),
        (("tensorrt-rtx-cu12",), "jetson-orin", "verify", "is not asked: tensorrt-rtx-cu12", "nvidia-check"),
        ((), "coral-dev-board", "finish", "edgetpu_compiler", "edgetpu-compiler"),
    ],
)
def test_what_is_missing_comes_with_its_command(machine, absent, target, step, told, fix):
    found = getattr(of(machine(*absent)(), target), step)
    assert told in found.how
    assert fix in found.fix
    assert found.status == ("yes" if "rtx" in told else "no")


def test_another_runtime_of_the_same_kind_does_as_well(machine):
    assert of(machine("ai-edge-litert", more=("tflite-runtime",))(), "coral-dev-board").verify.status == "yes"


def test_the_emulator_is_looked_for(machine):
    found = of(machine(emulator=False)(), "raspberry-pi-5").emulate
    assert found == doctor.Step("no", "the aarch64 emulator is not set up", "fetch it")


def test_the_devices_compiler_is_looked_for_on_the_path(machine, tmp_path):
    name = table().compiler.name
    assert backends.declared("tflite").needs["completion"].programs == (name,)  # told once, and read by both
    examine = machine()
    (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / name).chmod(0o755)
    found = of(examine(), "coral-dev-board").finish
    assert (found.status, found.how) == ("yes", "gsvexport finalize ARTIFACT")


def test_on_a_gpu_engines_can_be_finished(machine):
    seen = Probe("x86-64", "linux", HERE.features, memory_mb=512_000, gpus=(GpuSeen("NVIDIA H100", "9.0", 81_000),))
    found = machine(seen=seen, more=("tensorrt",))()
    assert of(found, "h100").finish.status == "yes"
    assert of(found, "a100").finish.brief == "on the device"
    lacking = machine("tensorrt", "tensorrt-cu12", "tensorrt-rtx-cu12", seen=seen)()
    assert of(lacking, "h100").finish.status == "no"
    assert "tensorrt" in of(lacking, "h100").finish.fix


def test_a_version_that_is_too_old_is_not_enough(machine):
    found = parts(machine(versions={"onnx": "1.2", "numpy": "1.0"})().extras)
    assert found["compile"].missing == ("onnx<2,>=1.19 (1.2 is installed)",)
    assert found["gsvexport"].missing == ("numpy<3,>=1.26 (1.0 is installed)",)
    assert found["gsvexport"].fix == "pip install gsvexport"


@pytest.mark.parametrize("package", sorted(INSTALL))
def test_each_metric_names_its_package(machine, package):
    lacking = [part for part in machine(package)().metrics if part.missing]
    assert [(part.missing, part.fix) for part in lacking] == [((package,), INSTALL[package])]


def test_another_recogniser_takes_the_place_of_the_package(machine, monkeypatch, tmp_path):
    assert doctor.RECOGNISER == VARIABLE
    examine = machine(PACKAGE)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert parts(examine().metrics)["words"].missing == ()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    assert parts(examine().metrics)["words"].missing == (f"{VARIABLE}={tmp_path}/gone",)


@pytest.mark.parametrize(("language", "module"), [("ja", "pyopenjtalk"), ("ko", "mecab"), ("yue", "ToJyutping")])
def test_each_language_names_its_extra(machine, monkeypatch, language, module):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else real(name))
    lacking = [part for part in machine()().languages if part.missing]
    assert [(part.name, part.missing, part.fix) for part in lacking] == [
        (language, (module,), f"pip install 'gsvexport[{language}]'")
    ]
    assert language in importlib.metadata.metadata("gsvexport").get_all("Provides-Extra")


def test_a_copy_that_was_not_installed_says_so(machine, monkeypatch):
    def metadata(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", metadata)
    (only,) = machine()().extras
    assert "extras are unknown" in only.missing[0]
    assert of(machine()(), "x86-64").build.status == "yes"


def test_a_device_without_packaging_is_told_what_it_lacks(machine, monkeypatch):
    examine = machine("packaging", "onnx")
    for name in ("packaging", "packaging.requirements", "packaging.specifiers"):
        monkeypatch.setitem(sys.modules, name, None)
    found = parts(examine().extras)
    assert found["compile"].missing == ("onnx", "packaging")
    assert "numpy" in " ".join(found["gsvexport"].there)


def test_a_target_of_ones_own_is_checked_as_a_build_does(machine, tmp_path):
    (tmp_path / "odd.toml").write_text(
        'extends = "x86-64"\n[placement]\ndefault = {backend = "nothing", precision = "fp32"}\n'
    )
    (found,) = machine()([str(tmp_path / "odd.toml")]).targets
    assert found.build == doctor.Step("no", "no backend nothing in this release")
    assert (found.verify.status, found.finish.status) == ("no", "no")
    (tmp_path / "odd.toml").write_text('extends = "x86-64"\nportability = "build_on_device"\n')
    (found,) = machine()([str(tmp_path / "odd.toml")]).targets
    assert found.build.status == "no"
    assert "portability is build_on_device" in found.build.how
    with pytest.raises(TargetError, match="no target 'jetson-orion'"):
        machine()(["jetson-orion"])


def test_every_backend_says_what_its_offers_need():
    for name in backends.names():
        one = backends.declared(name)
        for offer, needs in one.needs.items():
            assert getattr(one, offer) is not None
            assert needs.packages or needs.programs
            assert needs.fix
        assert "session" in one.needs
        assert one.lowering is None or "lowering" in one.needs


def run(capsys, *arguments):
    code = cli.run(["doctor", *arguments])
    return code, *capsys.readouterr()


def test_its_exit_code_answers_for_a_target_that_was_asked_for(machine, capsys):
    machine("onnx")
    assert run(capsys)[0] == 0
    code, out, err = run(capsys, "--target", "jetson-orin")
    assert (code, err) == (7, "")
    assert "build    no: missing: onnx" in out
    assert f"fix: {COMPILE}" in out
    assert json.loads(run(capsys, "--target", "jetson-orin", "--json")[1])["targets"][0]["build"]["status"] == "no"
    machine()
    assert run(capsys, "--target", "jetson-orin", "-t", "x86-64")[0] == 0
    assert run(capsys, "--target", "nowhere")[0] == 4


def test_its_page_names_every_command_that_helps(machine, capsys, monkeypatch):
    machine("onnx", "pesq", "tensorrt-rtx-cu12", emulator=False)
    monkeypatch.setenv("COLUMNS", "100")
    code, out, _ = run(capsys)
    assert code == 0
    for words in (
        COMPILE,
        INSTALL["pesq"].partition(" (")[0],
        "gsvexport[nvidia-check]",
        "fetch it",
        "edgetpu-compiler",
    ):
        assert words in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 100


def test_it_imports_nothing_heavy():
    code = (
        "import sys; from gsvexport import cli; cli.run(['doctor']); cli.run(['doctor', '--json']);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=os.environ
    )
    heavy = {
        "numpy",
        "onnx",
        "onnx_ir",
        "onnxruntime",
        "torch",
        "tensorrt",
        "tensorrt_rtx",
        "soundfile",
        "mecab",
        "pesq",
    }
    assert not heavy & set(done.stderr.splitlines()[-1].split())


def test_a_simulator_is_not_called_the_runtime(machine, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda program: program)
    found = of(machine(names=["rk3588-npu"])(), "rk3588-npu")
    assert found.verify.brief == "vendor's simulator"
    assert "the graph that the file was made of" in found.verify.how
    monkeypatch.setattr(doctor.shutil, "which", lambda program: None)
    found = of(machine(names=["rk3588-npu"])(), "rk3588-npu")
    assert found.build.status == found.verify.status == doctor.NO
    assert "make rknn-env" in found.verify.fix
