"""ConvTranspose as a convolution at the lower rate: an exact rewriting that lets INT8 kernels reach it.

    y[s·q + r] = Σ_o x[q + o]·w[:, :, r + p - s·o]        (stride s, padding p, phases r = 0 … s-1)

is one convolution with s output channels for each channel, whose phases are then interleaved. ConvTranspose has no
quantised kernel in ONNX Runtime, a Conv has. Every product appears once; a phase may add taps that are zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.passes.base import Outcome, attribute, constant, initializer, insert_before, replace

PHASES = "gsvexport.phases"  # a convolution's metadata: how many phases its output channels hold


@dataclass(frozen=True)
class Polyphase:
    """Rewrites every ConvTranspose in 2-D form (see `conv2d`) whose output is stride times as long as its input."""

    name: ClassVar[str] = "polyphase"
    version: ClassVar[int] = 1

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`; says which layers it left alone and why."""
        changed, notes = 0, []
        for node in list(model.graph):
            if node.op_type != "ConvTranspose":
                continue
            reason = _obstacle(node)
            if reason:
                notes.append(f"{node.name} stays a ConvTranspose: {reason}")
                continue
            _rewrite(model, node)
            changed += 1
        return Outcome(changed, (f"{changed} transposed convolutions run as polyphase convolutions", *notes))


def phases(weight: np.ndarray, stride: int, padding: int) -> tuple[np.ndarray, int]:
    """w [in, out, k] → (convolution weight [stride·out, in, taps], offset of its first tap).

    Output channel r·out + c computes phase r of channel c.
    """
    channels, outputs, kernel = weight.shape
    # Tap r + p - s·o lies in [0, k) for some phase r.
    first, last = -((kernel - 1 - padding) // stride), (stride - 1 + padding) // stride
    result = np.zeros((stride, outputs, channels, last - first + 1), weight.dtype)
    for r in range(stride):
        for o in range(first, last + 1):
            tap = r + padding - stride * o
            if 0 <= tap < kernel:
                result[r, :, :, o - first] = weight[:, :, tap].T
    return result.reshape(stride * outputs, channels, -1), first


def _obstacle(node: ir.Node) -> str | None:
    weight = constant(node.inputs[1])
    if weight is None or weight.ndim != 4 or weight.shape[2] != 1:
        return "its weight is not a constant in 2-D form"
    stride, begin, end = attribute(node, "strides")[1], *(attribute(node, "pads")[i] for i in (1, 3))
    if weight.shape[3] - begin - end != stride:
        return "its output is not stride times as long as its input"
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", [1])) != {1}:
        return "it is grouped or dilated"
    return None


def _rewrite(model: ir.Model, node: ir.Node) -> None:
    weight = constant(node.inputs[1])
    assert weight is not None
    assert node.inputs[1] is not None
    stride, padding = attribute(node, "strides")[1], attribute(node, "pads")[1]
    folded, first = phases(weight[:, :, 0, :], stride, padding)
    outputs, taps = weight.shape[1], folded.shape[2]
    name = node.inputs[1].name
    inputs = [node.inputs[0], initializer(model, f"{name}:phases", folded[:, :, None, :])]
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        inputs.append(initializer(model, f"{node.inputs[2].name}:phases", np.tile(bias, stride)))  # type: ignore[union-attr]
    pads = {"kernel_shape": [1, taps], "pads": [0, -first, 0, taps - 1 + first]}
    (y,) = insert_before(node, "Conv", inputs, pads, name=f"{node.name}/phases")
    y.producer().metadata_props[PHASES] = str(stride)  # type: ignore[union-attr]
    split = initializer(model, f"int64:1,{stride},{outputs},-1", np.array([1, stride, outputs, -1]))
    (y,) = insert_before(node, "Reshape", [y, split], name=f"{node.name}/split")
    (y,) = insert_before(node, "Transpose", [y], {"perm": [0, 2, 3, 1]}, name=f"{node.name}/interleave")
    join = initializer(model, f"int64:1,{outputs},1,-1", np.array([1, outputs, 1, -1]))
    (y,) = insert_before(node, "Reshape", [y, join], name=f"{node.name}/join")
    replace(node.outputs[0], y)
