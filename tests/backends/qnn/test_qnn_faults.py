"""What QAIRT 2.51 computes wrongly and says nothing, on the real emulation: each is met, and each is refused or lowered
round. Where one of these fails because a newer QAIRT has mended its fault, the guard in `lower.py` may go."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest

from gsvexport.backends.qnn import vendor
from gsvexport.backends.qnn.chips import chips
from gsvexport.npu.forms import WIDE
from gsvexport.npu.lowering import Measured

CHIP = chips()["SM8650"]
pytestmark = pytest.mark.usefixtures("real")


@dataclass
class Graph:
    """A graph with one input, x [1, C, …], and what it is given."""

    path: object
    x: np.ndarray

    @classmethod
    def write(cls, path, nodes, shape, **weights):
        ports = [onnx.helper.make_tensor_value_info(name, 1, one) for name, one in (("x", shape), ("y", None))]
        held = [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
        made = onnx.helper.make_graph(nodes, "g", ports[:1], ports[1:], held)
        onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
        return cls(path, np.random.default_rng(1).standard_normal(shape).astype(np.float32))

    def errors(self):
        """What ONNX Runtime gives, and how far the compiled bytes are from it in the emulation."""
        context = self.path.with_name("context.onnx")
        vendor.compile_for(self.path, context, CHIP, lambda text: None)
        exact = onnxruntime.InferenceSession(self.path, providers=["CPUExecutionProvider"])
        want = exact.run(None, {"x": self.x})[0].astype(np.float64)
        return want, want - vendor.emulate(context, [{"x": self.x}], CHIP, lambda text: None)[0]


def judged(want, error):
    return Measured(WIDE, 10 * np.log10((want**2).sum() / (error**2).sum()), np.abs(error).max())


def node(kind, inputs, output, **more):
    return onnx.helper.make_node(kind, inputs, [output], **more)


def test_a_short_convolution_along_the_width_is_wrong_and_refused(tmp_path):
    w = np.random.default_rng(0).standard_normal((512, 192, 7)) / np.sqrt(192 * 7)
    conv = node("Conv", ["x", "w"], "y", kernel_shape=[1, 7], pads=[0, 3, 0, 3])
    wide = Graph.write(tmp_path / "wide.onnx", [conv], (1, 192, 1, 16), w=w[:, :, None])
    conv = node("Conv", ["x", "w"], "y", kernel_shape=[7, 1], pads=[3, 0, 3, 0])
    tall = Graph.write(tmp_path / "tall.onnx", [conv], (1, 192, 16, 1), w=w[..., None])
    found = judged(*wide.errors())
    assert found.snr < 10
    assert not found.agrees
    assert judged(*tall.errors()).snr > 60


def test_the_end_behind_a_transposed_convolution_is_wrong_and_masked(tmp_path):
    draw, frames, kept = np.random.default_rng(0), 4096, 10 * 3968
    up = node("ConvTranspose", ["x", "w"], "u", kernel_shape=[1, 40], strides=[1, 10], pads=[0, 15, 0, 15])
    act = node("LeakyRelu", ["u"], "a", alpha=0.1)
    last = {"kernel_shape": [1, 7], "pads": [0, 3, 0, 3]}
    mask = (np.arange(10 * frames) < kept).reshape(1, 1, 1, -1)
    weights = {"w": draw.standard_normal((16, 8, 1, 40)) / 6, "v": draw.standard_normal((1, 8, 1, 7)) / 7}
    plain = [up, act, node("Conv", ["a", "v"], "y", **last)]
    want, error = Graph.write(tmp_path / "a.onnx", plain, (1, 16, 1, frames), **weights).errors()
    assert np.abs(error[..., :-40]).max() < 0.01
    assert np.abs(error[..., -40:]).max() > 0.1
    assert not judged(want, error).agrees
    masked = [up, act, node("Mul", ["a", "m"], "b"), node("Conv", ["b", "v"], "y", **last)]
    want, error = Graph.write(tmp_path / "b.onnx", masked, (1, 16, 1, frames), m=mask, **weights).errors()
    assert judged(want[..., :kept], error[..., :kept]).agrees


def test_a_tanh_is_off(tmp_path):
    w = np.random.default_rng(0).standard_normal((1, 32, 1, 7)) / np.sqrt(32 * 7) / 3
    conv = node("Conv", ["x", "w"], "c", kernel_shape=[1, 7], pads=[0, 3, 0, 3])
    shape = (1, 32, 1, 640)
    with_it = judged(*Graph.write(tmp_path / "a.onnx", [conv, node("Tanh", ["c"], "y")], shape, w=w).errors())
    without = judged(*Graph.write(tmp_path / "b.onnx", [conv, node("Identity", ["c"], "y")], shape, w=w).errors())
    assert without.snr > 60
    assert with_it.snr < without.snr - 15
    assert not with_it.agrees
