"""A TFLite model as plain data: what is emitted, quantised, placed and audited; `flatbuffer` reads and writes it.

Operators and their options have the names of TensorFlow Lite's schema (`CONV_2D`, `dilation_w_factor`, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quantisation:
    """real = scale · (stored - zero point); several of them hold for the slices of `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor. `data` makes it a constant; `signature` is the shape that is declared, where -1 is a free axis."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # a numpy name: "float32", "int8", "int32"
    data: NDArray[Any] | None = None
    quantisation: Quantisation | None = None
    signature: tuple[int, ...] | None = None

    @property
    def bytes(self) -> int:
        """What it takes in memory, or in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Operator:
    """One operator; inputs and outputs are indices of tensors, -1 for an optional input that is left out.

    `name` is that of the ONNX node that it comes from.
    """

    kind: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Graph:
    """The only subgraph of a model, its operators in the order in which they run."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    description: str = ""
