"""The comparison with onnx2tf: both sides are measured alike, and a converter that fails is said to. onnx2tf is played
by a script: the real one needs an environment of its own."""

import sys

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx_ir")

from gsvexport.crosscheck.onnx2tf import Subject, _laid_out, markdown, ours, theirs
from gsvexport.errors import BackendError


@pytest.fixture(scope="module")
def vocoder(tmp_path_factory):
    from gsvexport.backends.onnxruntime.session import open_session
    from gsvexport.compiler.source import write_source
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    folder = tmp_path_factory.mktemp("crosscheck")
    source = write_source(read_voice(write_voice(folder / "voice")), folder / "source")
    dims = source.model.dims
    random = np.random.default_rng(0)
    feeds = [
        {
            "latent": random.normal(size=(1, dims.I, 32)).astype(np.float32),
            "ge": random.normal(size=(1, dims.G, 1)).astype(np.float32),
        }
        for _ in range(3)
    ]
    graph = source.path / source.model.files["vocoder"]
    session = open_session(graph)
    return Subject(graph, feeds[1:], feeds[0], session.run(feeds[0])["audio"])


def onnx2tf(folder, script):
    """An interpreter beside which an `onnx2tf` lies that runs `script` with `out`, its output folder."""
    place = folder / "bin"
    place.mkdir()
    program = place / "onnx2tf"
    arguments = "import sys, pathlib; out = pathlib.Path(sys.argv[sys.argv.index('-o') + 1])"
    program.write_text(f"#!{sys.executable}\n{arguments}\n{script}\n")
    program.chmod(0o755)
    return place / "python"


def test_our_own_conversion_is_measured(vocoder, tmp_path):
    found = ours(vocoder, tmp_path)
    assert found.failed == ()
    assert found.float_error < 1e-5
    assert (found.integers, found.mapped, found.mapped_macs) == (1, 1, 1)
    assert found.moves < found.operators / 4


def test_a_converter_is_measured_like_ours_whatever_it_wrote(vocoder, tmp_path):
    mine = ours(vocoder, tmp_path)
    copy = f"""import shutil
out.mkdir()
shutil.copy({str(tmp_path / "ours.tflite")!r}, out / "vocoder_float32.tflite")
shutil.copy({str(tmp_path / "ours-int8.tflite")!r}, out / "vocoder_full_integer_quant.tflite")"""
    found = theirs(vocoder, onnx2tf(tmp_path, copy), tmp_path, prepared=True, seconds=60)
    for name in ("float_error", "operators", "moves", "snr_db", "integers", "mapped", "mapped_macs", "failed"):
        assert getattr(found, name) == getattr(mine, name), name


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise KeyError('layer')", "it ended with 1: KeyError: 'layer'"),
        ("import time; time.sleep(60)", "not finished after 1 s"),
        ("pass", "it wrote none"),
        ("out.mkdir(); (out / 'vocoder_float32.tflite').write_bytes(b'x' * 99)", "the float file cannot be used"),
    ],
)
def test_a_converter_that_fails_has_no_figures_and_a_reason(vocoder, tmp_path, script, words):
    seconds = 1 if "sleep" in script else 60
    found = theirs(vocoder, onnx2tf(tmp_path, script), tmp_path, prepared=False, seconds=seconds)
    assert found.float_error is None
    page = markdown([found])
    assert "| none |" in page
    assert words in page


def test_inputs_are_laid_out_as_a_model_wants_them():
    latent, ge = np.arange(6.0).reshape(1, 2, 3), np.zeros((1, 4, 1))
    feeds = {"latent": latent, "ge": ge}
    assert _laid_out(feeds, (1, 1, 3, 2))[0, 0, 1, 1] == latent[0, 1, 1]
    assert _laid_out(feeds, (1, 2, 1, 3)).shape == (1, 2, 1, 3)
    assert _laid_out(feeds, (1, 1, 4)).shape == (1, 1, 4)
    with pytest.raises(BackendError):
        _laid_out(feeds, (1, 9, 9))
