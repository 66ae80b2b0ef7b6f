"""Which operators of ONNX are lowered, and to what. The tables of ONNX and of Core ML agree on weights, and on padding
they do not: ONNX has all starts and then all ends, Core ML start and end of one axis after the other."""

from __future__ import annotations

from typing import Any

from gsvexport.errors import BackendError

_SAME = {"Add": "add", "Sub": "sub", "Mul": "mul"}
_ONE = {"Relu": "relu", "Tanh": "tanh", "Identity": "identity"}
_CONVOLUTIONS = {"Conv": "conv", "ConvTranspose": "conv_transpose"}
_AXES = {"Squeeze": "squeeze", "Unsqueeze": "expand_dims"}
NAMES = ("x", "y", "weight", "bias")  # parameters that are names; all others are what they say
KNOWN = (*_CONVOLUTIONS, *_SAME, *_ONE, *_AXES, "LeakyRelu")
_PLAIN = {"auto_pad": "NOTSET", "group": 1}  # attributes that may say just this
_TAKEN = {"strides", "dilations", "pads", "kernel_shape", "alpha"}


def translated(graph: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """(operator of Core ML, its result's name, what it takes by parameter) of each node of an ONNX GraphProto. What
    parameters of `NAMES` take are names of values, as ONNX has them.

    Raises:
        BackendError: operators that are not known, or forms of one that are not; names each kind once.
    """
    import onnx

    initializers = {one.name: one for one in graph.initializer}
    found, problems = [], []
    for node in graph.node:
        said = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        said = {name: value.decode() if isinstance(value, bytes) else value for name, value in said.items()}
        strange = {name: value for name, value in said.items() if name not in _TAKEN and not _plain(name, value)}
        if node.domain or node.op_type not in KNOWN or len(node.output) != 1:
            problems.append(f"{node.op_type} ({node.name or node.output[0]})")
        elif strange:
            problems.append(f"{node.op_type} with {', '.join(f'{name} {value}' for name, value in strange.items())}")
        else:
            found.append(_one(node, said, initializers))
    if problems:
        raise BackendError(
            "operators that have no lowering to Core ML",
            problems=list(dict.fromkeys(problems)),
            limit=", ".join(KNOWN),
            fix="place the stage on onnxruntime in your target",
        )
    return found


def _plain(name: str, value: Any) -> bool:
    """Whether an attribute says what is so without it."""
    return not any(value) if name == "output_padding" else bool(_PLAIN.get(name) == value)


def _one(node: Any, said: dict[str, Any], initializers: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    import onnx

    kind, output, given = node.op_type, node.output[0], list(node.input)
    if kind in _CONVOLUTIONS:
        axes = len(initializers[given[1]].dims) - 2
        pads = said.get("pads", [0] * 2 * axes)
        taken = {
            "x": given[0],
            "weight": given[1],
            "strides": list(said.get("strides", [1] * axes)),
            "pad_type": "custom",
            "pad": [pads[end] for axis in range(axes) for end in (axis, axes + axis)],
            "dilations": list(said.get("dilations", [1] * axes)),
        }
        return _CONVOLUTIONS[kind], output, {**taken, "bias": given[2]} if len(given) > 2 else taken
    if kind in _SAME:
        return _SAME[kind], output, {"x": given[0], "y": given[1]}
    if kind in _AXES:
        which = onnx.numpy_helper.to_array(initializers[given[1]]).reshape(-1).tolist()
        return _AXES[kind], output, {"x": given[0], "axes": which}
    if kind == "LeakyRelu":
        return "leaky_relu", output, {"x": given[0], "alpha": float(said.get("alpha", 0.01))}
    return _ONE[kind], output, {"x": given[0]}
