"""Products of many rows on integers, by the bytes that the product of one row has."""

import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run, snr
from safetensors.numpy import load_file

from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.graphs.save import save_graphs, stored_weights
from gsvexport.passes.base import run_passes
from gsvexport.passes.integer_rows import IntegerRows
from gsvexport.passes.matmul_nbits import MatMulNBits
from gsvexport.passes.signed_bytes import SignedBytes


def product(rows, columns=32):
    return graph(
        [("MatMul", ["x", "w"], ["y"], {})],
        {"x": [1, "T", rows]},
        {"y": [1, "T", columns]},
        {"w": normal(rows, columns)},
    )


def lowered(model):
    return run_passes(model, [MatMulNBits(8, 32, columns=True), IntegerRows(), SignedBytes()]).model


@pytest.mark.parametrize("rows", [64, 80])  # 80 fills no whole number of blocks
def test_signal_to_noise_is_that_of_eight_bits(rows):
    before = product(rows)
    x = normal(1, 9, rows, seed=1) * np.float32(10.0) ** np.arange(-4, 5, dtype=np.float32)[None, :, None]
    wanted, found = (run(model, {"x": x})["y"] for model in (before, lowered(before)))
    for row in range(9):  # each has its own scale: a quiet one beside a loud one loses nothing
        assert snr(found[:, row], wanted[:, row]) > 35


def test_a_row_of_zeros_gives_zeros():
    x = normal(1, 3, 64)
    x[0, 1] = 0
    assert (run(lowered(product(64)), {"x": x})["y"][0, 1] == 0).all()


def test_a_row_has_the_same_bits_alone_and_beside_others():
    model, x = lowered(product(64)), normal(1, 200, 64)
    whole = run(model, {"x": x})["y"]
    for row in (0, 7, 199):
        assert np.array_equal(run(model, {"x": x[:, row : row + 1]})["y"][0, 0], whole[0, row])


def test_the_weights_are_stored_once_with_those_of_one_row(tmp_path):
    one = run_passes(product(64), [MatMulNBits(8, 32, columns=True)]).model
    graphs = {"one": one, "many": lowered(product(64))}
    save_graphs(tmp_path, graphs)
    assert sorted(load_file(tmp_path / "weights.safetensors")) == ["w:q8b32c", "w:q8b32c.scales"]
    (weights,) = [entry for entry in stored_weights(graphs) if entry.kind == "int8"]
    assert (weights.stages, weights.bytes) == (("many", "one"), 64 * 32)
    x = normal(1, 5, 64)
    sessions = {name: open_session(tmp_path / f"{name}.onnx") for name in graphs}
    found = {name: session.run({"x": x})["y"] for name, session in sessions.items()}
    assert snr(found["many"], found["one"]) > 35


@pytest.mark.parametrize("pass_", [MatMulNBits(8, 32), MatMulNBits(4, 32, columns=True)])
def test_blocks_with_scales_of_their_own_and_four_bits_stay(pass_):
    assert operators(run_passes(product(64), [pass_, IntegerRows()]).model) == {"MatMulNBits": 1}
