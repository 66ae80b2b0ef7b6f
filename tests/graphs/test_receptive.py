"""How far a vocoder looks, as read off its operators, against what really changes when one frame does."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from gsvexport.compiler.source import write_source
from gsvexport.errors import PassError
from gsvexport.graphs.receptive import context
from gsvexport.runtime import pipeline
from gsvexport.runtime.windows import windows
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

FRAMES, MIDDLE = 61, 30


@pytest.fixture(scope="module", params=["v2", "v2Pro"])
def source(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("receptive")
    write_voice(folder / "voice", request.param, seed=2)
    return write_source(read_voice(folder / "voice"), folder / "source")


def test_exactly_the_frames_within_reach_change_a_frame(source):
    left, right = source.model.vocoder_context
    assert left > 0
    assert right > 0
    session = onnxruntime.InferenceSession(source.path / source.model.files["vocoder"])
    random, dims, hop = np.random.default_rng(1), source.model.dims, source.model.hop
    latent = random.standard_normal((1, dims.I, FRAMES), dtype=np.float32)
    feeds = {"ge": random.standard_normal((1, dims.G, 1), dtype=np.float32)}
    before = session.run(None, {**feeds, "latent": latent})[0][0]
    reaching = []
    for frame in range(FRAMES):
        changed = latent.copy()
        changed[0, :, frame] += 1e3 * random.standard_normal(dims.I, dtype=np.float32)
        after = session.run(None, {**feeds, "latent": changed})[0][0]
        own = slice(MIDDLE * hop, (MIDDLE + 1) * hop)
        if not np.array_equal(before[own], after[own]):
            reaching.append(frame)
    assert (reaching[0], reaching[-1]) == (MIDDLE - left, MIDDLE + right)


def test_pieces_are_the_whole_sentence(source):
    with pipeline.load(source.path) as voice:
        manner = {"seed": 4, "max_tokens": 40}
        phones = np.arange(1, 30)
        one = voice.synthesize(phones=phones, **manner)
        for window in (0.06, 0.4, 30.0):
            found = list(voice.stream(phones=phones, window=window, ahead=None, **manner))
            samples = np.concatenate([piece.samples for piece in found])
            assert samples.shape == one.samples.shape
            noise = np.sum(np.square(samples - one.samples, dtype=np.float64))
            assert 10 * np.log10(np.sum(np.square(one.samples, dtype=np.float64)) / max(noise, 1e-30)) > 100
        assert len(found) == 1


def test_windows_stop_where_the_sequence_does():
    found = list(windows(10, 4, 3, 2))
    assert [(one.start, one.stop) for one in found] == [(0, 6), (1, 10), (5, 10)]
    assert [(one.first, one.last) for one in found] == [(0, 4), (4, 8), (8, 10)]


def test_an_operator_of_unknown_reach_is_named():
    node = ir.node("ReduceMean", [ir.Value(name="latent")], name="mean")
    node.outputs[0].name = "audio"
    model = ir.Model(ir.Graph([node.inputs[0]], list(node.outputs), nodes=[node]), ir_version=8)
    with pytest.raises(PassError, match="mean: how far ReduceMean looks"):
        context(model, "latent", "audio", 1)
