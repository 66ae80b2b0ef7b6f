"""A device that has TensorRT for RTX and no TensorRT, played by the double: it finishes an artifact all the same."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gsvexport.backends.tensorrt import finalize, plans, session
from gsvexport.errors import ArtifactError, BackendError
from gsvexport.files import canonical_json
from gsvexport.runtime import pipeline

CARD = {"module": "tensorrt_rtx", "version": "1.7.1.116", "gpu": "NVIDIA GeForce RTX 4090", "capability": [8, 9]}
CARD |= {"total_mb": 24000, "free_mb": 20000, "cuda": 12090, "driver": 13000}


def quiet(text):
    pass


@pytest.fixture(scope="module")
def card(unpacked, tmp_path_factory):
    """The artifact as if it was made for an RTX 4090."""
    folder = Path(shutil.copytree(unpacked, tmp_path_factory.mktemp("card") / "artifact"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["target"]["device"]["gpu"] = {"compute_capability": "8.9", "memory_mb": 24576, "bandwidth_gbs": 1008}
    (folder / "manifest.json").write_text(canonical_json(manifest))
    return folder


def test_engines_are_built_for_the_gpu_proven_and_opened(card, device):
    double = device(**CARD)
    report = finalize.finalize(card, quiet)
    assert report["passed"], report["checks"]
    assert [one["graph"] for one in double.log()] == ["acoustic.onnx", "t2s.kv.onnx", "vocoder.onnx"]
    for one in double.log():
        assert one["capabilities"] == [89]  # named, as its builders do not look at the GPU
        assert one["flags"] == 1
        assert one["timing"] == "none"
    assert report["device"]["tensorrt"] == "1.7.1.116"
    assert report["device"]["module"] == "tensorrt_rtx"
    assert session.finished(card)
    with pipeline.load(card, any_machine=True) as voice:
        assert voice.tokens([1, 2, 3], max_tokens=5).size
        assert voice._session("step")._engine.aliases


def test_what_was_compiled_for_the_gpu_is_kept_and_a_corrupted_one_is_not_used(card, device):
    device(**CARD)
    finalize.finalize(card, quiet)
    kept = sorted(plans.plan_folder().glob("*.kernels"))
    assert len(kept) == 3

    def known():
        with pipeline.load(card, any_machine=True) as voice:
            voice.run("vocoder", {"latent": np.zeros((1, voice.model.dims.I, 4), np.float32), "ge": voice.baked["ge"]})
            return voice._session("vocoder")._engine._config.cache.known

    assert known()
    next(path for path in kept if path.name.startswith("vocoder")).write_bytes(b"half of it")
    assert not known()  # and it speaks
    finalize.finalize(card, quiet)
    assert known()


def test_tensorrt_is_taken_where_both_are_there(card, device, monkeypatch):
    import sys

    double = device(version="10.13.0", gpu=CARD["gpu"], capability=[8, 9], total_mb=24000)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", object())
    assert finalize.import_tensorrt() is sys.modules["tensorrt"]
    assert finalize.import_tensorrt().__version__ == "10.13.0"
    assert double.log() == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"version": "1.5.0"}, "tensorrt_rtx is 1.5.0"),
        ({"capability": [9, 0], "gpu": "NVIDIA H100"}, "TensorRT for RTX knows 7.5, 8.0, 8.6, 8.9, 12.0, not 9.0"),
        ({"capability": [8, 6], "gpu": "NVIDIA GeForce RTX 3060"}, "compute capability 8.6; jetson-orin is 8.9"),
    ],
)
def test_what_it_cannot_do_is_refused_before_anything_is_built(card, device, words, text):
    double = device(**{**CARD, **words})
    with pytest.raises(ArtifactError) as error:
        finalize.finalize(card, quiet)
    assert any(text in problem for problem in error.value.problems)
    assert double.log() == []


def test_engines_of_another_release_or_card_are_not_opened(card, device):
    double = device(**CARD)
    finalize.finalize(card, quiet)
    other = {"module": "tensorrt", "version": "10.16"}
    for change in ({"version": "1.8.0"}, {"gpu": "NVIDIA GeForce RTX 4080"}, other):
        double = device(**{**CARD, **change})
        assert not session.finished(card)
        with pipeline.load(card, any_machine=True) as voice, pytest.raises(BackendError, match="no TensorRT engine"):
            voice.tokens([1, 2, 3])
    assert double.log() == []
