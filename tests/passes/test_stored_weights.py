"""What weights are stored as, and which stages use them."""

import numpy as np
import onnxruntime
from passes.graphs import graph, normal
from safetensors.numpy import load_file

from gsvexport.artifact.manifest import Weights
from gsvexport.graphs.save import APART, WEIGHTS, save_graphs, stored_weights
from gsvexport.passes.base import run_passes
from gsvexport.passes.matmul_nbits import MatMulNBits


def product(**weights):
    nodes = [("MatMul", ["x", name], [f"y_{name}"], {}) for name in weights]
    return graph(nodes, {"x": [1, 64]}, {f"y_{name}": [1, 32] for name in weights}, weights)


def test_a_shared_weight_is_counted_once_and_told_from_what_is_not_shared(tmp_path):
    shared, own = normal(64, 32, seed=1), normal(64, 32, seed=2)
    graphs = {"prefill": product(shared=shared, own=own), "step": product(shared=shared)}
    found = stored_weights(graphs)
    assert found == (Weights(("prefill",), "fp32", own.nbytes), Weights(("prefill", "step"), "fp32", shared.nbytes))
    save_graphs(tmp_path, graphs)
    header = (tmp_path / WEIGHTS).stat().st_size - sum(item.bytes for item in found)
    assert 0 < header < 1000


def test_what_some_graphs_alone_use_has_a_file_of_its_own(tmp_path):
    both, alone, other = (normal(64, 32, seed=seed) for seed in range(3))
    graphs = {
        "prefill": product(both=both, alone=alone),
        "step": product(alone=alone),
        "acoustic": product(both=both, other=other),
    }
    save_graphs(tmp_path, graphs, ["prefill", "step"])
    assert load_file(tmp_path / APART).keys() == {"alone"}
    assert load_file(tmp_path / WEIGHTS).keys() == {"both", "other"}
    x = normal(1, 64, seed=9)
    for stage, weights in {"prefill": [both, alone], "step": [alone], "acoustic": [both, other]}.items():
        session = onnxruntime.InferenceSession(tmp_path / f"{stage}.onnx")
        for found, weight in zip(session.run(None, {"x": x}), weights, strict=True):
            np.testing.assert_allclose(found, x @ weight, rtol=1e-4, atol=1e-4)


def test_blocks_of_four_bits_are_not_told_to_be_bytes():
    result = run_passes(product(w=normal(64, 32)), [MatMulNBits(4, 32)])
    kinds = {item.kind: item.bytes for item in stored_weights({"step": result.model})}
    assert kinds["int4"] == 64 * 32 // 2
