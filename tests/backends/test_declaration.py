"""Backends are what they declare; a new one is a folder, and nothing else is touched."""

import textwrap
from pathlib import Path

import pytest

import gsvexport.backends
from gsvexport import backends
from gsvexport.artifact import container
from gsvexport.backends.declaration import Backend
from gsvexport.compiler.build import build
from gsvexport.errors import BackendError
from gsvexport.report.render import opener_of
from gsvexport.runtime.pipeline import load
from gsvexport.synthetic import write_voice

# What callers use of each offer, beside what its protocol's own methods are.
_OFFERS = {
    "lowering": ("lower",),
    "reasons": ("why", "weight_bytes", "head_bytes"),
    "scratch": ("scratch_bytes",),
    "verdicts": ("verdicts",),
    "programs": ("programs",),
    "compiler": ("name", "judge"),
    "ahead": ("TOOLS", "PARAMS", "missing", "problems", "lines", "build"),
    "emulation": ("MODES", "REMAINS", "opener"),
    "carriage": ("carried", "reads", "ports"),
    "audit": ("audit", "described"),
}
_TOY = {
    "__init__.py": """
        from gsvexport.backends.declaration import Backend

        BACKEND = Backend(
            title="a toy", session="plays", lowering="makes", reasons="says", carriage="says",
            precisions={role: ("fp32",) for role in ("conditioning", "ar", "acoustic", "vocoder")},
        )
    """,
    "makes.py": """
        import shutil

        from gsvexport.backends.lowered import Lowered

        def lower(source, model, placement, out, *, device, calibration=None):
            for stage in placement:
                shutil.copyfile(source / model.files[stage], out / model.files[stage])
            for weights in source.glob("*.safetensors"):
                shutil.copyfile(weights, out / weights.name)
            return Lowered({stage: ("a copy",) for stage in placement}, {}, ())
    """,
    "plays.py": """
        from gsvexport.backends.onnxruntime.session import open_session
    """,
    "says.py": """
        def why(role, precision, features):
            return "it is the only one"

        def weight_bytes(precision):
            return 4.0

        def head_bytes(precision):
            return 4.0

        def carried():
            return {}

        def reads(folder):
            return {path.name for path in folder.glob("*.safetensors")}

        def ports(folder, graph):
            return {}
    """,
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere" / "toy"
    folder.mkdir(parents=True)
    for name, text in _TOY.items():
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.setattr(gsvexport.backends, "__path__", [*gsvexport.backends.__path__, str(folder.parent)])
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    return folder


def test_every_folder_declares_itself_and_offers_what_it_says(monkeypatch):
    monkeypatch.setattr(
        "gsvexport.backends.web.runtime.missing", lambda: "node is not installed"
    )  # all has to stand in
    assert {"onnxruntime", "tensorrt", "tflite"} <= set(backends.names())
    for name in backends.names():
        declared = backends.declared(name)
        assert isinstance(declared, Backend)
        assert declared.title
        assert callable(backends.sessions(name).open_session)
        for offer, parts in _OFFERS.items():
            found = getattr(backends, offer)(name)
            assert (found is not None) == (getattr(declared, offer) is not None)
            assert found is None or all(hasattr(found, part) for part in parts), f"{name}: {offer}"
        if declared.finalisation:
            assert all(hasattr(backends.finalisation([name]), part) for part in ("finalize", "reject", "summary"))
            assert callable(backends.sessions(name).finished)
        if declared.completion:
            assert all(hasattr(backends.completion([name]), part) for part in ("complete", "summary", "how_to_send"))
        assert set(declared.needs) <= {"session", *_OFFERS, "finalisation", "completion"}


def test_nobody_asks_which_files_a_backend_has():
    package = Path(gsvexport.__file__).parent
    readers = [path for path in package.rglob("*.py") if "backends" not in path.relative_to(package).parts]
    for path in readers:
        text = path.read_text(encoding="utf-8")
        assert "gsvexport.backends.{" not in text, path  # no import by a name put together
        assert 'hasattr(module, "' not in text, path


def test_a_new_backend_is_a_folder_and_a_target(toy, tmp_path):
    target = tmp_path / "pocket.toml"
    target.write_text(
        'title = "A pocket toy"\nportability = "portable"\n[device]\narch = "x86-64"\nfeatures = []\nos = "linux"\n'
        '[placement]\ndefault = { backend = "toy", precision = "fp32" }\n',
        encoding="utf-8",
    )
    assert "toy" in backends.names()
    [path] = build(write_voice(tmp_path / "voice"), targets=[str(target)], out=tmp_path / "out")
    manifest = container.read_manifest(path)
    assert {entry.backend for entry in manifest.stages.values()} == {"toy"}
    with load(path, any_machine=True) as voice:
        assert voice.synthesize(phones=[5, 6, 7, 8], seed=1).samples.size


def test_a_name_that_is_no_backend_is_no_path(tmp_path):
    with pytest.raises(BackendError, match="no backend is called"):
        backends.open_session("../toy", tmp_path, "a.onnx")


def test_an_artifact_for_a_device_is_heard_through_what_stands_in_for_it():
    class Entry:
        backend = "tensorrt"

    class Manifest:
        stages = {"vocoder": Entry}  # noqa: RUF012

    opener, said = opener_of(Manifest)
    assert "emulation of tensorrt" in said
    assert callable(opener)
