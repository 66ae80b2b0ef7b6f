"""A small HiFi-GAN generator in the form that integers start from, and its pairs."""

import numpy as np
from passes.graphs import graph, normal

from gsvexport.calibrate.probe import observe
from gsvexport.calibrate.ranges import Estimator
from gsvexport.passes.base import run_passes
from gsvexport.passes.conv2d import Conv2d
from gsvexport.passes.merge_equal import MergeEqual
from gsvexport.passes.polyphase import Polyphase
from gsvexport.passes.quantise_conv import QuantiseConv
from gsvexport.passes.quantise_sums import QuantiseSums
from gsvexport.passes.small_sums_first import SmallSumsFirst
from gsvexport.passes.wide_conv import WideConv

X = normal(1, 4, 30, seed=5)
BLOCKS, LAYERS = 2, 2


def vocoder(width=5, dilation=2, alpha=0.1):
    """conv → leaky ReLU → upsampling → two residual blocks, averaged → leaky ReLU → conv."""
    nodes = [
        ("Conv", ["in", "pre"], ["p"], {"kernel_shape": [3], "pads": [1, 1]}),
        ("LeakyRelu", ["p"], ["pl"], {"alpha": alpha}),
        ("ConvTranspose", ["pl", "up", "ub"], ["x"], {"strides": [3], "pads": [1, 1], "kernel_shape": [5]}),
    ]
    weights = {"pre": normal(6, 4, 3) / 3, "up": normal(6, width, 5, seed=2) / 3, "ub": normal(width)}
    weights["post"] = normal(1, width, 3) / width
    ends = []
    for block in range(BLOCKS):
        value = "x"
        for layer in range(LAYERS):
            name = f"{block}{layer}"
            weights |= {
                f"w{name}": normal(width, width, 3, seed=block + 9 * layer) / width,
                f"b{name}": normal(width, seed=layer),
            }
            window = {"kernel_shape": [3], "pads": [dilation] * 2, "dilations": [dilation]}
            nodes += [
                ("LeakyRelu", [value], [f"l{name}"], {"alpha": alpha}),
                ("Conv", [f"l{name}", f"w{name}", f"b{name}"], [f"c{name}"], window),
                ("Add", [value, f"c{name}"], [f"s{name}"], {}),
            ]
            value = f"s{name}"
        ends.append(value)
    weights["mean"] = np.array(1 / BLOCKS, np.float32)
    nodes += [
        ("Add", ends, ["t"], {}),
        ("Mul", ["t", "mean"], ["m"], {}),
        ("LeakyRelu", ["m"], ["a"], {"alpha": 0.01}),
        ("Conv", ["a", "post"], ["y"], {"kernel_shape": [3], "pads": [1, 1]}),
    ]
    plain = graph(nodes, {"in": [1, 4, "F"]}, {"y": [1, 1, "N"]}, weights)
    return run_passes(plain, [MergeEqual(), Conv2d(), Polyphase(), SmallSumsFirst(by_block=True)]).model


def ranges(model):
    """What each tensor spans."""
    names = [value.name for node in model.graph for value in node.outputs if node.op_type != "Shape"]
    return observe(model, names, [{"in": X}], Estimator("minmax")) | {"in": (float(X.min()), float(X.max()))}


def convolutions(model):
    return [node.name for node in model.graph if node.op_type == "Conv"]


def up(model):
    return tuple(name for name in convolutions(model) if name.endswith("/phases"))


def pairs(model, *, skip=(), wide=(), sums=True):
    known = ranges(model)
    passes = [WideConv(known, 8, wide), QuantiseConv(known, 8, tuple(skip))]
    return run_passes(model, passes + [QuantiseSums(known)] * sums).model
