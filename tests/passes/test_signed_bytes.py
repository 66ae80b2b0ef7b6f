"""Products of the largest bytes, which overflow 16 bits in pairs, beside sums of whole numbers in numpy."""

import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from gsvexport.artifact.manifest import SIGNED
from gsvexport.backends.onnxruntime import exact, recipes
from gsvexport.backends.onnxruntime.session import open_session
from gsvexport.errors import EnvironmentProblem
from gsvexport.passes.base import run_passes
from gsvexport.passes.signed_bytes import SignedBytes, UnsignedBytes
from gsvexport.untrusted.external import properties_once

FLOAT, UINT8 = TensorProto.FLOAT, TensorProto.UINT8
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.integers(0, 256, (5, 64)).astype(np.uint8)
MATRIX = RANDOM.choice(np.array([-127, 127, 3], np.int8), (64, 12))


def model(nodes, inputs, outputs, constants):
    """Ports are name → (type, shape); nodes as `helper.make_node` takes them."""
    ports = [[helper.make_tensor_value_info(n, *port) for n, port in side.items()] for side in (inputs, outputs)]
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(
        helper.make_model(helper.make_graph(nodes, "g", *ports, initializers), opset_imports=opsets, ir_version=8)
    )


def rows(*, zeros=True, computed=False):
    """(a - 128) · b as `dynamic_rows` writes it; b is computed as `integer_rows` has it, or a constant."""
    constants = {"one": np.float32(1), "ones": np.ones(12, np.float32), "mid": np.uint8(128), "zero": np.int8(0)}
    nodes, inputs = [], {"a": (UINT8, ["M", 64])}
    if computed:
        inputs["f"] = (FLOAT, [12, 64])
        nodes += [helper.make_node("QuantizeLinear", ["f", "one", "zero"], ["q"], name="quantise")]
        nodes += [helper.make_node("Transpose", ["q"], ["b"], name="turn", perm=[1, 0])]
    else:
        constants["b"] = MATRIX
    parts = ["a", "b", "one", "ones", "mid"] + (["zeros"] if zeros else [])
    constants |= {"zeros": np.zeros(12, np.int8)} if zeros else {}
    nodes += [helper.make_node("MatMulIntegerToFloat", parts, ["y"], name="product", domain="com.microsoft")]
    return model(nodes, inputs, {"y": (FLOAT, ["M", 12])}, constants)


def branch():
    """The product in a branch, as `once_a_sentence` has it."""
    inner = ir.to_proto(rows()).graph
    del inner.input[:]
    other = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["shape"], ["none"])],
        "other",
        [],
        [helper.make_tensor_value_info("none", FLOAT, ["N", 12])],
        [numpy_helper.from_array(np.array([0, 12]), "shape")],
    )
    node = helper.make_node("If", ["when"], ["y"], then_branch=inner, else_branch=other, name="if")
    inputs = {"a": (UINT8, ["M", 64]), "when": (TensorProto.BOOL, [])}
    return model([node], inputs, {"y": (FLOAT, ["N", 12])}, {})


def convolution(shift=0):
    """y = x * w in whole numbers, [1, T, C]; `shift` is the zero point of the weights, as `channels_last` has it."""
    weight = MATRIX[:16].T.reshape(12, 16, 1)
    constants = {"one": np.float32(1), "x0": np.uint8(0), "w": weight, "large": np.float32(1e4), "y0": np.uint8(128)}
    constants |= {"ones": np.ones(12, np.float32), "w0": np.full(12, shift, np.int8)}
    parts = ["x", "one", "x0", "w", "ones", "w0", "large", "y0"]
    node = helper.make_node("QLinearConv", parts, ["y"], name="conv", domain="com.microsoft", channels_last=1)
    return model([node], {"x": (UINT8, [1, "T", 16])}, {"y": (UINT8, [1, "T", 12])}, constants)


def computed(graph, feeds):
    import onnxruntime

    proto = ir.to_proto(run_passes(graph, [UnsignedBytes()]).model)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def product(a=ROWS, b=MATRIX):
    return (a.astype(int) - 128) @ b.astype(int)


@pytest.mark.parametrize("zeros", [True, False])
def test_rows_by_a_constant_are_exact(zeros):
    np.testing.assert_array_equal(computed(rows(zeros=zeros), {"a": ROWS}), product())


def test_rows_by_what_is_computed_are_exact():
    feeds = {"a": ROWS, "f": MATRIX.T.astype(np.float32)}
    np.testing.assert_array_equal(computed(rows(zeros=False, computed=True), feeds), product())


def test_a_product_in_a_branch_is_exact():
    found = computed(branch(), {"a": ROWS, "when": np.array(True)})
    np.testing.assert_array_equal(found, product())


@pytest.mark.parametrize("shift", [0, -1])
def test_a_convolution_is_exact(shift):
    x = ROWS[None, :, :16]
    whole = x[0].astype(int) @ (MATRIX[:16].astype(int) - shift)
    want = np.clip(np.rint(whole / 1e4) + 128, 0, 255)
    np.testing.assert_array_equal(computed(convolution(shift), {"x": x})[0], want)


def test_a_graph_says_that_it_has_signed_bytes_where_a_target_does_not_saturate(tmp_path):
    for graph in (rows(), rows(zeros=False, computed=True), branch(), convolution()):
        marked = run_passes(graph, [SignedBytes()]).model
        onnx.save(ir.to_proto(marked), tmp_path / "graph.onnx")
        assert properties_once(tmp_path / "graph.onnx") == {SIGNED: "8"}
        done = run_passes(marked, [UnsignedBytes()]).model
        assert run_passes(done, [SignedBytes()]).applied[0][1].changes == 0
    names = [[one.name for one in recipes.quantised({}, features, ())] for features in (["avx2"], ["dotprod"])]
    assert [SignedBytes.name in one for one in names] == [False, True]


def test_it_is_opened_in_its_exact_form_where_kernels_overflow(tmp_path, monkeypatch):
    onnx.save(ir.to_proto(run_passes(rows(), [SignedBytes()]).model), tmp_path / "graph.onnx")
    monkeypatch.setattr(exact, "overflows", lambda: True)
    np.testing.assert_array_equal(open_session(tmp_path / "graph.onnx").run({"a": ROWS})["y"], product())
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(EnvironmentProblem, match="this one's kernels for signed bytes overflow") as caught:
        open_session(tmp_path / "graph.onnx")
    assert "gsvexport[compile]" in str(caught.value.fix)


def test_what_overflows_is_measured():
    graph = ir.to_proto(rows())
    import onnxruntime

    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    assert exact.overflows() == bool((session.run(None, {"a": ROWS})[0] != product()).any())
