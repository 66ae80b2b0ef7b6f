"""One suite for NVIDIA's own library and for the double of it, up to the point where a GPU is needed: both refuse the
same with the same kind of failure. And the static checker beside the real parser, on the one-node graphs of its rules.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import test_check_rules as rules
from real_parser import asked, forked

from gsvexport.backends.tensorrt import builder, rtx
from gsvexport.backends.tensorrt.check import check
from gsvexport.backends.tensorrt.cuda import Unjudged
from gsvexport.backends.tensorrt.engine import Engine
from gsvexport.backends.tensorrt.rules import GRAPH_KINDS, NODE_KINDS
from gsvexport.backends.tensorrt.table import operators

HERE = Path(__file__).resolve().parent
REAL = rtx.installed()[1] == ""
needs_library = pytest.mark.skipif(not REAL, reason=rtx.installed()[1] or "-")
SUM = "(float[1,S,4] x, float[1,S,4] y) => (float[1,S,4] z) { z = Add(x, y) }"
GOOD = {"x": [[1, 1, 4], [1, 3, 4], [1, 9, 4]], "y": [[1, 1, 4], [1, 3, 4], [1, 9, 4]]}


@pytest.fixture(params=["the double", pytest.param("tensorrt_rtx", marks=needs_library)])
def trt(request):
    if request.param == "tensorrt_rtx":
        return rtx.adapter(["8.9"])
    request.getfixturevalue("device")(version="11.4.1")
    return sys.modules["tensorrt"]


def graph(text, opset=20):
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> g {text}')


def real(trt):
    return trt.__version__.startswith("1.")


def ask(trt, model, profiles, tmp_path, **more):
    """What `builder.build` returns for a graph (a file or a model), or the `Refused` that it raises."""
    path = model
    if not isinstance(model, Path):
        path = tmp_path / "graph.onnx"
        path.write_bytes(model.SerializeToString())
    shapes = [{"name": f"p{index}", "shapes": one} for index, one in enumerate(profiles)]
    request = {"graph": str(path), "strong": True, "half": True, "single": [], "workspace": 0, "level": None}
    request |= {"timing_cache": "", "plan": str(tmp_path / "engine.plan"), "profiles": shapes}

    def work():
        try:
            return builder.build(trt, {**request, **more}, lambda text: None)
        except builder.Refused as error:
            return [error.kind, error.problems]

    found = forked(work) if real(trt) else work()  # what kills the library kills no test
    return builder.Refused(*found) if isinstance(found, list) else found


def refused(answer, kind, text):
    """Whether it is refused as `kind`, with `text` in what a user reads, and nothing of the GPU that is not there."""
    assert isinstance(answer, builder.Refused), answer
    assert answer.kind == kind
    said = "\n".join(answer.problems)
    assert text in said
    assert "cudaError" not in said
    assert "Invalid Node" not in said
    return said


def test_a_graph_with_profiles_for_all_that_is_dynamic_is_built(trt, tmp_path):
    answer = ask(trt, graph(SUM), [GOOD, GOOD], tmp_path)
    assert answer["layers"] >= 1
    assert answer["timing_cache"] == ""
    assert answer["cpu"] >= 0
    assert (tmp_path / "engine.plan").stat().st_size > 0


@pytest.mark.parametrize(
    ("profiles", "text"),
    [
        ([], "no optimization profile has been defined"),
        ([GOOD, {"x": GOOD["x"]}], "Dynamic input tensor y is missing dimensions in profile 1"),
        ([{}], "Dynamic input tensor x is missing dimensions in profile 0"),
        ([{**GOOD, "x": [[1, 1], [1, 3], [1, 9]]}], "x has 3 dimensions but profile 0 has 2 dimensions"),
        ([{**GOOD, "x": [[1, 1, 5], [1, 3, 5], [1, 9, 5]]}], "Dimension mismatch for tensor x and profile 0"),
        ([{**GOOD, "x": [[1, 5, 4], [1, 3, 4], [1, 9, 4]]}], "profile p0 is not valid"),
        ([{**GOOD, "x": [[1, 5, 4], [1, 3, 4], [1, 9, 4]]}], "Invalid optimization profiles for input tensors x"),
        ([{**GOOD, "y": [[1, 1, 4], [1, 4, 4], [1, 9, 4]]}], "Profile kOPT values are not self-consistent"),
        ([{**GOOD, "w": GOOD["x"]}], "names w, which the network has not"),
        ([{**GOOD, "x": [[1, -1, 4], [1, 3, 4], [1, 9, 4]]}], "Shape provided for min is inconsistent"),
    ],
)
def test_profiles_that_do_not_fit_are_refused_when_an_engine_is_built(trt, tmp_path, profiles, text):
    refused(ask(trt, graph(SUM), profiles, tmp_path), "graph", text)
    assert not (tmp_path / "engine.plan").exists()


@pytest.mark.parametrize(
    ("text", "node", "said"),
    [
        ("(float[4] x, float16[4] y) => (float[4] z) { [plus] z = Add(x, y) }", "plus", "must have same input types"),
        ("(float[4] x) => (float[4] z) { [odd] z = Frobnicate(x) }", "odd", "Plugin not found"),
        ("(float[4] x) => (float[4] z) { [gone] z = Relu(q) }", "gone", "Node input was not registered"),
        ("(float[9,4] x, float[2] i) => (float[2,4] z) { [row] z = Gather(x, i) }", "", "must have"),
    ],
)
def test_graphs_that_no_parser_takes_are_refused_with_the_node(trt, tmp_path, text, node, said):
    told = refused(ask(trt, graph(text), [], tmp_path), "graph", said)
    assert node in told


def test_flags_that_a_release_does_not_know_give_no_network(trt):
    logger = builder.make_logger(trt)
    assert trt.Builder(logger).create_network(1 << 5) is None
    assert "API Usage Error" in logger.errors()[0]
    assert trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)) is not None


@pytest.mark.parametrize(
    ("change", "spoilt"),
    [(lambda data: data, False), (lambda data: b"garbage " * 99, True), (lambda data: data[: len(data) // 2], True)],
)
def test_a_plan_that_cannot_be_opened_is_spoilt_only_where_it_is_the_plan(trt, tmp_path, monkeypatch, change, spoilt):
    if not real(trt):  # which opens everything, unless it is told otherwise
        script = json.loads(Path(os.environ["TENSORRT_DOUBLE"]).read_text())
        Path(os.environ["TENSORRT_DOUBLE"]).write_text(json.dumps({**script, "unopened": ["graph"]}))
    assert not isinstance(ask(trt, graph(SUM), [GOOD], tmp_path), builder.Refused)
    plan = tmp_path / "engine.plan"
    plan.write_bytes(change(plan.read_bytes()))
    space = SimpleNamespace(cuda=None, lock=None, stream=0)

    def work():
        try:
            Engine(plan, {"name": "graph", "profiles": []}, space, trt)
        except Unjudged as error:
            return {"spoilt": error.spoilt, "fix": error.fix, "problems": list(error.problems)}
        return {"spoilt": None}

    found = forked(work) if real(trt) else work()
    assert found["spoilt"] is spoilt, found
    assert ("built again" in found["fix"]) is spoilt
    assert found["problems"]


# --- the graphs of a real artifact ----------------------------------------------------------------------------------


def recipe(folder, engine):
    return json.loads((folder / "tensorrt.json").read_text())["engines"][engine]


def shapes(entry):
    return [one["shapes"] for one in entry["profiles"]]


@pytest.fixture
def vocoder(unpacked, tmp_path):
    """The vocoder's graph in a folder with its weights, its profiles, and what writes a changed one."""
    for name in ("weights.safetensors", "t2s.safetensors"):
        (tmp_path / name).symlink_to(unpacked / name)
    model = onnx.load(unpacked / "vocoder.onnx", load_external_data=False)
    return model, shapes(recipe(unpacked, "vocoder"))


@pytest.mark.thorough  # test_compiled.py has them built, too
def test_the_graphs_of_an_artifact_are_built_as_they_are(trt, unpacked, tmp_path):
    for engine in ("acoustic", "t2s", "vocoder"):
        entry = recipe(unpacked, engine)
        for form in filter(None, (entry, entry["in_place"])):
            answer = ask(trt, unpacked / form["graph"], shapes(form), tmp_path)
            assert not isinstance(answer, builder.Refused), answer
        answer = ask(trt, unpacked / entry["weak"], shapes(entry), tmp_path, parse_only=True)
        assert not isinstance(answer, builder.Refused), answer


def test_a_dropped_cast_is_named_with_its_node(trt, vocoder, tmp_path):
    model, profiles = vocoder
    cast = next(node for node in model.graph.node if node.op_type == "Cast" and node.name.endswith("Cast:f16"))
    model.graph.node.remove(cast)
    for node in model.graph.node:
        node.input[:] = [cast.input[0] if name == cast.output[0] else name for name in node.input]
    del model.graph.value_info[:]
    refused(ask(trt, model, profiles, tmp_path), "graph", "must")


@pytest.mark.parametrize("how", ["file", "offset"])
def test_weights_that_are_not_there_are_named(trt, vocoder, tmp_path, how):
    model, profiles = vocoder
    held = next(one for one in model.graph.initializer if one.external_data)
    for entry in held.external_data:
        if entry.key == ("location" if how == "file" else "offset"):
            entry.value = "gone.safetensors" if how == "file" else str(10**9)
    said = refused(ask(trt, model, profiles, tmp_path), "graph", "Failed to import initializer")
    assert held.name in said


def test_an_input_whose_size_nobody_knows_is_what_failed_before(trt, vocoder, tmp_path):
    model, profiles = vocoder
    ge = next(port for port in model.graph.input if port.name == "ge")
    ge.type.tensor_type.shape.dim[1].dim_param = "G"
    text = "Dynamic input tensor ge is missing dimensions in profile 0"
    refused(ask(trt, model, profiles, tmp_path), "graph", text)


def test_positions_that_are_not_as_many_as_ids_are_refused(trt, unpacked, tmp_path):
    entry = recipe(unpacked, "t2s")
    profiles = shapes(entry)
    profiles[0]["positions"][1][1] -= 1
    text = "Dimensions with name S must be equal"
    refused(ask(trt, unpacked / entry["graph"], profiles, tmp_path), "graph", text)


# --- the real library alone -----------------------------------------------------------------------------------------


@needs_library
def test_a_workspace_that_is_too_small_is_told_from_everything_else(tmp_path):
    ones = {"v": np.ones((256, 2048), np.float32), "w": np.ones((2048, 256), np.float32)}
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in ones.items()]
    model = graph("(float[S,256] x) => (float[S,256] y) { a = MatMul(x, v) b = Softmax(a) y = MatMul(b, w) }")
    model.graph.initializer.extend(weights)
    profile = {"x": [[1, 256], [4096, 256], [65536, 256]]}
    answer = ask(rtx.adapter(["8.9"]), model, [profile], tmp_path, workspace=1 << 20)
    refused(answer, "memory", "within workspace limit")
    assert not isinstance(ask(rtx.adapter(["8.9"]), model, [profile], tmp_path), builder.Refused)


@needs_library
def test_what_its_log_tells_of_an_engine_is_read(unpacked, tmp_path):
    form = recipe(unpacked, "t2s")["in_place"]
    told = ask(rtx.adapter(["8.9"]), unpacked / form["graph"], shapes(form), tmp_path, detailed=True)["engine"]
    names = [f"p{index}" for index in range(len(form["profiles"]))]
    assert list(told["kernels"]) == list(told["scratch"]) == names
    assert told["kernels_of_all"] == sum(told["kernels"].values())
    assert told["ports"] == len(form["ports"]["inputs"]) + len(form["ports"]["outputs"])
    assert told["host_ports"] == []
    assert 0.4 < told["half_share"] < 1
    assert told["weights"] > 100_000


@needs_library
def test_capabilities_that_it_does_not_know_are_refused():
    from gsvexport.errors import BackendError

    trt = rtx.adapter(["8.7"])
    with pytest.raises(BackendError, match=r"nothing for 8\.7"):
        trt.Builder(builder.make_logger(trt)).create_builder_config()


@pytest.fixture(scope="module")
def verdicts():
    """((case, operators that the table refuses as for 11.4), (outcome, text) of the real one) for each planted fault of
    the rules and for its counterpart."""
    texts, ours = [], []
    for case in rules.CASES:
        for text in (case.fault, case.clean):
            version, text = text.split(":", 1)
            opset = int(version.partition(" @")[2] or 17)
            found = check(rules.model(text.strip(), opset), "11.4", stage="step")
            ours.append((case, [one.op for one in found if one.severity == "error"]))
            texts.append(f'<ir_version: 8, opset_import: ["": {opset}]> g {text.strip()}')
    command = [sys.executable, str(HERE / "real_parser.py")]
    done = subprocess.run(command, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True)
    return list(zip(ours, json.loads(done.stdout), strict=True))


@needs_library
def test_the_static_checker_agrees_with_the_real_parser_but_where_the_table_says_so(verdicts):
    table = operators().rtx
    assert table.keys() == {"takes", "refuses"}
    known = {side: {one.op for one in several} for side, several in table.items()}
    wrong = []
    for (case, errors), (outcome, said) in verdicts:
        if errors and outcome == "built" and not known["takes"] & {*errors, case.op}:
            wrong.append(f"{case.kind} of {case.op}: refused here, built there")
        if not errors and outcome != "built" and case.op not in known["refuses"]:
            wrong.append(f"{case.kind} of {case.op}: fine here, {outcome} there: {said[:200]}")
    assert wrong == []
    agreed = [bool(errors) == (outcome != "built") for (_, errors), (outcome, _) in verdicts]
    assert len(agreed) == 2 * len(rules.CASES)
    assert sum(agreed) >= len(agreed) - 12  # of which each is in the table


@needs_library
def test_a_refusal_of_the_real_parser_says_what_is_wrong_for_every_kind_of_rule(verdicts):
    told = {case.kind: said for (case, errors), (outcome, said) in verdicts if errors and outcome != "built"}
    assert len(told) >= 20
    assert told.keys() <= {"unknown_op", "unsupported_op", *NODE_KINDS, *GRAPH_KINDS}
    for kind, said in told.items():
        assert said, kind
        assert "cudaError" not in said, kind


@needs_library
@pytest.mark.parametrize(
    "text",
    [
        "(int32[3] x) => (int32[3] y) { y = Relu(x) }",
        "(int32[3] x) => (int32[3] y) { y = Gelu(x) }",
        "(float[5] x, float[2] i) => (float[2] y) { y = Gather(x, i) }",
        "(int32[3] c, float[3] a, float[3] b) => (float[3] y) { y = Where(c, a, b) }",
        "(float[1,2,4,32] q) => (float[1,2,4,32] y) { y = Attention(q, q, q) }",
    ],
)
def test_what_was_lenient_is_refused_by_both(text, tmp_path):
    text = f'<ir_version: 8, opset_import: ["": 23]> g {text}'
    assert forked(lambda: asked(rtx.adapter(["8.9"]), text, tmp_path))[0] != "built"
    assert any(one.severity == "error" for one in check(ir.from_onnx_text(text), "11.4", stage="step"))
