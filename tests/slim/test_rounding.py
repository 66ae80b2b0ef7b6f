"""Rounding in training: what the backend's integers compute, gradients, equal channels, and going on after a kill."""

import copy
from dataclasses import asdict, replace

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
from gsvexport.graphs.vocoder import vocoder
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.multiply_by_reciprocal import MultiplyByReciprocal
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu
from gsvexport.slim import distil, integers, prune, rounding
from gsvexport.slim.recipe import Train
from gsvexport.slim.sparse import masks
from gsvexport.stages import stages


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_a_float_point_changes_nothing(sovits, lesson):
    one = lesson.train[0]
    made = rounding.sound(sovits.dec, one.latent[None], lesson.ge, rounding.plain, 0)
    torch.testing.assert_close(made[:, 0], one.audio[None], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_equal_channels_sound_the_same(sovits, lesson):
    found = integers.equalised(sovits, lesson)
    one = lesson.train[1]
    made = rounding.sound(found.dec, one.latent[None], lesson.ge, rounding.plain, 0)
    torch.testing.assert_close(made[:, 0], one.audio[None], atol=1e-5, rtol=1e-4)
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


def test_gradients_pass_and_the_first_of_a_batch_stays_float():
    x = torch.linspace(-2, 2, 12).view(3, 4).requires_grad_()
    y = rounding.rounded({"x": (-1.0, 1.0)}, kept=1)("x", x)
    assert torch.equal(y[0], x[0])
    assert len(y[1:].unique()) < 8
    assert y[1:].abs().max() <= 1.01
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_rounding_is_what_the_backend_computes(sovits, lesson):
    """Each tensor of a vocoder up to its last convolution, from what LiteRT's integers gave before it. (From end to end
    single steps, where sums lie halfway, would add up.)"""
    pytest.importorskip("ai_edge_litert")
    found = integers.equalised(sovits, lesson)
    arrays = {name: value.numpy() for name, value in found.state_dict().items()}
    graph = vocoder(GraphBuilder(stages("v2")["vocoder"], Weights()), Tensors("sovits", arrays), sovits.dims)
    legal = run_passes(graph, [Conv2d(), Polyphase(), MultiplyByReciprocal(), SmallSumsFirst(), SplitLeakyRelu()]).model
    whole = emit(legal, {"I": 8, "G": 16, "F": 30})
    first = joined(whole, segments(whole)[:-1])
    feeds = [{"latent": one.latent[None].numpy(), "ge": lesson.ge.numpy()} for one in lesson.train]
    integer = quantise(first, observe(legal, computed(first), feeds, Estimator("mse")))
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
        assert (alike[nearest] > 0.5).mean() < 0.05, name  # LiteRT rescales by fixed-point numbers
        assert alike[nearest].max() < 1.5, name
        return torch.from_numpy(theirs[nearest][0].reshape(ours.shape).T[None].copy())

    rounding.sound(found.dec, torch.from_numpy(feeds[0]["latent"]), lesson.ge, compared, 8)
    # A tenth of x is part of a leaky ReLU, and "for" the copy of x that it is compared with.
    assert {one for one in theirs if not one.endswith("/low") and "/for/" not in one} <= met
