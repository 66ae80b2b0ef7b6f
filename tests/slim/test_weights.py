"""Weights of few bits: the backend's own rounding, in training and in what is written."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvexport.errors import InputError
from gsvexport.passes.matmul_nbits import quantise_blocks
from gsvexport.slim import codes, distil, weights
from gsvexport.slim.recipe import Train, read_recipe
from gsvexport.slim.sparse import masks

LINEAR = "h.layers.0.linear2.weight"


@pytest.mark.parametrize(("count", "block"), [(64, 32), (40, 16)])
def test_rounding_is_the_backends_and_changes_nothing_twice(count, block):
    torch.manual_seed(5)
    values = torch.randn(6, count)
    values[0, :block] = 0
    q, scales = quantise_blocks(values.T.numpy(), 4, block)
    theirs = (q * scales[:, :, None]).reshape(6, -1)[:, :count]
    once = weights.rounded(values, 4, block)
    np.testing.assert_allclose(once.numpy(), theirs, atol=1e-6)
    halves = once.half().float()  # as files hold them
    torch.testing.assert_close(weights.rounded(halves, 4, block), halves, atol=1e-6, rtol=1e-3)
    two = weights.rounded(values, 2, block)
    assert all(len(part.unique()) <= 3 for row in two for part in row.split(block))
    torch.testing.assert_close(weights.rounded(two, 4, block), two)  # so 4-bit blocks can hold them


def run(folder, stay=None, **changes):
    train = Train(weight_steps=12, weight_rate=1e-2, t2s_batch=2, features=0.0)
    return distil.Run(replace(train, **changes), 0, stay or masks([], 0), folder, lambda _: None)


def test_learning_brings_it_nearer_and_writes_rounded_weights(t2s, lesson, tmp_path):
    found, losses = weights.learn(run(tmp_path), t2s, t2s, lesson, 2)
    assert losses["recovered.weights.t2s.kl"] < losses["cut.weights.t2s.kl"]
    assert codes.held_out(found, t2s, lesson.held_out)["t2s.kl"] == losses["recovered.weights.t2s.kl"]
    assert found.state_dict().keys() == t2s.state_dict().keys()
    values = found.state_dict()[LINEAR]
    torch.testing.assert_close(weights.rounded(values, 2, 16), values)
    torch.testing.assert_close(weights.rounded(values, 4, 16), values)
    assert len(found.ar_predict_layer.weight.unique()) > 50  # no blocks there


def test_what_learning_does_not_help_is_only_rounded_and_zeros_stay(t2s, lesson, tmp_path):
    stay = masks([t2s], 0.5)
    stay.apply(t2s)
    found, losses = weights.learn(run(tmp_path, stay, weight_steps=1, weight_rate=0.1), t2s, t2s, lesson, 4)
    assert losses["recovered.weights.t2s.kl"] == losses["cut.weights.t2s.kl"]
    values = found.state_dict()[LINEAR]
    torch.testing.assert_close(values, weights.rounded(t2s.state_dict()[LINEAR], 4, 16))
    near, _ = weights.learn(run(tmp_path / "near", stay, weight_steps=2), t2s, t2s, lesson, 4)
    for name, mask in stay.kept.items():
        if name in near.state_dict():
            assert not near.state_dict()[name][~mask].any(), name


def test_suffixes_can_follow_one_another():
    found = read_recipe("tiny+int8+w4")
    assert (found.name, found.integers.bits, found.weights.bits) == ("tiny+int8+w4", 8, 4)
    assert read_recipe("small+w2").weights.bits == 2
    with pytest.raises(InputError, match=r"'\+w3'; did you mean"):
        read_recipe("tiny+w3")
