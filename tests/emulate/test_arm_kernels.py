"""Genuine aarch64 kernels, without dot products (Cortex-A72) and with them (A76), against numpy.

The graphs are a node or a few: the operators that lowered voices are made of, at their extremes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from passes import generator
from passes.graphs import graph, normal, snr
from passes.graphs import run as locally

from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.emulate import EmulatedVoice, Guest
from gsvexport.emulate.guest import RemoteDecoder
from gsvexport.emulate.verify import verify_emulated
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import run_passes
from gsvexport.passes.channels_last import ChannelsLast
from gsvexport.passes.fuse_attention import FuseStep
from gsvexport.passes.integer_conv import IntegerConv
from gsvexport.passes.matmul_nbits import MatMulNBits, quantise_blocks
from gsvexport.passes.prefill_attention import PrefillAttention
from gsvexport.passes.quantise_conv import QuantiseConv, affine, channel_scales
from gsvexport.runtime.tokens import new_decoder

FLOAT, INT32, UINT8, INT8 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8


@pytest.fixture
def run(guest: Guest, tmp_path: Path):
    """`run(model, feeds)`: every output of a graph, computed in the guest."""

    def call(model, feeds):
        proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
        onnx.checker.check_model(proto)
        (tmp_path / "graph.onnx").write_bytes(proto.SerializeToString())
        return guest.open_session("onnxruntime", tmp_path, "graph.onnx").run(feeds)

    return call


def typed(node, inputs, outputs, weights):
    """A graph of one node; ports are name → (type, shape)."""
    ports = [[helper.make_tensor_value_info(n, *port) for n, port in side.items()] for side in (inputs, outputs)]
    made = helper.make_graph([node], "node", *ports, [numpy_helper.from_array(a, n) for n, a in weights.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def convolved(x, w, pad):
    """x [1, C, 1, T] * w [O, C, 1, K] in the arrays' own type, [1, O, 1, T]."""
    padded = np.pad(x[0, :, 0], ((0, 0), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[3], axis=1)
    return np.einsum("ctk,ock->ot", windows, w[:, :, 0])[None, :, None]


def test_the_guest_is_what_it_claims(guest):
    assert guest.machine()["machine"] == "aarch64"


def test_products_of_extreme_bytes_are_exact(run):
    # 255·127 twice exceeds 16 bits: the sum that x86 without VNNI saturates in.
    a = np.full((3, 64), 255, np.uint8)
    a[1] = np.random.default_rng(0).integers(0, 256, 64)
    b = np.random.default_rng(1).choice(np.array([-127, 127], np.int8), (64, 17))
    b[:, 0], b[:, 1] = 127, -127
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    model = typed(node, {"a": (UINT8, [3, 64])}, {"y": (INT32, [3, 17])}, {"b": b})
    np.testing.assert_array_equal(run(model, {"a": a})["y"], a.astype(np.int32) @ b.astype(np.int32))


def test_an_integer_convolution_with_extreme_weights_is_exact(run):
    random = np.random.default_rng(2)
    x = random.integers(0, 256, (1, 32, 1, 50)).astype(np.uint8)
    x[..., :20] = 255
    w = random.choice(np.array([-127, 127], np.int8), (24, 32, 1, 3))
    w[0], w[1] = 127, -127
    scales = {"xs": np.float32(0.02), "ws": np.full(24, 0.01, np.float32), "ys": np.float32(16.0)}
    zeros = {"xz": np.uint8(128), "wz": np.zeros(24, np.int8), "yz": np.uint8(100)}
    bias = random.integers(-5000, 5000, 24).astype(np.int32)
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"]
    node = helper.make_node("QLinearConv", names, ["y"], pads=[0, 1, 0, 1], kernel_shape=[1, 3])
    weights = {"w": w, "bias": bias, **{n: np.asarray(v) for n, v in {**scales, **zeros}.items()}}
    model = typed(node, {"x": (UINT8, [1, 32, 1, 50])}, {"y": (UINT8, [1, 24, 1, 50])}, weights)
    total = convolved(x.astype(np.int64) - 128, w.astype(np.int64), 1) + bias[:, None, None]
    expected = np.clip(np.rint(total * (0.02 * 0.01 / 16.0)) + 100, 0, 255)
    found = run(model, {"x": x})["y"].astype(int)
    assert np.abs(found - expected).max() <= 1, "one step, where a product lies between two"
    assert np.mean(found != expected) < 0.01


def test_a_quantised_convolution_keeps_symmetric_weights(run):
    w, b = normal(24, 32, 1, 7, seed=3), normal(24, seed=4)
    w[:, 0, 0, 0] = np.where(np.arange(24) % 2, 1, -1) * 6  # every channel reaches -127 or 127
    x = np.clip(normal(1, 32, 1, 60, seed=5), -4, 4)
    exact = convolved(x.astype(np.float64), w, 3) + b[:, None, None]
    ranges = {"x": (-4.0, 4.0), "y": (float(exact.min()), float(exact.max()))}
    plain = graph(
        [("Conv", ["x", "w", "b"], ["y"], {"pads": [0, 3, 0, 3], "kernel_shape": [1, 7]})],
        {"x": [1, 32, 1, 60]},
        {"y": [1, 24, 1, 60]},
        {"w": w, "b": b},
    )
    found = run(run_passes(plain, [QuantiseConv(ranges, 8)]).model, {"x": x})
    scale, zero = affine(*ranges["x"])
    x_hat = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    columns = channel_scales(w, 127).reshape(-1, 1, 1, 1)
    integers = np.rint(w / columns)
    assert (np.abs(integers).max(axis=(1, 2, 3)) == 127).all()
    expected = convolved(x_hat.astype(np.float64), integers * columns, 3) + b[:, None, None]
    step, zero = affine(*ranges["y"])
    (y,) = found.values()
    assert np.abs(y - np.clip(expected, -zero * step, (255 - zero) * step)).max() <= 1.01 * step
    assert snr(y, exact) > 30


@pytest.mark.parametrize("width", [32, 20])
def test_an_integer_generator_with_channels_last_gives_what_it_gives_here(run, width):
    model = generator.vocoder(width=width)
    integers = generator.pairs(model, wide=generator.up(model))
    last = run_passes(integers, [ChannelsLast()]).model
    here, there = locally(last, {"in": generator.X})["y"], run(last, {"in": generator.X})["y"]
    # Where a product lies between two steps, the nearer one may be another.
    assert np.abs(there - here).max() <= 2.01 * np.diff(np.unique(here)).min()
    assert np.mean(there != here) < 0.05


def test_a_channels_last_convolution_with_extreme_weights_is_exact(run):
    random = np.random.default_rng(7)
    x = random.integers(0, 256, (1, 50, 32)).astype(np.uint8)
    x[:, :20] = 255
    w = random.choice(np.array([-127, 127], np.int8), (24, 32, 3))
    w[0], w[1] = 127, -127
    scales = {"xs": np.float32(0.02), "ws": np.full(24, 0.01, np.float32), "ys": np.float32(16.0)}
    zeros = {"xz": np.uint8(128), "wz": np.zeros(24, np.int8), "yz": np.uint8(100)}
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    window = {"pads": [1, 1], "kernel_shape": [3], "channels_last": 1}
    node = helper.make_node("QLinearConv", names, ["y"], domain="com.microsoft", **window)
    weights = {"w": w, **{n: np.asarray(v) for n, v in {**scales, **zeros}.items()}}
    model = typed(node, {"x": (UINT8, [1, 50, 32])}, {"y": (UINT8, [1, 50, 24])}, weights)
    turned = (x.astype(np.int64) - 128).transpose(0, 2, 1)[:, :, None]
    total = convolved(turned, w.astype(np.int64)[:, :, None], 1)[0, :, 0].T
    expected = np.clip(np.rint(total * (0.02 * 0.01 / 16.0)) + 100, 0, 255)
    found = run(model, {"x": x})["y"][0].astype(int)
    assert np.abs(found - expected).max() <= 1, "one step, where a product lies between two"
    assert np.mean(found != expected) < 0.01


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(("bits", "block", "expected"), [(4, 32, 36), (4, 128, 36), (8, 32, 36), (8, 128, 36)])
def test_products_with_block_weights(run, bits, block, expected, rows):
    # accuracy_level 4: the activations of a block are rounded to 8 bits, which costs about 40 dB; weights cost nothing
    # here, because the reference has the same ones. Without dot products another kernel runs.
    w = normal(256, 48, seed=6)
    w[::block] *= 5
    x = normal(1, rows, 256, seed=7)
    plain = graph([("MatMul", ["x", "w"], ["y"], {})], {"x": [1, "T", 256]}, {"y": [1, "T", 48]}, {"w": w})
    found = run(run_passes(plain, [MatMulNBits(bits, block)]).model, {"x": x})
    q, scales = quantise_blocks(w, bits, block)
    assert q.min() == -(2 ** (bits - 1) - 1)
    assert q.max() == 2 ** (bits - 1) - 1
    reference = x.astype(np.float64) @ (q * scales[..., None].astype(np.float64)).reshape(48, 256).T
    assert snr(next(iter(found.values())), reference) > expected


@pytest.mark.parametrize("past", [1, 7, 33])
def test_attention_on_a_shared_cache_reads_the_rows_that_are_there(run, past):
    heads, width, room = 4, 16, 40
    qkv = normal(1, 1, 3 * heads * width, seed=8)
    cache = {name: normal(1, heads, room, width, seed=seed) for name, seed in (("k", 9), ("v", 10))}
    for array in cache.values():
        array[:, :, past:] = 1e3  # what must not be read
    names = ["qkv", "", "", "k", "v", "last", "total"]
    attributes = {"num_heads": heads, "kv_num_heads": heads, "scale": 1.0, "domain": "com.microsoft"}
    node = helper.make_node("GroupQueryAttention", names, ["y", "new_k", "new_v"], **attributes)
    shape = (FLOAT, [1, heads, room, width])
    inputs = {"qkv": (FLOAT, [1, 1, qkv.size]), "k": shape, "v": shape, "last": (INT32, [1])}
    outputs = {"y": (FLOAT, [1, 1, heads * width]), "new_k": shape, "new_v": shape}
    model = typed(node, inputs, outputs, {"total": np.array([past + 1], np.int32)})
    found = run(model, {"qkv": qkv, **cache, "last": np.array([past], np.int32)})
    q, k, v = qkv.reshape(3, heads, 1, width)
    keys, values = (np.concatenate([cache[n][0, :, :past], row], axis=1) for n, row in (("k", k), ("v", v)))
    scores = q @ keys.transpose(0, 2, 1)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    expected = (weights / weights.sum(axis=-1, keepdims=True) @ values).reshape(-1)
    np.testing.assert_allclose(found["y"].reshape(-1), expected, atol=1e-5)
    np.testing.assert_allclose(found["new_k"][0, :, : past + 1], keys, atol=1e-6)


def test_a_fused_decoder_writes_its_cache_in_place(guest, tmp_path):
    plain, heads, width = t2s_graphs()
    fused = {
        "prefill": run_passes(plain["prefill"], [PrefillAttention(heads, width)]).model,
        "step": run_passes(plain["step"], [FuseStep(heads, width)]).model,
    }
    random = np.random.default_rng(0)
    feeds = {
        "phones": random.integers(0, 700, (1, 9)),
        "bert": normal(1, 1024, 9),
        "prompt": random.integers(0, 1024, (1, 6)),
    }
    for name, graphs in (("plain", plain), ("fused", fused)):
        (tmp_path / name).mkdir()
        save_graphs(tmp_path / name, graphs)
    here = new_decoder(*(open_session(tmp_path / "plain" / f"{stage}.onnx", threads=1) for stage in plain))
    there = RemoteDecoder(*(guest.open_session("onnxruntime", tmp_path / "fused", f"{stage}.onnx") for stage in fused))
    logits = [decoder.prefill(**feeds) for decoder in (here, there)]
    for position in range(6, 46):
        np.testing.assert_allclose(logits[1], logits[0], atol=5e-5)
        token = int(logits[0][:1024].argmax())
        logits = [decoder.step(token, position) for decoder in (here, there)]


def test_a_step_of_flow_matching_on_integers_gives_what_it_gives_here(guest, tmp_path):
    from gsvexport.backends.onnxruntime import dynamic
    from gsvexport.compiler.source import write_source
    from gsvexport.passes.dynamic_rows import many_rows
    from gsvexport.passes.fuse_matching import FuseMatching
    from gsvexport.passes.once_a_sentence import SINGLE, Separate
    from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS
    from gsvexport.synthetic import write_voice
    from gsvexport.voice.voice import read_voice

    write_voice(tmp_path / "voice", "v4")
    source = write_source(read_voice(tmp_path / "voice"), tmp_path / "source")
    plain = run_passes(ir.load(source.path / source.model.files["cfm"]), [FuseMatching(), Separate()]).model
    products = [str(node.name) for node in many_rows(plain, SINGLE)]
    lowered = run_passes(plain, dynamic.dynamic("cfm", ["neon"], products, [])).model
    (tmp_path / "lowered").mkdir()
    save_graphs(tmp_path / "lowered", {"cfm": lowered})
    widths = {"state": MEL_BANDS, "prompt_mel": MEL_BANDS, "fea": FEATURE_WIDTH}
    feeds = {name: normal(1, width, 24, seed=seed) for seed, (name, width) in enumerate(widths.items())}
    feeds |= {"time": np.array([0.25], np.float32), "span": np.array([0.125], np.float32)}
    here = open_session(tmp_path / "lowered" / "cfm.onnx", threads=1)
    there = guest.open_session("onnxruntime", tmp_path / "lowered", "cfm.onnx")
    assert snr(there.run(feeds)["velocity"], here.run(feeds)["velocity"]) > 40


def test_integer_convolutions_of_frames(run):
    nodes = [
        ("Conv", ["x", "w", "b"], ["y"], {"kernel_shape": [5], "pads": [2, 2]}),
        ("Conv", ["y", "v"], ["z"], {"kernel_shape": [3], "pads": [1, 1]}),
    ]
    weights = {"w": normal(72, 24, 5, seed=1), "b": normal(72, seed=2), "v": normal(24, 72, 3, seed=3)}
    plain = graph(nodes, {"x": [1, 24, "T"]}, {"z": [1, 24, "T"]}, weights)
    lowered = run_passes(plain, [IntegerConv(("Conv-y", "Conv-z"))]).model
    feeds = {"x": normal(1, 24, 50, seed=4)}
    here, there = locally(lowered, feeds)["z"], run(lowered, feeds)["z"]
    np.testing.assert_allclose(there, here, rtol=1e-5, atol=1e-5)
    assert snr(there, locally(plain, feeds)["z"]) > 33


def t2s_graphs():
    """(prefill, step) of a small random network, with its heads and width."""
    from gsvexport.graphs import t2s
    from gsvexport.graphs.builder import GraphBuilder, Weights
    from gsvexport.graphs.layers import Tensors
    from gsvexport.stages import stages
    from gsvexport.synthetic.sizes import voice_sizes
    from gsvexport.synthetic.weights import t2s_weights
    from gsvexport.voice.dims import T2SDims

    dims = T2SDims(layers=2, width=64, heads=4, vocab=1025, phones=732, eos=1024)
    tensors = Tensors("gpt", t2s_weights(voice_sizes("v2", "tiny", t2s_layers=2, t2s_width=64, t2s_heads=4), 0))
    weights = Weights()
    graphs = {
        stage: make(GraphBuilder(stages("v2")[stage], weights), tensors, dims)
        for stage, make in (("prefill", t2s.prefill), ("step", t2s.step))
    }
    return graphs, dims.heads, dims.width


@pytest.mark.thorough  # a minute; the next one speaks on a core
def test_a_tiny_voice_passes_its_verification_on_the_core_of_its_target(emulator, artifact):
    report = verify_emulated(artifact, emulator=lambda: emulator, timeout=120)
    assert report.passed, report.table()
    assert report.emulated == "cortex-a72"


def test_a_tiny_voice_says_on_another_core_what_it_says_here(emulator, artifact):
    import gsvexport
    from gsvexport.artifact.container import unpacked

    said = {"phones": [9, 40, 31], "prompt": [], "seed": 3, "max_tokens": 8, "noise_scale": 0.3}
    folder = unpacked(artifact)
    with (
        gsvexport.load(folder, threads=1, any_machine=True) as here,
        Guest(emulator, "cortex-a76", timeout=120) as guest,
        EmulatedVoice(folder, guest) as there,
    ):
        expected, found = (voice.synthesize(**said) for voice in (here, there))
    assert found.samples.shape == expected.samples.shape
    assert snr(found.samples, expected.samples) > 80


@pytest.mark.thorough  # the test above speaks there, too
def test_the_command_line_speaks_on_a_device_of_another_architecture(emulator, artifact, tmp_path):
    out = tmp_path / "said.wav"
    said = ["say", str(artifact), "--phones", "9 40", "--no-prompt", "--max-tokens", "4", "-o", str(out)]
    command, environment = emulator.command("cortex-a76", ["-m", "gsvexport", *said, "--threads", "1"])
    environment["GSVEXPORT_CACHE"] = str(tmp_path / "cache")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_size > 4 * 1280 * 2 * 0.9
