import subprocess
import sys
import time

import pytest

import gsvexport

HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "tensorflow", "tensorrt", "safetensors", "soundfile", "filelock"}


def fresh(code):
    """Run `code` in a new interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy_and_not_even_numpy():
    loaded = fresh("import sys, gsvexport; gsvexport.__version__; print(*sys.modules)")
    assert not (HEAVY | {"numpy"}) & set(loaded)


def test_the_device_side_loads_numpy_and_nothing_of_the_compile_side():
    loaded = fresh(
        "import sys, gsvexport; gsvexport.load, gsvexport.Audio, gsvexport.Sampling;"
        "import gsvexport.backends.onnxruntime.session; print(*sys.modules)"
    )
    assert "numpy" in loaded
    assert not HEAVY & set(loaded)
    allowed = {
        "errors",
        "system",
        "external",
        "files",
        "untrusted",
        "target",
        "stages",
        "model",
        "text",
        "backends",
        "runtime",
        "artifact",
    }
    ours = {name.split(".")[1] for name in loaded if name.startswith("gsvexport.")}
    assert ours <= allowed


def test_onnx_runtime_reports_nothing_and_leaves_no_identifier(tmp_path, monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    fresh("import gsvexport, onnxruntime; onnxruntime.SessionOptions()")
    assert not list(tmp_path.rglob("*"))


def test_importing_the_package_takes_a_fraction_of_a_second():
    fastest = min(_seconds("import gsvexport") - _seconds("pass") for _ in range(3))
    assert fastest < 0.5


def _seconds(code):
    start = time.perf_counter()
    fresh(code)
    return time.perf_counter() - start


def test_the_public_names_are_the_documented_ones():
    assert set(gsvexport.__all__) == {"Audio", "Sampling", "__version__", "build", "load"}
    assert set(gsvexport.__all__) <= set(dir(gsvexport))
    assert gsvexport.Sampling is gsvexport.Sampling
    assert isinstance(gsvexport.__version__, str)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="synthesise"):
        gsvexport.synthesise  # noqa: B018
