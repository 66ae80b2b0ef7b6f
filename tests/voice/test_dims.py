from __future__ import annotations

import copy
import functools
from dataclasses import fields, replace

import numpy as np
import pytest
from conformance import conformance

from gsvexport.errors import VoiceError
from gsvexport.synthetic import write_voice
from gsvexport.voice import sizes
from gsvexport.voice.checkpoint import read_checkpoint
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.layout import expected_sovits, expected_t2s
from gsvexport.voice.sizes import t2s_dims
from gsvexport.voice.version import find_version


def sovits_dims(checkpoint, hint=None, base_start=""):
    return sizes.sovits_dims(checkpoint, find_version(checkpoint, hint, base_start))


@functools.cache
def _read(version, name):
    return read_checkpoint(conformance(version).folder / name)


def checkpoint(name, version="v2", drop=(), add=None, header=None, **config):
    """The referee's file with tensors dropped or replaced, and config entries `section__key=value` (... deletes)."""
    base = _read(version, name)
    changed = copy.deepcopy(base.config)
    for path, value in config.items():
        section, key = path.split("__")
        if value is ...:
            del changed[section][key]
        else:
            changed[section][key] = value
    tensors = {key: array for key, array in base.tensors.items() if not key.startswith(tuple(drop))}
    return replace(base, tensors=tensors | (add or {}), config=changed, header=header or base.header)


def gpt(**changes):
    return checkpoint("gpt.ckpt", **changes)


def sovits(**changes):
    return checkpoint("sovits.pth", **changes)


def problems(function, *arguments):
    with pytest.raises(VoiceError) as caught:
        function(*arguments)
    assert str(arguments[0].path) in caught.value.what
    return caught.value.problems


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus"])
def test_sizes_of_the_referees_voices(version):
    t2s = t2s_dims(gpt(version=version))
    assert (t2s.layers, t2s.width, t2s.heads, t2s.vocab, t2s.eos) == (2, 64, 4, 1025, 1024)
    assert t2s.phones == (512 if version == "v1" else 732)
    dims = sovits_dims(sovits(version=version))
    assert dims.version == version
    assert (dims.symbols, dims.text_phones, dims.ref_bins) == (
        ("v1", 322, 1025) if version == "v1" else ("v2", 732, 704)
    )
    assert (dims.hidden, dims.filter, dims.heads, dims.inter, dims.kernel) == (192, 96, 2, 64, 3)
    assert (dims.text_layers, dims.ssl_layers, dims.mix_layers, dims.window) == (2, 1, 1, 4)
    assert (dims.flows, dims.flow_layers, dims.flow_kernel, dims.flow_hidden) == (4, 4, 5, 192)
    assert dims.speaker_width == (20480 if "Pro" in version else None)
    assert dims.ge_text_width == 512
    assert (dims.rate, dims.n_fft, dims.hop, dims.window_length) == (32000, 2048, 640, 2048)


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus"])
def test_the_expected_tensors_are_exactly_those_of_a_file(version):
    for found, dims, expected in (
        (gpt(version=version), t2s_dims, expected_t2s),
        (sovits(version=version), sovits_dims, expected_sovits),
    ):
        assert expected(dims(found)) == {name: array.shape for name, array in found.tensors.items()}


@pytest.mark.parametrize(
    "sizes",
    [
        {
            "version": "v1",
            "layers": 3,
            "heads": 4,
            "kernel": 5,
            "filter": 80,
            "inter": 48,
            "t2s_layers": 3,
            "t2s_width": 48,
            "t2s_heads": 3,
        },
        {
            "version": "v2",
            "resblock": "2",
            "resblock_kernels": (5, 3),
            "resblock_dilations": ((1, 2), (2, 6)),
            "upsample_rates": (8, 8, 10),
            "upsample_kernels": (18, 16, 20),
            "upsample_initial": 40,
        },
        {
            "version": "v2Pro",
            "gin": 40,
            "layers": 1,
            "upsample_rates": (640,),
            "upsample_kernels": (642,),
            "upsample_initial": 8,
        },
    ],
)
def test_no_size_is_assumed(tmp_path, sizes):
    folder = write_voice(tmp_path, **sizes)
    t2s = t2s_dims(read_checkpoint(folder / "gpt.ckpt"))
    dims = sovits_dims(read_checkpoint(folder / "sovits.pth"))
    same = {item.name for item in fields(SovitsDims)} & set(sizes)
    assert {name: getattr(dims, name) for name in same} == {name: sizes[name] for name in same}
    layers = sizes.get("layers", dims.text_layers)
    assert (dims.text_layers, dims.ssl_layers, dims.mix_layers) == (layers, layers // 2, layers // 2)
    for name in ("layers", "width", "heads"):
        assert getattr(t2s, name) == sizes.get(f"t2s_{name}", getattr(t2s, name))


def test_every_kind_of_wrong_tensor_is_listed_at_once():
    bad = np.zeros((64, 64), np.float16)
    bad[3, 4], bad[5, 6], bad[7, 8] = np.nan, np.inf, -np.inf
    found = problems(
        t2s_dims,
        gpt(
            drop=("model.bert_proj.bias", "model.h.layers.1.norm2"),
            add={
                "model.extra": np.zeros((2, 3), np.float32),
                "model.h.layers.0.linear1.bias": np.zeros(255, np.float16),
                "model.h.layers.0.norm1.weight": np.zeros(64, np.int64),
                "model.h.layers.0.self_attn.out_proj.weight": bad,
            },
        ),
    )
    assert set(found) == {
        "missing tensor: model.bert_proj.bias [64]",
        "missing tensor: model.h.layers.1.norm2.weight [64]",
        "missing tensor: model.h.layers.1.norm2.bias [64]",
        "extra tensor: model.extra [2, 3]",
        "wrong shape: model.h.layers.0.linear1.bias is [255], expected [256]",
        "wrong type: model.h.layers.0.norm1.weight is int64, expected floating point",
        "NaN or Inf: model.h.layers.0.self_attn.out_proj.weight has 3 of 4096 values that are not finite",
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_one_bad_value_anywhere_is_found(value, dtype):
    name = "quantizer.vq.layers.0._codebook.embed"
    array = np.zeros((1024, 768), dtype)
    array[1023, 767] = value
    assert problems(sovits_dims, sovits(add={name: array})) == (
        f"NaN or Inf: {name} has 1 of 786432 values that are not finite",
    )


def test_training_statistics_and_the_posterior_encoder_do_not_matter():
    broken = np.full((1024, 768), np.nan, np.float16)
    found = sovits(
        add={"quantizer.vq.layers.0._codebook.embed_avg": broken, "enc_q.pre.weight": np.zeros(3, np.float16)}
    )
    assert sovits_dims(found) == sovits_dims(sovits())


def test_a_whole_missing_part_is_listed_tensor_by_tensor():
    names = {name for name in sovits().tensors if name.startswith("flow.")}
    found = problems(sovits_dims, sovits(drop=("flow.",)))
    assert {problem.split()[2] for problem in found if problem.startswith("missing")} == names


def test_swapped_files_are_recognised():
    for function, given in ((t2s_dims, sovits()), (sovits_dims, gpt()), (t2s_dims, sovits(version="v3"))):
        with pytest.raises(VoiceError, match="gpt and sovits are swapped"):
            function(given)


@pytest.mark.parametrize("version", ["v3", "v4"])
def test_sizes_of_what_v3_and_v4_generate_a_mel_with(version):
    dims = sovits_dims(checkpoint("base.pth", version=version))
    found = dims.matching
    assert (dims.version, dims.flow_hidden, dims.flow_layers, dims.upsample_rates) == (version, 512, 2, ())
    assert (found.width, found.layers, found.heads, found.inner, found.rotary) == (128, 2, 2, 256, 32)
    assert (found.text_layers, found.text_inner, found.position_groups) == (2, 1024, 16)
    missing = problems(sovits_dims, checkpoint("base.pth", version=version, drop=("cfm.estimator.norm_out",)))
    assert [text.split()[2] for text in missing] == [f"cfm.estimator.norm_out.linear.{n}" for n in ("weight", "bias")]


def nameless(version="v4", header="PK"):
    """A whole v3 or v4 file that does not say which of them it is."""
    found = checkpoint("base.pth", version=version, header=header, model__version=...)
    return replace(found, config={**found.config, "version": None})


def test_v3_or_v4_is_never_guessed():
    with pytest.raises(VoiceError, match="nothing says which of them") as caught:
        sovits_dims(nameless())
    assert 'version = "v4"' in caught.value.fix
    assert sovits_dims(nameless(), "v4").version == "v4"
    assert sovits_dims(nameless(), "v3").version == "v3"
    assert sovits_dims(nameless(header="02")).version == "v3"
    v3, v4 = "43797be674a37c1c83ee81081941ed0f", "4f26b9476d0c5033e04162c486074374"
    assert sovits_dims(replace(nameless(), start=v4)).version == "v4"
    assert sovits_dims(nameless(), base_start=v3).version == "v3"
    assert problems(sovits_dims, nameless(header="02"), "v4") == (
        "it is of two versions: voice.toml says v4, header 02 says v3",
    )
    assert "two versions" in problems(sovits_dims, replace(nameless(header="04"), start=v3))[0]


@pytest.mark.parametrize(("header", "said"), [("03", "v3"), ("04", "v4")])
def test_the_header_of_a_lora_on_other_tensors_is_a_problem(header, said):
    (found,) = problems(sovits_dims, sovits(header=header))
    assert found == f"header {header} says a LoRA of {said}; its tensors are those of v2"


def test_tensors_decide_the_version_and_other_words_only_what_tensors_cannot():
    assert sovits_dims(sovits(header="05", model__version="v1")).version == "v2"
    assert sovits_dims(sovits(header="02", model__version="v3")).version == "v2"
    pro = {"version": "v2Pro"}
    assert sovits_dims(sovits(**pro, header="06")).version == "v2ProPlus"
    assert sovits_dims(sovits(**pro, header="06"), "v2Pro").version == "v2Pro"
    assert sovits_dims(sovits(**pro, header="PK", model__version="v2ProPlus")).version == "v2ProPlus"
    silent = replace(sovits(**pro, header="PK", model__version=...), config={**sovits(**pro).config, "version": None})
    silent.config["model"].pop("version")
    assert sovits_dims(silent).version == "v2Pro"


def test_a_version_that_the_tensors_contradict_is_a_problem():
    found = problems(sovits_dims, sovits(), "v2Pro")
    assert found == ("voice.toml says version v2Pro, but the tensors are those of v2",)
    assert problems(sovits_dims, sovits(), "v4") == ("voice.toml says version v4, but the tensors are those of v2",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model__hidden_dim": 32}, "embedding_dim 64 differs from hidden_dim 32"),
        ({"model__head": 5}, "no multiple of head 5"),
        ({"model__EOS": 1023}, "EOS is 1023"),
        ({"model__n_layer": 3}, "n_layer is 3, but the file holds 2 GPT layers"),
        ({"model__phoneme_vocab_size": 512}, "expected [512, 64]"),
        ({"model__vocab_size": ...}, "model.vocab_size is missing"),
        ({"model__n_layer": 10**9}, "not a whole number from 1 to 256"),
        ({"model__hidden_dim": "64"}, "is '64', not a whole number"),
        ({"model__head": True}, "is True"),
    ],
)
def test_a_gpt_config_that_does_not_fit_is_refused(change, said):
    assert any(said in problem for problem in problems(t2s_dims, gpt(**change)))


def test_linear_units_are_ignored_as_upstream_does():
    assert t2s_dims(gpt(model__linear_units=77)) == t2s_dims(gpt())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model__hidden_channels": 100}, "wrong shape: enc_p.proj.weight is [128, 192, 1], expected [128, 100, 1]"),
        ({"model__n_heads": 5}, "no multiple of n_heads 5"),
        ({"model__n_heads": 4}, "emb_rel_k is [1, 9, 96], expected [1, 9, 48]"),
        ({"model__n_layers": 6}, "n_layers is 6, but the file holds 2 encoder_text layers"),
        ({"model__n_layers": 6}, "n_layers // 2 is 3, but the file holds 1 encoder_ssl layers"),
        ({"model__inter_channels": 63}, "inter_channels 63 is odd"),
        ({"model__upsample_rates": [10, 8, 2, 2, 1]}, "product of upsample_rates is 320, but data.hop_length is 640"),
        ({"data__hop_length": 512}, "product of upsample_rates is 640, but data.hop_length is 512"),
        ({"model__upsample_rates": [10, 8, 2, 4]}, "lists have 4 and 5 entries"),
        ({"model__upsample_kernel_sizes": [16, 4, 8, 2, 2]}, "one below its rate"),
        ({"model__resblock_kernel_sizes": [3, 8, 11]}, "has an even one"),
        ({"model__resblock_kernel_sizes": [3, 7]}, "lists have 2 and 3 entries"),
        ({"model__resblock_dilation_sizes": [[1, 3], [1, 3, 5], [1, 3, 5]]}, "takes 3 dilations"),
        ({"model__resblock_dilation_sizes": [1, 3, 5]}, "list of 1 to 16 whole numbers"),
        ({"model__resblock": "2"}, "missing tensor: dec.resblocks.0.convs.0.weight_v"),
        ({"model__upsample_initial_channel": 16}, "cannot be halved 5 times"),
        ({"model__gin_channels": 500}, "do not fit the mrte width 512"),
        ({"model__upsample_rates": []}, "list of 1 to 16"),
        ({"model__upsample_rates": [2] * 17}, "list of 1 to 16"),
        ({"model__inter_channels": ...}, "model.inter_channels is missing"),
        ({"data__filter_length": 1024}, "513 bins"),
        ({"data__win_length": 4096}, "exceeds filter_length"),
    ],
)
def test_a_sovits_config_that_does_not_fit_is_refused(change, said):
    assert any(said in problem for problem in problems(sovits_dims, sovits(**change)))


def test_all_missing_config_entries_are_listed_at_once():
    found = problems(sovits_dims, replace(sovits(), config={}))
    assert len(found) > 10
    assert "config: data.hop_length is missing" in found


def test_dilations_that_upstream_ignores_are_ignored():
    more = [[1, 3, 5, 7], [1, 3, 5], [1, 3, 5]]
    assert sovits_dims(sovits(model__resblock_dilation_sizes=more)) == sovits_dims(sovits())


def test_a_phone_table_of_unknown_size_is_refused():
    name = "enc_p.text_embedding.weight"
    found = problems(sovits_dims, sovits(add={name: np.zeros((500, 192), np.float16)}))
    assert found == (f"wrong shape: {name} is [500, 192], expected [732, 192]",)
