"""Every kind of recipe alone, with a few steps on a tiny voice: it trains what it says, and nothing else changes."""

from dataclasses import replace

import pytest
import torch

from gsvexport.slim.prune import folded
from gsvexport.slim.recipe import T2S, Sovits, Sparse, Weights
from gsvexport.slim.run import packed, slim
from gsvexport.train.pack import rounded
from gsvexport.voice.networks import load_networks
from gsvexport.voice.voice import read_voice

WHOLE = {"t2s", "prior", "vocoder"}
KINDS = {
    "layers": ({"t2s": T2S(layers=0.5)}, {"t2s"}),
    "width": ({"t2s": T2S(width=0.5)}, {"t2s"}),
    "channels": ({"sovits": Sovits(channels=0.5)}, {"vocoder"}),
    "filter": ({"sovits": Sovits(filter=0.5)}, {"prior"}),
    "sparse": ({"sparse": Sparse(0.5)}, WHOLE),
    "w4": ({"weights": Weights(4)}, {"weights"}),
    "vocoder-w4": ({"weights": Weights(vocoder=4)}, {"vocoder-weights"}),
    "sparse and w4": ({"sparse": Sparse(0.5), "weights": Weights(4, 4)}, WHOLE | {"weights", "vocoder-weights"}),
}
PARTS = {"dec": "vocoder", "enc_p": "prior"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """The teacher is exported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(("changes", "trained"), KINDS.values(), ids=KINDS)
def test_a_kind_trains_what_it_says(changes, trained, teacher, recipe, tmp_path):
    bare = replace(recipe, t2s=T2S(), sovits=Sovits(), train=replace(recipe.train, weight_steps=2))
    slim(teacher, replace(bare, **changes), tmp_path / "small", work=tmp_path / "work")
    found = {
        path.parent.name.rpartition("-")[0]: path
        for path in (tmp_path / "work/runs").glob("*/*.pt")
        if path.stem != "cut"
    }
    assert found.keys() == trained
    for name, path in found.items():
        networks = torch.load(path, weights_only=True)["networks"]
        moved = [not torch.equal(one, networks["average"][key]) for key, one in networks["student"].items()]
        assert sum(moved) > len(moved) / 2, f"{name} learned nothing"
    old, new = (load_networks(read_voice(one)) for one in (teacher, tmp_path / "small"))
    changed = {one.partition("-")[0] for one in trained}
    before = folded(old[1])
    for name, value in folded(new[1]).items():
        if PARTS.get(name.partition(".")[0]) not in changed:
            torch.testing.assert_close(value, before[name], atol=1e-3, rtol=1e-2, msg=name)  # files hold halves
    if not {"t2s", "weights"} & trained:
        same = old[0].state_dict()
        assert all(torch.equal(value, same[name]) for name, value in new[0].state_dict().items())


def test_few_significant_bits_are_what_is_written(teacher, recipe, tmp_path):
    bare = replace(recipe, t2s=T2S(), sovits=Sovits(), weights=Weights(significant=4))
    found = slim(teacher, bare, tmp_path / "small", work=tmp_path / "work")
    assert not [*(tmp_path / "work/runs").glob("*/*.pt")]  # nothing is trained for it
    for network, before in zip(*(load_networks(read_voice(one)) for one in (tmp_path / "small", teacher)), strict=True):
        whole = before.state_dict()
        for name, value in network.named_parameters():
            wanted = whole[name] if value.numel() == len(value) else torch.from_numpy(rounded(whole[name].numpy(), 4))
            assert torch.equal(value, wanted.float()), name
    assert packed(tmp_path / "small") < 0.75 * packed(teacher)
    assert found.losses["recovered.short.t2s.kl"] > 0
    assert found.losses["recovered.short.vocoder.mel"] > 0
    assert found.losses["recovered.short.prior.kl"] > 0
