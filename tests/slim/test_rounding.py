"""Rounding in training: what the backend's integers compute, gradients, equal channels, and going on after a kill."""

import numpy as np
import pytest
import torch

from gsvexport.backends.tflite.choose import nhwc
from gsvexport.backends.tflite.emit import emit
from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.quantise import quantise
from gsvexport.backends.tflite.segments import computed, joined, segments
from gsvexport.backends.tflite.session import Runner, interpreter
from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator
from gsvexport.graphs.builder import GraphBuilder, Weights
from gsvexport.graphs.layers import Tensors
from gsvexport.graphs.vocoder import vocoder as graph_of
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.quantise_conv import affine
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu
from gsvexport.slim import distil, integers, prune, rounding, vocoder
from gsvexport.slim.recipe import Train
from gsvexport.slim.rounding import Manner
from gsvexport.slim.sparse import masks
from gsvexport.stages import stages

FRAMES = 8


@pytest.fixture
def brief(monkeypatch):
    """Crops of a few frames; ranges that are seldom looked at and cover all, because better ones take long to find."""
    monkeypatch.setattr(rounding, "Estimator", lambda _: Estimator("minmax"))
    monkeypatch.setattr(vocoder, "FRAMES", 6)
    for name, value in {
        "_EVERY": 2,
        "_WATCHED": 1,
        "_LONGEST": FRAMES,
        "_JUDGED": 1,
        "_HEARD": FRAMES,
        "EDGE": 1,
    }.items():
        monkeypatch.setattr(integers, name, value)


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_a_float_point_changes_nothing(sovits, lesson):
    latent = lesson.train[0].latent[None, :, :FRAMES]
    made = rounding.sound(sovits.dec, latent, lesson.ge, rounding.plain, rounding.FLOAT)
    torch.testing.assert_close(made, sovits.dec(latent, lesson.ge), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_equal_channels_sound_the_same(sovits, lesson, brief):
    found = integers.equalised(sovits, lesson)
    latent = lesson.train[1].latent[None, :, :FRAMES]
    made = rounding.sound(found.dec, latent, lesson.ge, rounding.plain, rounding.FLOAT)
    torch.testing.assert_close(made, sovits.dec(latent, lesson.ge), atol=1e-5, rtol=1e-4)
    peaks = integers.watch(found.dec, lesson).peaks
    for group in prune.vocoder_groups(sovits.dims, sovits.dims):
        size = torch.stack([peak for name, peak in peaks.items() if name.partition(":")[0] == group.name]).amax(dim=0)
        torch.testing.assert_close(size, size.max().expand(len(size)), atol=0, rtol=1e-4)
    others = {name for name in prune.folded(sovits) if not name.startswith("dec.")}
    assert all(torch.equal(prune.folded(found)[name], prune.folded(sovits)[name]) for name in others)


def test_weights_have_the_steps_of_the_backend():
    from gsvexport.passes.polyphase import phases
    from gsvexport.passes.quantise_conv import channel_scales, to_int8

    torch.manual_seed(4)
    for rate, kernel in ((4, 8), (10, 16), (2, 3)):
        plain = torch.randn(5, 3, kernel)
        ours = phases(rounding.phased(plain, rate, 8).numpy(), rate, (kernel - rate) // 2)[0]
        theirs = phases(plain.numpy(), rate, (kernel - rate) // 2)[0]
        scales = channel_scales(theirs, 127)
        np.testing.assert_allclose(ours, to_int8(theirs, scales, 127) * scales[:, None, None], atol=1e-6)
    assert len(rounding.weight(plain.flatten(1), 2).unique()) <= 3 * 5


def test_what_follows_the_last_stage_stays_float(sovits, lesson):
    seen = []

    def see(name, x):
        seen.append(name)
        return x

    one = lesson.train[0].latent[None, :, :3]
    made = rounding.sound(sovits.dec, one, lesson.ge, see, Manner(2, stages=0))
    assert {name.partition(":")[0] for name in seen} == {"latent", "ge", "dec.0"}
    sovits.dec.conv_pre.weight.copy_(rounding.weight(sovits.dec.conv_pre.weight, 2))
    sovits.dec.cond.weight.copy_(rounding.weight(sovits.dec.cond.weight, 2))
    torch.testing.assert_close(made, sovits.dec(one, lesson.ge), atol=1e-6, rtol=1e-5)


def test_steps_are_those_of_torch_and_gradients_pass():
    x = torch.linspace(-2, 2, 1200).view(1, 3, 400).requires_grad_()
    y = rounding.rounded({"x": (-1.0, 1.5)})("x", x)
    assert torch.equal(y, torch.fake_quantize_per_tensor_affine(x.detach(), *affine(-1.0, 1.5), 0, 255))
    assert len(y.unique()) == 256
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_rounding_is_what_the_backend_computes(sovits, lesson, brief):
    """Each tensor of a vocoder up to its last convolution, from what LiteRT's integers gave before it. (From end to end
    single steps, where sums lie halfway, would add up.)"""
    pytest.importorskip("ai_edge_litert")
    found = integers.equalised(sovits, lesson)
    arrays = {name: value.numpy() for name, value in found.state_dict().items()}
    graph = graph_of(GraphBuilder(stages("v2")["vocoder"], Weights()), Tensors("sovits", arrays), sovits.dims)
    legal = run_passes(graph, [Conv2d(), Polyphase(), MultiplyByReciprocal(), SmallSumsFirst(), SplitLeakyRelu()]).model
    whole = emit(legal, {"I": 8, "G": 16, "F": FRAMES})
    first = joined(whole, segments(whole)[:-1])
    feeds = [{"latent": lesson.train[0].latent[None, :, :FRAMES].numpy(), "ge": lesson.ge.numpy()}]
    integer = quantise(first, observe(legal, computed(first), feeds, Estimator("minmax")))
    runner = Runner("vocoder", interpreter(dump(integer), None, keep=True))
    runner.run(nhwc(feeds[0]))
    theirs = {}
    for index, tensor in enumerate(integer.tensors):
        if tensor.data is None:
            scale, zero = tensor.quantisation.scale[0], tensor.quantisation.zero_point[0]
            theirs[tensor.name] = (runner.tensor(index).astype(np.float32) - zero) * scale, scale
    met, point = set(), rounding.rounded(integers.watch(found.dec, lesson).ranges())

    def compared(name, x):
        ours = point(name, x)[0].T.numpy()
        alike = {
            one: np.abs(values.reshape(ours.shape) - ours) / scale
            for one, (values, scale) in theirs.items()
            if values.size == ours.size
        }
        nearest = min(alike, key=lambda one: alike[one].mean())
        met.update(one for one, apart in alike.items() if apart.mean() == alike[nearest].mean())
        # LiteRT's kernels rescale integers by factors of few digits, so what lies near halfway may fall to either side.
        assert (alike[nearest] > 0.5).mean() < 0.1, name
        assert alike[nearest].max() < 1.5, name
        return torch.from_numpy(theirs[nearest][0].reshape(ours.shape).T[None].copy())

    rounding.sound(found.dec, torch.from_numpy(feeds[0]["latent"]), lesson.ge, compared, Manner(8))
    # A tenth of x is part of a leaky ReLU, and "for" the copy of x that it is compared with.
    assert {one for one in theirs if not one.endswith("/low") and "/for/" not in one} <= met


@pytest.mark.thorough  # tests/train kills the loop itself
def test_learning_goes_on_after_a_kill_with_equal_numbers(sovits, lesson, tmp_path, brief):
    train, found = Train(integer_steps=4, integer_batch=2), integers.equalised(sovits, lesson)

    class Killed(BaseException):
        pass

    def learned(folder, *, kill=False):
        folder.mkdir(exist_ok=True)

        def say(text):
            if kill and text.startswith("integers 2/"):
                raise Killed

        network, _ = integers.learn(distil.Run(train, 1, masks([], 0), folder, say), found, lesson, Manner(8))
        return network.state_dict()

    whole = learned(tmp_path / "whole")
    with pytest.raises(Killed):
        learned(tmp_path / "killed", kill=True)
    again = learned(tmp_path / "killed")
    assert [name for name, value in whole.items() if not torch.equal(value, again[name])] == []
    assert not torch.equal(whole["conv_pre.weight"], found.dec.conv_pre.weight)


def test_a_sound_that_is_wrong_gets_better_and_nothing_but_the_vocoder_changes(sovits, lesson, tmp_path, brief):
    sovits.dec.conv_post.weight.mul_(3)  # three times as loud as the lesson
    train = Train(integer_steps=6, integer_batch=2, integer_rate=5e-3)
    run = distil.Run(train, 1, masks([], 0), tmp_path, lambda _: None)
    found, losses = integers.rounded(run, sovits, lesson, Manner(8))
    assert losses["recovered.integers.gate"] < losses["cut.integers.gate"]
    assert losses["recovered.float.gate"] < losses["cut.float.gate"]
    for name, value in found.state_dict().items():
        assert name.startswith("dec.") or torch.equal(value, sovits.state_dict()[name]), name


def test_what_does_not_get_better_is_left_out(sovits, lesson, tmp_path, brief):
    run = distil.Run(Train(integer_steps=2, integer_rate=0.1), 1, masks([], 0), tmp_path, lambda _: None)
    found, losses = integers.rounded(run, sovits, lesson, Manner(8))
    assert losses["recovered.own.gate"] == losses["cut.own.gate"]
    assert all(torch.equal(value, sovits.state_dict()[name]) for name, value in found.state_dict().items())


def test_zeros_stay_zeros(sovits, lesson, tmp_path, brief):
    stay = masks([sovits], 0.5)
    stay.apply(sovits)
    run = distil.Run(Train(integer_steps=2, integer_rate=1e-3), 1, stay, tmp_path, lambda _: None)
    found, _ = integers.learn(run, integers.equalised(sovits, lesson), lesson, Manner(8))
    for name, mask in stay.kept.items():
        if name.startswith("dec."):
            assert not found.get_parameter(name.removeprefix("dec."))[~mask].any()
