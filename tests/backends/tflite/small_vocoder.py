"""A vocoder of three rates in a few layers, and what it is fed."""

import numpy as np
from passes.graphs import graph, normal

from gsvexport.backends.tflite.emit import emit
from gsvexport.backends.tflite.segments import context, rate
from gsvexport.backends.tflite.session import Part
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.split_leaky_relu import SplitLeakyRelu

WINDOW = 24


def vocoder():
    """latent [1, 3, F] and ge [1, 2, 1] to sound [1, 8·F], at the rates 1, 2 and 8, with dilated residual layers."""

    def conv(x, y, channels, kernel=3, dilation=1):
        weights[f"w{y}"], weights[f"b{y}"] = normal(*channels, kernel, seed=len(weights)) / 3, normal(channels[0])
        pads = (kernel - 1) * dilation // 2
        return (
            "Conv",
            [x, f"w{y}", f"b{y}"],
            [y],
            {"kernel_shape": [kernel], "pads": [pads, pads], "dilations": [dilation]},
        )

    weights = {}
    nodes = [conv("latent", "pre", (4, 3), 5), conv("ge", "cond", (4, 2), 1), ("Add", ["pre", "cond"], ["x0"], {})]
    for index, (stride, kernel) in enumerate([(2, 4), (4, 8)]):
        x, pads = f"x{index}", (kernel - stride) // 2
        weights[f"u{index}"] = normal(4, 4, kernel, seed=index) / 2
        settings = {"strides": [stride], "pads": [pads] * 2, "kernel_shape": [kernel]}
        nodes += [
            ("LeakyRelu", [x], [f"{x}l"], {"alpha": 0.1}),
            ("ConvTranspose", [f"{x}l", f"u{index}"], [f"{x}u"], settings),
            ("LeakyRelu", [f"{x}u"], [f"{x}a"], {"alpha": 0.1}),
            conv(f"{x}a", f"{x}c", (4, 4), 3, 3),
            ("Add", [f"{x}u", f"{x}c"], [f"x{index + 1}"], {}),
        ]
    nodes += [
        conv("x2", "post", (1, 4), 7),
        ("Tanh", ["post"], ["tanh"], {}),
        ("Squeeze", ["tanh", "axis"], ["audio"], {}),
    ]
    weights["axis"] = np.array([1])
    return graph(nodes, {"latent": [1, 3, "F"], "ge": [1, 2, 1]}, {"audio": [1, "N"]}, weights)


def emitted():
    """The vocoder as a TFLite graph for windows of `WINDOW` frames."""
    legal = run_passes(vocoder(), [Conv2d(), Polyphase(), SplitLeakyRelu()]).model
    return emit(legal, {"F": WINDOW})


def feeds(length):
    return {"latent": normal(1, 3, length, seed=length), "ge": normal(1, 2, 1)}


def nhwc(arrays):
    return {name: array.transpose(0, 2, 1)[:, None] for name, array in arrays.items()}


def a_part(graph_of_it, window, file="vocoder.tflite"):
    left, right = context(graph_of_it)
    return Part(file, window, left, right, rate(graph_of_it))


def true_ranges(whole, runner):
    """The range of every tensor after a run of an interpreter that keeps them."""
    return {
        tensor.name: (float(runner.tensor(index).min()), float(runner.tensor(index).max()))
        for index, tensor in enumerate(whole.tensors)
        if tensor.data is None
    }
