"""Recipes and the sizes that they make."""

from dataclasses import asdict, replace

import pytest

from gsvexport.errors import InputError
from gsvexport.slim.recipe import TRAININGS, names, read_recipe
from gsvexport.slim.shape import Shapes, slimmer
from gsvexport.synthetic import voice_sizes
from gsvexport.voice.dims import T2SDims

FULL = T2SDims(layers=24, width=512, heads=16, vocab=1025, phones=732, eos=1024)


@pytest.fixture
def full(sovits):
    """The sizes of upstream's v2."""
    sizes = voice_sizes("v2", "full")
    dims = replace(
        sovits.dims,
        text_phones=732,
        ssl=768,
        codes=1024,
        hidden=192,
        filter=sizes.filter,
        text_layers=6,
        ssl_layers=3,
        mix_layers=3,
        mrte_width=512,
        inter=192,
        gin=512,
        ge_text_width=512,
        flows=4,
        flow_layers=4,
        flow_kernel=5,
        flow_hidden=192,
        upsample_rates=sizes.upsample_rates,
        upsample_kernels=sizes.upsample_kernels,
        upsample_initial=sizes.upsample_initial,
        resblock_kernels=sizes.resblock_kernels,
        resblock_dilations=sizes.resblock_dilations,
        ref_bins=704,
        ref_hidden=128,
        ref_kernel=5,
    )
    return Shapes(FULL, dims)


def test_every_built_in_recipe_fits_a_full_voice(full):
    found = {name: slimmer(full, read_recipe(name)) for name in names()}
    sizes = {
        name: (one.t2s.layers, one.t2s.width, one.t2s.heads, one.sovits.upsample_initial, one.sovits.filter)
        for name, one in found.items()
    }
    assert sizes == {
        "prune-30": (17, 512, 16, 352, 544),
        "prune-50": (12, 512, 16, 256, 384),
        "small": (18, 448, 14, 384, 576),
        "int8": (24, 512, 16, 512, 768),
        "sparse-50": (24, 512, 16, 512, 768),
        "sparse-70": (24, 512, 16, 512, 768),
        "tiny": (12, 384, 12, 256, 384),
        "vocoder-30": (24, 512, 16, 352, 768),
    }
    assert full.parameters == (77_606_402, 42_389_633)
    assert {name: one.parameters for name, one in found.items() if not name.startswith(("sparse", "int8"))} == {
        "prune-30": (55_539_714, 31_766_939),
        "prune-50": (39_777_794, 26_322_689),
        "small": (45_162_434, 33_500_449),
        "tiny": (22_755_458, 26_322_689),
        "vocoder-30": (77_606_402, 34_866_203),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[t2s]\nlayers = 0.0", "2: 'layers' = 0 leaves nothing"),
        ("[sparse]\nshare = 1.0", "2: 'share' = 1 leaves nothing"),
        ("[sovits]\nchannels = -0.5", "2: 'channels' = -0.5 leaves nothing"),
        ("[sovits]\nchannels = 256", "2: 'channels' = 256 is not a share up to 1"),
        ("[t2s]\nwidth = 384.5", "2: 'width' = 384.5 is not a share up to 1 or a whole number above it"),
        ("[integers]\nbits = 4", "2: 'bits' = 4 is not 8, or 0 for none"),
        ("[t2s]\nlayer = 12", "unknown key 'layer' in [t2s]; did you mean 'layers'?"),
        ("[train]\nt2s_steps = -1", "'t2s_steps' = -1 is not between 0"),
        ("[t2s]\nwidth = 'half'", "'width' takes a number"),
        ("title = 3", "'title' takes a string"),
        ("[t2s", "cannot be read as TOML"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_with_its_line(tmp_path, text, told):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read_recipe(str(path))
    assert told in str(error.value)


def test_an_unknown_recipe_names_the_known_ones():
    with pytest.raises(InputError) as error:
        read_recipe("prune30")
    assert "did you mean 'prune-30'" in str(error.value)
    assert ", ".join(names()) in str(error.value)


def test_integers_may_follow_any_recipe(tmp_path):
    one, both = read_recipe("tiny"), read_recipe("tiny+int8")
    assert replace(both, name="tiny", integers=one.integers) == one
    assert (both.name, both.integers.bits, one.integers.bits) == ("tiny+int8", 8, 0)
    assert one.digest != both.digest
    path = tmp_path / "a+int8"
    (tmp_path / "mine.toml").write_text("[t2s]\nlayers = 0.5")
    assert read_recipe(f"{tmp_path / 'mine.toml'}+int8").name == "mine+int8"
    (tmp_path / "a+b.toml").write_text("[t2s]\nlayers = 0.5")
    assert read_recipe(str(tmp_path / "a+b.toml")).integers.bits == 0
    for name, told in (
        ("tiny+int4", "a recipe cannot end in '+int4'; did you mean '+int8' or '+w4'?"),
        ("tine+int8", "there is no recipe 'tine'; did you mean 'tiny'"),
        (str(path), "there is no recipe"),
    ):
        with pytest.raises(InputError) as error:
            read_recipe(name)
        assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[t2s]\nwidth = 390", "390 is no multiple of the heads' 32 channels; 384, 416 would be"),
        ("[t2s]\nlayers = 30\nwidth = 640", "t2s.layers = 30, but the voice has 24"),
        ("[sovits]\nchannels = 0.02", "leaves 8 channels, to halve 5 ×"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, full, text, told):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    full = replace(full, sovits=replace(full.sovits, upsample_initial=128))
    with pytest.raises(InputError) as error:
        slimmer(full, read_recipe(str(path)))
    assert told in str(error.value)


def test_the_name_of_a_recipe_is_not_what_it_asks_for():
    one = read_recipe("prune-30")
    assert replace(one, name="other", title="").digest == one.digest
    assert one.scaled(2).digest != one.digest
    assert one.scaled(1e-9).train.t2s_steps == 1


def test_trainings_are_shared_where_recipes_ask_the_same_of_them():
    plain, more = read_recipe("tiny"), read_recipe("tiny+int8+w4")
    assert [one for one in TRAININGS if plain.asked(one) != more.asked(one)] == ["weights", "integers"]
    other = replace(plain, sovits=replace(plain.sovits, filter=0.6))
    assert [one for one in TRAININGS if plain.asked(one) != other.asked(one)] == ["prior"]
    named = {one for every in TRAININGS.values() for one in every}
    for table, values in asdict(plain).items():
        if table not in ("name", "title", "data"):
            missing = {f"{table}.{one}" for one in values} - named - {"weights.significant"}  # that is no training
            assert not missing or table in named, missing


@pytest.mark.parametrize(
    "name", ["tiny+w4+w4", "tiny+w4+w2", "int8+int8", "tiny+int8+w4+int8", "tiny+vocoder-w2+vocoder-w4"]
)
def test_one_kind_of_rounding_is_asked_for_once(name):
    with pytest.raises(InputError, match="twice"):
        read_recipe(name)
