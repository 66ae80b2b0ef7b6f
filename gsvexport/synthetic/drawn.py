"""Random weights, scaled so that every layer keeps about unit variance.

Values are uniform, from the generator's integers alone, so a seed gives the same weights on every machine.
"""

from __future__ import annotations

import math

import numpy as np

from gsvexport.synthetic.sizes import Sizes

EDGE_KERNEL = 7  # the vocoder's first and last convolution

RELU = math.sqrt(2)  # gain after a relu: half of the energy is gone
LEAKY = math.sqrt(2 / (1 + 0.1**2))
AUDIO_RMS = 0.15
BIAS = 0.05


class Weights:
    """Collects named arrays of a given standard deviation, float16 unless told otherwise."""

    def __init__(self, seed: int, dtype: type = np.float16) -> None:
        self._random, self._dtype = np.random.Generator(np.random.PCG64(seed)), dtype
        self.tensors: dict[str, np.ndarray] = {}

    def uniform(self, name: str, shape: tuple[int, ...], deviation: float, mean: float = 0) -> np.ndarray:
        """Uniform values of that deviation around `mean`."""
        values = self._values(shape, deviation) + np.float32(mean)
        return self.store(name, values)

    def store(self, name: str, values: np.ndarray) -> np.ndarray:
        """These values."""
        self.tensors[name] = values.astype(self._dtype)
        return self.tensors[name]

    def linear(self, name: str, outputs: int, inputs: int, gain: float = 1) -> None:
        """A linear layer that keeps the variance, times `gain`."""
        self.uniform(f"{name}.weight", (outputs, inputs), gain * inputs**-0.5)
        self.uniform(f"{name}.bias", (outputs,), BIAS)

    def conv(
        self, name: str, outputs: int, inputs: int, kernel: int, gain: float = 1, *, bias: float | None = 0
    ) -> None:
        """`bias` is the mean of the biases, None leaves them out."""
        self.uniform(f"{name}.weight", (outputs, inputs, kernel), gain * (inputs * kernel) ** -0.5)
        if bias is not None:
            self.uniform(f"{name}.bias", (outputs,), BIAS, bias)

    def normed(
        self, name: str, outputs: int, shape: tuple[int, int, int], deviation: float, *, folded: bool = False
    ) -> None:
        """Weight norm, un-folded: v has another length in every channel, which g undoes."""
        weight = self._values(shape, deviation)
        self.uniform(f"{name}.bias", (outputs,), BIAS)
        if folded:
            self.store(f"{name}.weight", weight)
            return
        length = np.sqrt(np.square(weight, dtype=np.float64).sum(axis=(1, 2), keepdims=True))
        self.store(f"{name}.weight_g", length)
        self.store(f"{name}.weight_v", weight * (1.25 + self._values((shape[0], 1, 1), 0.4)))

    def wavenet(self, name: str, width: int, layers: int, kernel: int, gin: int) -> None:
        """Gated convolutions, the last of which has no residual half."""
        for layer in range(layers):
            shape = (2 * width, width, kernel)
            self.normed(f"{name}.in_layers.{layer}", shape[0], shape, (width * kernel) ** -0.5)
        for layer in range(layers):
            outputs = 2 * width if layer < layers - 1 else width
            self.normed(f"{name}.res_skip_layers.{layer}", outputs, (outputs, width, 1), RELU * width**-0.5)
        conditions = 2 * width * layers
        self.normed(f"{name}.cond_layer", conditions, (conditions, gin, 1), 0.5 * gin**-0.5)

    def norm(self, scale: str, shift: str, width: int) -> None:
        """Scale and shift of a norm."""
        self.uniform(scale, (width,), 0.1, mean=1)
        self.uniform(shift, (width,), 0.1)

    def _values(self, shape: tuple[int, ...], deviation: float) -> np.ndarray:
        values = self._random.random(shape, dtype=np.float32)
        values -= np.float32(0.5)
        values *= np.float32(math.sqrt(12) * deviation)
        return values


def generator(weights: Weights, sizes: Sizes, prefix: str, inputs: int, *, folded: bool = False) -> None:
    """HiFi-GAN up to its last convolution; its first one takes `inputs` channels."""
    width = sizes.upsample_initial
    weights.conv(f"{prefix}conv_pre", width, inputs, EDGE_KERNEL)
    stages = list(zip(sizes.upsample_rates, sizes.upsample_kernels, strict=True))
    for stage, (rate, kernel) in enumerate(stages):
        wide, narrow = width >> stage, width >> stage + 1
        # Each output sample meets kernel / rate taps of every input channel.
        deviation = LEAKY * (wide * kernel / rate) ** -0.5
        weights.normed(f"{prefix}ups.{stage}", narrow, (wide, narrow, kernel), deviation, folded=folded)
    branches = list(zip(sizes.resblock_kernels, sizes.resblock_dilations, strict=True))
    for stage in range(len(stages)):
        channels = width >> stage + 1
        for branch, (kernel, dilations) in enumerate(branches):
            name = f"{prefix}resblocks.{stage * len(branches) + branch}"
            # The last convolution of a residual adds 0.4 of the input's amplitude.
            gains = {"convs1": LEAKY, "convs2": 0.4 * LEAKY} if sizes.resblock == "1" else {"convs": 0.4 * LEAKY}
            for convolutions, gain in gains.items():
                for index in range(len(dilations)):
                    shape = (channels, channels, kernel)
                    deviation = gain * (channels * kernel) ** -0.5
                    weights.normed(f"{name}.{convolutions}.{index}", channels, shape, deviation, folded=folded)
