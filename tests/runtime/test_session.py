import sys

import numpy as np
import pytest

from gsvexport.backends import names, open_session
from gsvexport.errors import BackendError, EnvironmentProblem

onnx = pytest.importorskip("onnx")


@pytest.fixture
def graph(tmp_path):
    """doubled = x + x, gathered = w[i], with w as external data."""
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(4, dtype=np.float32)
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "x"], ["doubled"]), helper.make_node("Gather", ["w", "i"], ["gathered"])],
            "graph",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("i", TensorProto.INT64, ["M"]),
            ],
            [
                helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["N"]),
                helper.make_tensor_value_info("gathered", TensorProto.FLOAT, ["M"]),
            ],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    onnx.save_model(proto, tmp_path / "graph.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").stat().st_size >= weight.nbytes
    return tmp_path


def feeds(*ids):
    return {"x": np.ones(2, np.float32), "i": np.array(ids, np.int64)}


def test_a_session_returns_every_output_by_name_and_finds_external_weights(graph):
    session = open_session("onnxruntime", graph, "graph.onnx", threads=1)
    out = session.run(feeds(3, 1))
    assert set(out) == {"doubled", "gathered"}
    np.testing.assert_array_equal(out["doubled"], [2, 2])
    np.testing.assert_array_equal(out["gathered"], [3, 1])


def test_a_failure_while_running_names_the_stage_and_the_shapes(graph):
    session = open_session("onnxruntime", graph, "graph.onnx")
    with pytest.raises(BackendError, match=r"'graph'.*graph\.onnx") as caught:
        session.run(feeds(9))
    assert "i int64 [1]" in str(caught.value)
    with pytest.raises(BackendError, match="'graph'"):
        session.run({"x": np.ones(2, np.float32)})


def test_a_file_that_is_no_graph_is_named(tmp_path):
    (tmp_path / "step.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match=r"'step'.*cannot load"):
        open_session("onnxruntime", tmp_path, "step.onnx")
    with pytest.raises(BackendError, match=r"'absent'.*cannot load"):
        open_session("onnxruntime", tmp_path, "absent.onnx")


def test_a_closed_session_says_so_and_closes_twice(graph):
    session = open_session("onnxruntime", graph, "graph.onnx")
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run(feeds(0))


def test_an_unknown_backend_lists_the_known_ones(tmp_path):
    assert "onnxruntime" in names()
    with pytest.raises(BackendError, match="did you mean 'onnxruntime'"):
        open_session("onxruntime", tmp_path, "step.onnx")


def test_an_absent_runtime_is_a_problem_of_the_machine(graph, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EnvironmentProblem, match="pip install onnxruntime"):
        open_session("onnxruntime", graph, "graph.onnx")
