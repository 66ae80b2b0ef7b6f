"""Cutting: what does nothing goes first, what stays says the same, and nothing of a cut channel is left anywhere."""

from dataclasses import replace

import pytest
import torch

from gsvexport.slim import codes, encoder, prune, vocoder
from gsvexport.slim.sparse import masks
from gsvexport.voice.layout import expected_sovits, expected_t2s


def silenced(network, groups, seed):
    """The network with as many channels of each group silent as have to go; and those that are not."""
    random, tensors, loud = torch.Generator().manual_seed(seed), prune.folded(network), {}
    for group in groups:
        order = torch.randperm(group.count, generator=random)
        loud[group.name] = order[: group.keep].sort().values
        for name, axis in group.slots:
            for producer in group.producers:
                if name.startswith(f"{producer}."):
                    tensors[name].index_fill_(axis, order[group.keep :], 0)
    prune.fill(network, tensors)
    return loud


@pytest.mark.parametrize("sovits", ["1", "2"], indirect=True)
def test_silent_channels_go_and_the_sound_stays_the_same(sovits, lesson):
    new = replace(sovits.dims, upsample_initial=16, filter=8)
    sound, text = prune.vocoder_groups(sovits.dims, new), prune.prior_groups(sovits.dims, new)
    for group in text:
        sovits.get_parameter(f"{group.name}.conv_1.bias").add_(4)  # else relu silences more of them
    loud = silenced(sovits, [*sound, *text], 5)
    kept = prune.importance(sovits, sound, vocoder.measures(sovits, lesson, 2, 0))
    kept |= prune.importance(sovits, text, encoder.measures(sovits, lesson, 2, 0))
    assert {name: one.tolist() for name, one in kept.items()} == {name: one.tolist() for name, one in loud.items()}

    student = prune.smaller_sovits(sovits, new, kept)
    assert {name: tuple(one.shape) for name, one in student.state_dict().items()} == expected_sovits(new)
    one = lesson.train[1]
    apart = student.vocoder(one.latent[None], lesson.ge) - sovits.vocoder(one.latent[None], lesson.ge)
    assert apart.abs().max() < 1e-5
    for ours, theirs in zip(encoder.prior(student, one, lesson), encoder.prior(sovits, one, lesson), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_silent_heads_and_rows_go(t2s, t2s_dims, lesson):
    new = replace(t2s_dims, width=8, heads=2)
    groups = prune.t2s_groups(t2s_dims, new, [0, 2])
    tensors = prune.folded(t2s)
    for layer in (0, 2):
        tensors[f"h.layers.{layer}.self_attn.out_proj.weight"][:, 4:12] = 0  # heads 1 and 2
        tensors[f"h.layers.{layer}.linear1.weight"][::2] = 0
        tensors[f"h.layers.{layer}.linear1.bias"][::2] = 0
    prune.fill(t2s, tensors)
    kept = prune.importance(t2s, groups, codes.measures(t2s, lesson, 6, 0))
    assert kept["h.layers.0.heads"].tolist() == kept["h.layers.2.heads"].tolist() == [0, 3]
    assert not set(kept["h.layers.0.rows"].tolist()) & set(range(0, 64, 2))

    student = prune.smaller_t2s(t2s, t2s_dims, replace(new, layers=2), [0, 2], kept)
    shapes = {f"model.{name}": tuple(one.shape) for name, one in student.state_dict().items()}
    assert shapes == expected_t2s(replace(new, layers=2))
    # Query, key and value of head 3 come after those of head 0, each of the residual's channels that stay.
    residual = prune.spread(16, 8)
    packed = t2s.get_parameter("h.layers.2.self_attn.in_proj_weight")
    rows = [part * 16 + head * 4 + one for part in range(3) for head in (0, 3) for one in range(4)]
    assert torch.equal(student.get_parameter("h.layers.1.self_attn.in_proj_weight"), packed[rows][:, residual])


def test_positions_of_a_narrower_network_are_those_of_the_channels_that_stay():
    from gsvexport.voice.networks.text2semantic import position_table

    wide, narrow, stay = position_table(50, 512), position_table(50, 384), prune.spread(512, 384)
    equal = [bool(torch.allclose(narrow[:, one], wide[:, stay[one]], atol=1e-4)) for one in range(384)]
    assert sum(equal[::6]) == 64, "every third pair has the same frequency in both tables"
    assert (stay.diff() > 0).all()


def test_the_layer_that_does_least_goes(t2s, lesson):
    tensors = prune.folded(t2s)
    for name in ("self_attn.out_proj.weight", "self_attn.out_proj.bias", "linear2.weight", "linear2.bias"):
        tensors[f"h.layers.1.{name}"].zero_()
    prune.fill(t2s, tensors)
    wanted = codes.told(t2s, lesson.train[0])
    stay = prune.layers_that_stay(t2s, 2, lambda: float(codes.divergence(codes.told(t2s, lesson.train[0]), wanted)))
    assert stay == [0, 2]
    assert len(t2s.h.layers) == 3


def test_masks_leave_the_largest_and_every_direction_a_length(t2s, sovits):
    found = masks([t2s, sovits], 0.7)
    assert found.share == pytest.approx(0.7, abs=0.01)
    assert not [name for name in found.kept if "emb" in name or name.endswith("weight_g")]
    sovits.get_parameter("dec.ups.0.weight_v")[3] = 0.001  # would go as a whole
    found = masks([sovits], 0.7)
    found.apply(sovits)
    found.apply(sovits)
    assert all(torch.isfinite(one).all() for one in prune.folded(sovits).values())
    zeros = (sovits.get_parameter("dec.ups.0.weight_v") == 0).float().mean()
    assert zeros == pytest.approx(0.7, abs=0.01)
