"""A source whose vocoder is small enough to be emulated in a second, and what it was given: for backends of NPUs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from gsvexport.compiler.source import write_source
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

HOP = 8


def vocoder(inter, condition):
    """latent [1, I, F] and ge [1, G, 1] to sound [1, 8·F]: two rates, a dilated residual layer, and the last Tanh."""
    draw, weights = np.random.default_rng(0), []

    def weight(name, *shape):
        array = (draw.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(array, name))
        return name

    def node(kind, inputs, output, **more):
        return onnx.helper.make_node(kind, inputs, [output], name=output, **more)

    def conv(x, y, outputs, inputs, kernel=3, dilation=1):
        pad = (kernel - 1) * dilation // 2
        more = {"kernel_shape": [kernel], "pads": [pad, pad], "dilations": [dilation]}
        return node("Conv", [x, weight(f"{y}.w", outputs, inputs, kernel), weight(f"{y}.b", outputs)], y, **more)

    up = {"kernel_shape": [16], "strides": [HOP], "pads": [4, 4]}
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        *(
            conv("latent", "pre", 16, inter, 5),
            conv("ge", "cond", 16, condition, 1),
            node("Add", ["pre", "cond"], "x0"),
        ),
        node("LeakyRelu", ["x0"], "a0", alpha=0.1),
        node("ConvTranspose", ["a0", weight("up.w", 16, 8, 16), weight("up.b", 8)], "x1", **up),
        *(node("LeakyRelu", ["x1"], "a1", alpha=0.1), conv("a1", "c1", 8, 8, 3, 3), node("Add", ["x1", "c1"], "x2")),
        *(node("LeakyRelu", ["x2"], "a2", alpha=0.01), conv("a2", "post", 1, 8, 7)),
        *(node("Tanh", ["post"], "sound"), node("Squeeze", ["sound", "axes"], "audio")),
    ]
    ports = {"latent": [1, inter, "F"], "ge": [1, condition, 1], "audio": [1, "N"]}
    infos = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in ports.items()]
    graph = onnx.helper.make_graph(nodes, "vocoder", infos[:2], infos[2:], [*weights, axes])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


class Seen:
    """What a calibration would have kept: frames [1, I, count]."""

    def __init__(self, inter, ge, count=150):
        draw = np.random.default_rng(1)
        self.latent, self.ge = draw.standard_normal((1, inter, count)).astype(np.float32), ge

    def feeds(self, stage):
        return [{"latent": self.latent, "ge": self.ge}]


def write(folder):
    """(folder of the source, its model, what its vocoder was given)."""
    source = write_source(read_voice(write_voice(folder / "voice", seed=3)), folder / "source")
    model = replace(source.model, hop=HOP)
    onnx.save(vocoder(model.dims.I, model.dims.G), source.path / model.files["vocoder"])
    return source.path, model, Seen(model.dims.I, np.load(source.path / model.baked["ge"]))
