"""Weight-only block quantisation of matrix products: MatMul(x, W) → MatMulNBits(x, q, scales).

Each column of W [K, N] is cut into blocks of `block` rows; a block keeps one float32 scale and integers

    q = round(W / scale) ∈ [-(2^(bits-1)-1), 2^(bits-1)-1],    stored as q + 2^(bits-1)

The most negative integer is never used: kernels that multiply in pairs of bytes overflow on it. Symmetric, because the
asymmetric one-row kernels of some processors are wrong. The scale minimises the squared error of its block over a few
clipping ratios when there are only 4 bits, and keeps the block's largest value when there are 8.

With `columns` all blocks of a column have the scale of its largest value: `integer_rows.py` then uses the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from gsvexport.errors import PassError
from gsvexport.passes.base import Outcome, constant, initializer, insert_before, replace

CLIPPING_RATIOS = (1.0, 0.95, 0.9, 0.85, 0.8)
_INT8_COMPUTE = 4  # MatMulNBits' accuracy_level: activations are quantised per row and block, products are int8
DOMAIN = "com.microsoft"


@dataclass(frozen=True)
class MatMulNBits:
    """Quantises every MatMul with a constant 2-D weight, except those that feed a graph output named in `keep_outputs`.

    `bits` is 4 or 8, `block` a power of two from 16 on.
    """

    name: ClassVar[str] = "matmul-nbits"
    version: ClassVar[int] = 1
    bits: int = 8
    block: int = 128
    keep_outputs: tuple[str, ...] = ()
    columns: bool = False

    def apply(self, model: ir.Model) -> Outcome:
        """Change `model`.

        Raises:
            PassError: bits or block are not what the operator takes.
        """
        if self.bits not in (4, 8) or self.block < 16 or self.block & (self.block - 1):
            found = f"bits {self.bits}, block {self.block}"
            raise PassError(f"{self.name}: bits must be 4 or 8, block a power of two ≥ 16", found=found)
        changed = kept = 0
        for node in list(model.graph):
            weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
            if weight is None or weight.ndim != 2:
                continue
            if node.outputs[0].name in self.keep_outputs:
                kept += 1
                continue
            self._rewrite(model, node, weight)
            changed += 1
        model.graph.opset_imports[DOMAIN] = 1
        note = f"{changed} products have {self.bits}-bit weights in blocks of {self.block}, {kept} stay float"
        return Outcome(changed, (note,))

    def _rewrite(self, model: ir.Model, node: ir.Node, weight: np.ndarray) -> None:
        name = f"{node.inputs[1].name}:q{self.bits}b{self.block}{'c' if self.columns else ''}"  # type: ignore[union-attr]
        if name in model.graph.initializers:
            packed, scales = model.graph.initializers[name], model.graph.initializers[f"{name}.scales"]
        else:
            q, s = quantise_blocks(weight, self.bits, self.block, columns=self.columns)
            packed = initializer(model, name, pack(q, self.bits))
            scales = initializer(model, f"{name}.scales", s)
        rows, columns = weight.shape
        attributes = {
            "K": rows,
            "N": columns,
            "bits": self.bits,
            "block_size": self.block,
            "accuracy_level": _INT8_COMPUTE,
        }
        (y,) = insert_before(
            node, "MatMulNBits", [node.inputs[0], packed, scales], attributes, name=f"{node.name}/nbits", domain=DOMAIN
        )
        replace(node.outputs[0], y)


def quantise_blocks(
    weight: np.ndarray, bits: int, block: int, *, columns: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """W [K, N] float32 → integers int8 [N, blocks, block] and scales float32 [N, blocks]; K is padded with zeros."""
    limit = 2 ** (bits - 1) - 1
    rows, count = weight.shape
    padded = np.zeros((count, -(-rows // block) * block), np.float32)
    padded[:, :rows] = weight.T
    blocks = padded.reshape(count, -1, block)
    peak = np.abs(blocks).max(axis=2)
    if columns:
        peak = np.repeat(peak.max(axis=1, keepdims=True), peak.shape[1], axis=1)
    peak[peak == 0] = 1
    best, best_error = peak / np.float32(limit), np.full(peak.shape, np.inf, np.float32)
    if bits < 8:
        for ratio in CLIPPING_RATIOS:
            scale = peak * np.float32(ratio / limit)
            error = np.square(_round(blocks, scale, limit) * scale[:, :, None] - blocks).sum(axis=2)
            better = error < best_error
            best, best_error = np.where(better, scale, best), np.where(better, error, best_error)
    return _round(blocks, best, limit).astype(np.int8), best.astype(np.float32)


def pack(q: np.ndarray, bits: int) -> np.ndarray:
    """Integers [N, blocks, block] → bytes [N, blocks, block·bits/8], offset to be unsigned, low half first."""
    unsigned = (q.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    return unsigned if bits == 8 else unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)


def _round(blocks: np.ndarray, scale: np.ndarray, limit: int) -> np.ndarray:
    return np.clip(np.rint(blocks / scale[:, :, None]), -limit, limit)
