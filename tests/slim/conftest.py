"""Tiny networks and one tiny lesson, without a voice's files; and a tiny voice with a recipe of few steps."""

from dataclasses import replace

import pytest
import torch

from gsvexport.slim.recipe import read_recipe
from gsvexport.slim.teacher import Lesson, Utterance
from gsvexport.synthetic import write_voice
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.networks import Synthesizer, Text2Semantic

RECIPE = """
[t2s]
layers = 0.5
width = 0.5
[sovits]
channels = 0.5
filter = 0.5
[data]
texts = 2
codes = 2
held_out = 1
longest = 10
[train]
t2s_steps = 3
vocoder_steps = 3
prior_steps = 2
t2s_batch = 1
vocoder_batch = 1
"""
T2S = T2SDims(layers=3, width=16, heads=4, vocab=9, phones=12, eos=8)
SOVITS = SovitsDims(
    version="v2",
    symbols="v2",
    text_phones=12,
    ssl=8,
    codes=8,
    hidden=8,
    filter=24,
    heads=2,
    text_layers=2,
    ssl_layers=1,
    mix_layers=1,
    kernel=3,
    window=4,
    mrte_width=16,
    mrte_heads=4,
    inter=8,
    gin=16,
    ge_text_width=16,
    flows=2,
    flow_layers=2,
    flow_kernel=3,
    flow_hidden=8,
    upsample_rates=(10, 8, 8),
    upsample_kernels=(20, 16, 16),
    upsample_initial=32,
    resblock="1",
    resblock_kernels=(3, 5),
    resblock_dilations=((1, 3, 5), (1, 3, 5)),
    ref_bins=8,
    ref_hidden=8,
    ref_kernel=3,
    ref_heads=2,
    speaker_width=None,
    rate=32000,
    n_fft=2048,
    hop=640,
    window_length=2048,
)


@pytest.fixture
def t2s_dims():
    return T2S


@pytest.fixture
def t2s():
    torch.manual_seed(1)
    network = Text2Semantic(T2S).eval()
    return network.requires_grad_(False)


@pytest.fixture
def sovits(request):
    """With residual blocks of kind "1", or of the kind that is asked for."""
    torch.manual_seed(2)
    dims = SOVITS
    if getattr(request, "param", "1") == "2":
        dims = replace(SOVITS, resblock="2", resblock_dilations=((1, 3), (1, 3)))
    return Synthesizer(dims).eval().requires_grad_(False)


@pytest.fixture
def lesson(sovits):
    torch.manual_seed(3)
    ge = torch.randn(1, 16, 1)
    said = []
    for number in range(3):
        latent = torch.randn(8, 30)
        said.append(
            Utterance(
                f"s{number}",
                torch.randint(12, (7,)),
                torch.randint(8, (number,)),
                torch.randint(8, (15,)),
                torch.randint(12, (5,)),
                latent,
                sovits.vocoder(latent[None], ge)[0],
            )
        )
    return Lesson(said, said[:1], ge, None)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Channels are chosen by two utterances here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gsvexport.slim.run._MEASURED", 2)
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A tiny voice whose sentences are short."""
    return write_voice(tmp_path_factory.mktemp("voice") / "alice", eos_gain=6.0)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "mine.toml"
    path.write_text(RECIPE)
    return read_recipe(str(path))
