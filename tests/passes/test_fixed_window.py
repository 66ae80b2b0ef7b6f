"""Windows of fixed size against the graph without one, on ONNX Runtime."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from gsvexport.errors import PassError
from gsvexport.npu import windows
from gsvexport.passes import fixed_window
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.fixed_window import BakeInput, DropLast, MaskEnd
from gsvexport.passes.known_sizes import KnownSizes

WINDOW, RATE, CONDITION = 12, 4, np.array([0.5, -1.0], np.float32).reshape(1, 2, 1)


def vocoder(last="Tanh"):
    """x [1, 3, F] and ge [1, 2, 1] to y [1, 1, 4·F]; biases everywhere, so that nothing is zero by itself."""
    draw, weights = np.random.default_rng(0), []

    def weight(name, *shape):
        weights.append(onnx.numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), name))
        return name

    def conv(x, y, outputs, inputs, kernel, dilation=1, kind="Conv", **more):
        pad = (kernel - 1) * dilation // 2
        shape = (outputs, inputs, kernel) if kind == "Conv" else (inputs, outputs, kernel)
        more = {"pads": [pad, pad], "dilations": [dilation], **more, "kernel_shape": [kernel]}
        names = [x, weight(f"{y}.w", *shape), weight(f"{y}.b", outputs)]
        return onnx.helper.make_node(kind, names, [y], name=y, **more)

    def node(kind, inputs, output, **more):
        return onnx.helper.make_node(kind, inputs, [output], name=output, **more)

    weights.append(onnx.numpy_helper.from_array(np.array(1 / 3, np.float32), "third"))
    nodes = [
        *(conv("x", "pre", 4, 3, 5), conv("ge", "cond", 4, 2, 1), node("Add", ["pre", "cond"], "x0")),
        node("LeakyRelu", ["x0"], "a0", alpha=0.1),
        conv("a0", "x1", 2, 4, 8, kind="ConvTranspose", strides=[RATE], pads=[2, 2], dilations=[1]),
        *(node("LeakyRelu", ["x1"], "a1", alpha=0.1), conv("a1", "c1", 2, 2, 3, 3), node("Add", ["x1", "c1"], "x2")),
        *(conv("x1", "c2", 2, 2, 7), node("Add", ["x2", "c2"], "x3"), node("Mul", ["x3", "third"], "x4")),
        *(conv("x4", "post", 1, 2, 3), node(last, ["post"], "y")),
    ]
    ports = {"x": [1, 3, "F"], "ge": [1, 2, 1], "y": [1, 1, "N"]}
    infos = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in ports.items()]
    graph = onnx.helper.make_graph(nodes, "vocoder", infos[:2], infos[2:], weights)
    return ir.serde.deserialize_model(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    )


def run(model, **feeds):
    data = ir.serde.serialize_model(model).SerializeToString()
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def windowed(tall=False):
    fixed = KnownSizes((("F", WINDOW), ("N", WINDOW * RATE)))
    passes = [BakeInput("ge", CONDITION), fixed, MaskEnd("x"), DropLast(), Conv2d(tall)]
    return run_passes(vocoder(), passes)


@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("count", [1, WINDOW // 2, WINDOW - 1, WINDOW])
def test_any_fill_level_gives_what_the_graph_gives_for_that_length(count, tall):
    model = windowed(tall).model
    x = np.random.default_rng(count).standard_normal((1, 3, count)).astype(np.float32)
    given = np.zeros((1, 3, WINDOW), np.float32)
    given[:, :, :count] = x
    masks = {
        port.name: (np.arange(port.shape[2]) < count * port.shape[2] // WINDOW).astype(np.float32)[None, None]
        for port in model.graph.inputs
        if port.name != "x"
    }
    assert set(masks) == {"mask_1", "mask_4"}
    found = np.tanh(run(model, x=given, **masks))[:, :, : count * RATE]
    np.testing.assert_allclose(run(vocoder(), x=x, ge=CONDITION), found, atol=1e-5)


def test_without_masks_the_end_is_another():
    passes = [BakeInput("ge", CONDITION), KnownSizes((("F", WINDOW), ("N", WINDOW * RATE)))]
    x = np.random.default_rng(0).standard_normal((1, 3, 6)).astype(np.float32)
    padded = np.concatenate([x, np.zeros_like(x)], axis=2)
    found = run(run_passes(vocoder(), passes).model, x=padded)[:, :, : 6 * RATE]
    assert np.abs(run(vocoder(), x=x, ge=CONDITION) - found).max() > 0.01


def test_what_was_done_is_counted():
    notes = dict(windowed().applied)
    assert notes["bake-input"].notes == ("ge is a constant",)
    assert notes["mask-end"].changes == 3  # before each convolution that reads something beyond the end, once a value
    assert notes["drop-last"].notes == ("the host computes the last Tanh",)


def test_time_stands_where_it_was_asked_for():
    for tall in (False, True):
        kernels = [
            node.attributes["kernel_shape"].as_ints()
            for node in windowed(tall).model.graph
            if node.op_type in ("Conv", "ConvTranspose")
        ]
        assert max(kernel[0] for kernel in kernels) == (8 if tall else 1)
        assert max(kernel[1] for kernel in kernels) == (1 if tall else 8)


def test_what_does_not_end_so_is_left():
    result = run_passes(vocoder("Sigmoid"), [DropLast()])
    assert result.applied[0][1].changes == 0
    assert "does not end with Tanh" in result.applied[0][1].notes[0]
    assert run_passes(vocoder(), [BakeInput("speaker", CONDITION)]).applied[0][1].changes == 0


def test_a_length_that_is_not_known_is_refused():
    with pytest.raises(PassError, match="its length is not known"):
        run_passes(vocoder(), [MaskEnd("x")])


def test_a_device_calls_the_masks_as_the_pass_does():
    """A device has no onnx_ir, which the pass needs, so both have the name."""
    assert fixed_window.MASK == windows.MASK
