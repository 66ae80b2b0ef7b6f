"""Reasons and estimates of `plan --explain`."""

from dataclasses import replace

import pytest

from gsvexport.backends.onnxruntime import BACKEND
from gsvexport.backends.onnxruntime.recipes import saturates
from gsvexport.backends.onnxruntime.why import weight_bytes, why
from gsvexport.compiler.explain import FULL_V2, count, explain, memory_mb, step_bytes
from gsvexport.compiler.plan import Subject, code_versions, make_plan, missing_backends
from gsvexport.target.target import read_target, target_names

BUILDABLE = [name for name in target_names() if not missing_backends(read_target(name))]
T2S = {"layers": 24, "width": 512, "heads": 16, "vocab": 1025, "phones": 732, "eos": 1024}
SOVITS = {
    **{"version": "v2", "symbols": "v2", "text_phones": 732, "ssl": 768, "codes": 1024, "hidden": 192, "filter": 768},
    **{"heads": 2, "text_layers": 6, "ssl_layers": 3, "mix_layers": 3, "kernel": 3, "window": 4, "mrte_width": 512},
    **{"mrte_heads": 4, "inter": 192, "gin": 512, "ge_text_width": 512, "flows": 4, "flow_layers": 4, "flow_kernel": 5},
    **{"flow_hidden": 192, "upsample_rates": (10, 8, 2, 2, 2), "upsample_kernels": (16, 16, 8, 2, 2)},
    **{"upsample_initial": 512, "resblock": "1", "resblock_kernels": (3, 7, 11)},
    **{"resblock_dilations": ((1, 3, 5),) * 3, "ref_bins": 704, "ref_hidden": 128, "ref_kernel": 5, "ref_heads": 2},
    **{"speaker_width": None, "rate": 32000, "n_fft": 2048, "hop": 640, "window_length": 2048},
}


def page(target):
    subject = Subject("voice", "alice", "v2", True, "a" * 64)
    return " ".join(
        explain(make_plan(target, subject, versions=dict.fromkeys(code_versions(target), "1")), FULL_V2).split()
    )


def test_the_sizes_of_upstreams_v2_are_counted_from_its_dimensions():
    assert count(T2S, SOVITS) == FULL_V2
    assert FULL_V2.layer_weights + FULL_V2.head_weights == 76_022_272  # what a decode step reads


def test_a_token_reads_every_weight_once_in_the_bytes_of_its_precision():
    assert step_bytes(read_target("x86-64"), FULL_V2) == 4 * 76_022_272
    eight = step_bytes(read_target("raspberry-pi-5"), FULL_V2)
    assert eight == FULL_V2.layer_weights * (1 + 4 / 64) + 2 * FULL_V2.head_weights


@pytest.mark.parametrize("name", BUILDABLE)
def test_the_longest_sentence_of_a_target_fits_its_memory_by_the_estimate(name):
    target = read_target(name)
    has = target.device.memory_mb
    assert has is None or sum(memory_mb(target, FULL_V2).values()) <= has
    assert ("does NOT fit" in page(target)) is False


def test_a_device_that_is_too_small_is_told():
    target = read_target("raspberry-pi-4")
    small = replace(target, device=replace(target.device, memory_mb=256))
    assert "the device has 256 MB (_one-gigabyte.toml:4): does NOT fit: lower [limits] or the precision" in page(small)


def test_every_choice_has_its_reason_with_its_line():
    text = page(read_target("x86-64-int8"))
    assert (
        "7-bit weights: AVX2 without VNNI adds pairs of products in 16 bits, which 8-bit weights would saturate" in text
    )
    assert "(_cpu-int8.toml:" in text
    assert "8-bit weights: this processor" in page(read_target("x86-64-vnni"))
    text = page(read_target("raspberry-pi-5"))
    assert (
        "10 GB/s (recall, raspberry-pi-5.toml:7) allow at most 123 tokens/s, 4.9 times real time: an upper bound"
        in text
    )
    assert "left out: the voice is baked" in text
    assert "qemu-aarch64 plays a cortex-a76" in text


def test_a_voice_that_clones_is_told_why_its_conditioning_is_exact():
    target = read_target("raspberry-pi-5")
    subject = Subject("voice", "bob", "v2Pro", False, "b" * 64)
    text = explain(make_plan(target, subject, versions=dict.fromkeys(code_versions(target), "1")), FULL_V2)
    assert "prompt, reference: fp32" in text
    assert "runs once for a voice" in text


def test_every_precision_that_can_be_lowered_has_a_reason_and_a_size():
    for role, precisions in BACKEND.precisions.items():
        for precision in precisions:
            assert why(role, precision, ())
            assert 0.5 <= weight_bytes(precision) <= 4


@pytest.mark.parametrize(
    ("features", "does"),
    [
        (("avx2", "fma"), True),
        ((), True),  # nothing is known, so nothing is risked
        (("avx2", "avx512-vnni"), False),
        (("avx2", "avx-vnni"), False),
        (("neon",), False),
        (("neon", "dotprod"), False),
    ],
)
def test_processors_that_saturate_are_told_by_their_features(features, does):
    assert saturates(features) is does
