"""Weights of few bits: the backend's own rounding, in training and in what is written."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gsvexport.errors import InputError
from gsvexport.passes.matmul_nbits import quantise_blocks
from gsvexport.slim import codes, distil, prune, weights
from gsvexport.slim.recipe import Train, Weights, read_recipe
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


def test_a_vocoder_of_few_bits_learns_and_writes_rounded_weights(sovits, lesson, tmp_path):
    found, losses = weights.learn_vocoder(run(tmp_path, vocoder_rate=1e-3), sovits, lesson, 4)
    assert losses["recovered.weights.vocoder.mel"] < losses["cut.weights.vocoder.mel"]
    assert found.state_dict().keys() == sovits.dec.state_dict().keys()
    ours, theirs = (prune.folded(one) for one in (found, sovits.dec))
    for name, values in ours.items():
        if name.endswith("weight") and name != "conv_post.weight":
            rows = values.movedim(int(name.startswith("ups.")), 0).flatten(1)  # of all that one output reads
            torch.testing.assert_close(weights.rounded(rows, 4, 32), rows, atol=1e-5, rtol=1e-4, msg=name)
    assert not torch.equal(ours["conv_post.weight"], theirs["conv_post.weight"])  # it learns, and is not rounded
    assert len(ours["conv_post.weight"].unique()) > 15


def test_one_vocoder_does_not_learn_two_kinds_of_rounding(tmp_path):
    with pytest.raises(InputError, match=r"either \+int8 or \+vocoder-w4"):
        read_recipe("tiny+int8+vocoder-w4")
    path = tmp_path / "mine.toml"
    path.write_text("[integers]\nbits = 8\n[weights]\nvocoder = 3\n")
    with pytest.raises(InputError, match="4: 'vocoder' = 3 is not 2 or 4") as error:
        read_recipe(str(path))
    assert "a vocoder that learns 8-bit integers cannot have blocks of fewer bits, too" in str(error.value)


def test_what_learned_one_rounding_gets_no_other(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[weights]\nbits = 4\nsignificant = 8\n")
    with pytest.raises(InputError, match="3: 'significant' = 8 is not 2 to 7") as error:
        read_recipe(str(path))
    assert "rounded once more, and otherwise" in str(error.value)
    path.write_text("[weights]\nsignificant = 4\n")
    with pytest.raises(InputError, match=r"leave out \+int8, or 'significant'"):
        read_recipe(f"{path}+int8")


def test_suffixes_can_follow_one_another():
    found = read_recipe("tiny+int8+w4")
    assert (found.name, found.integers.bits, found.weights.bits) == ("tiny+int8+w4", 8, 4)
    assert read_recipe("small+w2").weights.bits == 2
    assert read_recipe("small+w4+vocoder-w2").weights == Weights(4, 2)
    with pytest.raises(InputError, match=r"'\+w3'; did you mean"):
        read_recipe("tiny+w3")
