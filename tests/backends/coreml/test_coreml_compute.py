"""What an operator of ONNX becomes in Core ML, and what that computes by our own reading: beside ONNX Runtime, with
axes, paddings and steps that are all different, so that none can stand for another."""

import numpy as np
import onnx
import onnxruntime
import pytest

from gsvexport.backends.coreml import compute
from gsvexport.backends.coreml.operators import NAMES, translated
from gsvexport.backends.coreml.package import Operation, Program, Type, read
from gsvexport.errors import BackendError
from gsvexport.untrusted.reading import Refused

SHAPE = (1, 3, 7, 19)
DRAW = np.random.default_rng(0)
CONV = {"pads": [1, 0, 2, 3], "strides": [1, 2], "dilations": [2, 3], "kernel_shape": [3, 4]}
TRANSPOSED = {"pads": [0, 2, 1, 3], "strides": [2, 5], "kernel_shape": [3, 8]}


def graph(kind, inputs=(), arrays=(), shape=SHAPE, **said):
    """One operator on x, with more inputs by name and `arrays` as constants."""
    constants = [onnx.numpy_helper.from_array(array, f"c{at}") for at, array in enumerate(arrays)]
    node = onnx.helper.make_node(kind, ["x", *inputs, *(one.name for one in constants)], ["y"], **said)
    ports = [onnx.helper.make_tensor_value_info(name, 1, one) for name, one in (("x", shape), ("y", None))]
    made = onnx.helper.make_graph([node], "g", ports[:1], ports[1:], constants)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def normal(*shape):
    return DRAW.standard_normal(shape).astype(np.float32)


GRAPHS = {
    "conv": graph("Conv", arrays=[normal(5, 3, 3, 4), normal(5)], **CONV),
    "conv-plain": graph("Conv", arrays=[normal(5, 3, 1, 1)]),
    "transposed": graph("ConvTranspose", arrays=[normal(3, 4, 3, 8), normal(4)], **TRANSPOSED),
    "transposed-1d": graph("ConvTranspose", arrays=[normal(3, 4, 8)], shape=(1, 3, 9), strides=[4], pads=[3, 1]),
    "leaky": graph("LeakyRelu", alpha=0.2),
    "leaky-plain": graph("LeakyRelu"),
    "relu": graph("Relu"),
    "tanh": graph("Tanh"),
    "sum": graph("Add", arrays=[normal(3, 1, 1)]),
    "difference": graph("Sub", arrays=[normal(1, 19)]),
    "product": graph("Mul", ["x"]),
    "unsqueeze": graph("Unsqueeze", arrays=[np.array([0, 3])]),
    "squeeze": graph("Squeeze", arrays=[np.array([0])]),
}


def exact(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]


def program(model, shape, kind="float32"):
    """The program of what `model` is translated to, without coremltools."""
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    operations = []
    for operator, name, taken in translated(model.graph):
        takes = {}
        for parameter, value in taken.items():
            takes[parameter] = value if parameter in NAMES else f"{name}/{parameter}"
            if parameter not in NAMES:
                constants[f"{name}/{parameter}"] = value if isinstance(value, str) else np.array(value)
        operations.append(Operation(operator, takes, name, Type(kind, shape)))
    return Program({"x": Type("float32", model_shape(model))}, "y", tuple(operations), constants)


def model_shape(model):
    return tuple(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim)


@pytest.mark.parametrize("name", GRAPHS)
def test_an_operator_is_read_as_onnx_runtime_computes_it(name):
    model = GRAPHS[name]
    x = normal(*model_shape(model))
    want = exact(model, x)
    np.testing.assert_allclose(compute.run(program(model, want.shape), {"x": x}), want, atol=2e-6)
    half = compute.run(program(model, want.shape, "float16"), {"x": x})
    assert np.array_equal(half, half.astype(np.float16))
    np.testing.assert_allclose(half, want, rtol=1e-3, atol=1e-3)


def test_apples_tool_writes_what_is_read_so(real, tmp_path):
    """One graph with every operator, through coremltools and back; its own inference of shapes judges ours, too."""
    from gsvexport.backends.coreml import lower

    nodes, constants, last = [], [], "x"
    for at, (kind, arrays, said) in enumerate(
        [
            ("Conv", [normal(5, 3, 3, 4), normal(5)], CONV),
            ("LeakyRelu", [], {"alpha": 0.3}),
            ("ConvTranspose", [normal(5, 4, 3, 8), normal(4)], TRANSPOSED),
            ("Add", [normal(4, 1, 1)], {}),
            ("Relu", [], {}),
            ("Mul", [normal(1, 1)], {}),
            ("Tanh", [], {}),
            ("Sub", [normal(4, 1, 1)], {}),
            ("Unsqueeze", [np.array([2])], {}),
            ("Squeeze", [np.array([0, 2])], {}),
        ]
    ):
        names = [f"c{at}.{index}" for index, _ in enumerate(arrays)]
        constants += [onnx.numpy_helper.from_array(one, name) for one, name in zip(arrays, names, strict=True)]
        nodes.append(onnx.helper.make_node(kind, [last, *names], [f"y{at}"], **said))
        last = f"y{at}"
    ports = [onnx.helper.make_tensor_value_info(name, 1, one) for name, one in (("x", SHAPE), (last, None))]
    made = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "g.onnx")
    lower.Running(lower.TOOL, [*lower.COMMAND, str(tmp_path / "g.onnx"), str(tmp_path / "g.mlpackage")]).wait(
        "writing", lambda text: None
    )
    found, x = read(tmp_path / "g.mlpackage"), normal(*SHAPE)
    want, got = exact(model, x), compute.run(found, {"x": x})
    assert want.shape == got.shape
    assert 10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()) > 50
    assert {one.type.kind for one in found.operations if one.name != found.output} == {"float16"}
    assert set(found.stored) == {"float16"}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph("Sigmoid"), r"Sigmoid \(y\)"),
        (graph("Conv", arrays=[normal(3, 1, 1, 1)], group=3), "Conv with group 3"),
        (graph("Conv", arrays=[normal(3, 3, 1, 1)], auto_pad="SAME_UPPER"), "Conv with auto_pad SAME_UPPER"),
        (
            graph("ConvTranspose", arrays=[normal(3, 4, 3, 8)], strides=[1, 2], output_padding=[0, 1]),
            r"output_padding \[0, 1\]",
        ),
    ],
)
def test_what_has_no_lowering_is_named(model, words):
    with pytest.raises(BackendError, match=words) as caught:
        translated(model.graph)
    assert "LeakyRelu" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "takes", "words"),
    [
        ("gather", {"x": "x"}, "operator 'gather'"),
        ("add", {"x": "x"}, "operator 'add' without, or called, 'y'"),
        ("add", {"x": "x", "y": "nowhere"}, "'nowhere'"),
        ("squeeze", {"x": "x", "axes": "two"}, "cannot be computed"),
        ("relu", {"x": "x"}, r"says that 'y' is \[2\], and it is \[1, 4\]"),
        ("cast", {"x": "x", "dtype": "word"}, "to int8"),
    ],
)
def test_a_program_that_cannot_be_read_is_refused(kind, takes, words):
    constants = {"two": np.array([7]), "word": "int8"}
    one = Program({"x": Type("float32", (1, 4))}, "y", (Operation(kind, takes, "y", Type("float32", (2,))),), constants)
    with pytest.raises(Refused, match=words):
        compute.run(one, {"x": np.zeros((1, 4), np.float32)})
    with pytest.raises(Refused, match=r"takes 'x' \[1, 4\], and not \[4\]"):
        compute.run(one, {"x": np.zeros(4, np.float32)})


def test_what_fp16_cannot_hold_is_infinite():
    twice = Operation("add", {"x": "x", "y": "x"}, "y", Type("float16", (1,)))
    one = Program({"x": Type("float32", (1,))}, "y", (twice,), {})
    assert np.isinf(compute.run(one, {"x": np.array([4e4], np.float32)})).all()
