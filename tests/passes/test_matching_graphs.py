"""Flow matching as it is lowered: fused, without what its steps share, and on integers; a tiny v4 voice."""

import threading

import numpy as np
import onnx_ir as ir
import pytest
from passes.graphs import operators

from gsvexport.backends.onnxruntime import dynamic, matching
from gsvexport.backends.onnxruntime.recipes import recipe
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.calibrate import Settings, calibrate
from gsvexport.compiler.source import write_source
from gsvexport.errors import PassError
from gsvexport.graphs.save import save_graphs
from gsvexport.passes.base import run_passes
from gsvexport.passes.dynamic_rows import DynamicRows, many_rows
from gsvexport.passes.fuse_matching import FuseMatching
from gsvexport.passes.once_a_sentence import SINGLE, OnceASentence, Separate
from gsvexport.passes.signed_bytes import SignedBytes
from gsvexport.stages import FEATURE_WIDTH, MEL_BANDS
from gsvexport.synthetic import write_voice
from gsvexport.verify.tensors import snr_db
from gsvexport.voice.voice import read_voice

FLOAT = [FuseMatching(), Separate()]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v4")
    write_voice(folder / "voice", "v4", seed=5)
    return write_source(read_voice(folder / "voice"), folder / "source")


@pytest.fixture(scope="module")
def plain(source):
    return ir.load(source.path / source.model.files["cfm"])


@pytest.fixture(scope="module")
def expected(source):
    """The source's own graph."""
    session = open_session(source.path / source.model.files["cfm"], threads=1)
    yield lambda feeds: session.run(feeds)["velocity"]
    session.close()


def opened(model, folder):
    save_graphs(folder, {"cfm": model})
    return open_session(folder / "cfm.onnx", threads=1)


def step(count, seed=0, time=0.25):
    random = np.random.default_rng(seed)
    ports = (("state", MEL_BANDS), ("prompt_mel", MEL_BANDS), ("fea", FEATURE_WIDTH))
    arrays = {name: random.standard_normal((1, width, count), dtype=np.float32) for name, width in ports}
    return {**arrays, "time": np.array([time], np.float32), "span": np.array([0.125], np.float32)}


def test_one_operator_each_and_common_parts_once_are_the_sources_step(source, plain, expected, tmp_path, monkeypatch):
    lowered = run_passes(plain, recipe("cfm", "acoustic", "fp32", source.model, [])).model
    found = operators(lowered)
    assert (found["MultiHeadAttention"], found["RotaryEmbedding"], found["FastGelu"]) == (2, 4, 2)
    assert not found["Softmax"] + found["Erf"] + found["ReduceL2"]  # GELU and response norm of the text run once
    session, asked = opened(lowered, tmp_path), []
    assert isinstance(session, matching.MatchingStep)
    some = session.some
    monkeypatch.setattr(session, "some", lambda feeds, outputs: asked.append(tuple(outputs)) or some(feeds, outputs))
    feeds = step(40)
    both, moment, known = ("new_known", "new_moment"), ("new_moment",), ("new_known",)
    other = {**feeds, "state": feeds["state"][..., ::-1].copy()}
    for given, computed in (
        (feeds, both),
        (other, ()),
        ({**other, "time": np.array([0.5], np.float32)}, moment),
        (feeds, ()),
        ({**feeds, "fea": feeds["fea"] * 0}, known),  # guidance asks for both, in turn
        (feeds, ()),
        (step(7), known),
        (step(1024, seed=3), known),
    ):
        np.testing.assert_allclose(session.run(given)["velocity"], expected(given), rtol=0, atol=2e-5)
        assert asked.pop() == ("velocity", *computed)
    feeds["fea"] += 1  # whoever changes his own array gets what belongs to it
    np.testing.assert_allclose(session.run(feeds)["velocity"], expected(feeds), rtol=0, atol=2e-5)
    assert asked.pop() == ("velocity", *known)
    for value in range(matching._TIMES + 3):
        session.run({**feeds, "time": np.array([value / 100], np.float32)})
    assert len(session._moment._held) == matching._TIMES


def test_threads_share_a_step(source, plain, expected, tmp_path):
    session = opened(run_passes(plain, recipe("cfm", "acoustic", "fp16", source.model, [])).model, tmp_path)
    given = [step(20 + seed, seed, time=seed / 10) for seed in range(6)]
    wanted, found = [expected(one) for one in given], [[] for _ in given]

    def speak(number):
        for _ in range(5):
            found[number].append(session.run(given[number])["velocity"])

    threads = [threading.Thread(target=speak, args=(number,)) for number in range(len(given))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outputs, want in zip(found, wanted, strict=True):
        assert min(snr_db(want, one) for one in outputs) > 45
        assert len(outputs) == 5


@pytest.mark.parametrize(("features", "least"), [(["avx512-vnni"], 30), (["avx2"], 25)])
def test_integers_with_a_range_for_each_row(plain, expected, tmp_path, features, least):
    float_form = run_passes(plain, FLOAT).model
    nodes = [str(node.name) for node in many_rows(float_form, SINGLE)]
    assert all(not name.startswith("moment/") for name in nodes)  # one row, whose weights are all that costs
    lowered = run_passes(float_form, dynamic.dynamic("cfm", features, nodes, [])).model
    assert operators(lowered)["MatMulIntegerToFloat"] > 0
    largest = 63 if features == ["avx2"] else 127  # where pairs of products are added in 16 bits
    weights = [v.const_value.numpy() for name, v in lowered.graph.initializers.items() if name.endswith((":r7", ":r8"))]
    assert weights
    assert max(np.abs(one.astype(int)).max() for one in weights) == largest
    feeds = step(60)
    assert snr_db(expected(feeds), opened(lowered, tmp_path).run(feeds)["velocity"]) > least


def product(rows, weight, bias):
    """(x·W + b) as a graph, and as one with integers, of which x has its ranges."""
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1, "M", weight.shape[0]]))
    w, b = (
        ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in (("w", weight), ("b", bias))
    )
    multiplied = ir.node("MatMul", [x, w], name="product")
    added = ir.node("Add", [multiplied.outputs[0], b], name="sum")
    y = added.outputs[0]
    y.name, y.type, y.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([1, "M", weight.shape[1]])
    graph = ir.Graph([x], [y], nodes=[multiplied, added], initializers=[w, b], opset_imports={"": 17}, name="one")
    return run_passes(ir.Model(graph, ir_version=8), [DynamicRows(("product",)), SignedBytes()]).model


def test_a_loud_row_does_not_coarsen_the_others(tmp_path):
    random = np.random.default_rng(1)
    weight, bias = random.standard_normal((64, 32), dtype=np.float32), np.ones(32, np.float32)
    save_graphs(tmp_path, {"one": product(3, weight, bias)})
    session = open_session(tmp_path / "one.onnx", threads=1)
    x = random.standard_normal((1, 4, 64), dtype=np.float32)
    x[:, 3] = 0
    alone, beside = session.run({"x": x})["y"], None
    louder = x.copy()
    louder[:, 1] *= 1e4
    beside = session.run({"x": louder})["y"]
    np.testing.assert_array_equal(alone[:, [0, 2, 3]], beside[:, [0, 2, 3]])
    np.testing.assert_array_equal(alone[:, 3], np.ones((1, 32)))  # a row of zeros
    assert snr_db(x @ weight + bias, alone) > 30


def test_groups_go_back_to_floats_until_the_gates_are_kept(source, plain):
    path, float_form = source.path / source.model.files["cfm"], run_passes(plain, FLOAT).model
    feeds, features = [step(30, 1)], ["avx512-vnni"]

    def limited(limit):
        return lambda pairs: max(10 ** ((limit - snr_db(*pair)) / 20) for pair in pairs)

    def quantised(limit):
        return dynamic.quantise("cfm", path, float_form, feeds, features, limited(limit))

    whole = quantised(20).decisions
    assert [(one.name, one.precision) for one in whole.groups] == [("all", "int8")]
    assert whole.groups[0].alone == whole.reached < whole.allowed
    reached = 20 - 20 * np.log10(whole.reached)  # dB, of all groups together
    some = quantised(reached - 1)
    kinds = {one.name: one.precision for one in some.decisions.groups}
    assert set(kinds) == {"text", "input", "scores", "values", "feed-forward", "output"}
    assert set(kinds.values()) == {"int8", "float"}
    assert some.decisions.reached <= some.decisions.allowed < max(one.alone for one in some.decisions.groups) + 0.4
    assert operators(some.model)["MatMul"] > 0  # of weights stored as float16
    hopeless = quantised(200).decisions
    assert {one.precision for one in hopeless.groups} == {"float"}
    assert hopeless.reached > 1  # and verification will refuse it


def test_what_was_not_made_ready_is_refused(plain):
    with pytest.raises(PassError, match="values lead from features and prompt"):
        run_passes(plain, [OnceASentence()])


def test_calibration_shortens_the_prompt_that_every_step_attends_to(source):
    result = calibrate(source.path, Settings(sentences=2, lengths=(8,)), threads=1)
    known = [np.flatnonzero(np.abs(one["prompt_mel"]).max(axis=(0, 1))) for one in result.feeds["cfm"]]
    assert [one.max() + 1 for one in known] == [64, 64]
    assert all(one["state"].shape[2] > 64 for one in result.feeds["cfm"])
