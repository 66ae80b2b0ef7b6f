"""A voice whose graphs are a few lines of numpy, so that verification can be tested without a compiler.

The real `LoadedVoice` runs on it; only the sessions are doubles. Each can be told to be broken in one way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gsvexport.model import Dims

DIMS = Dims(
    L=3, D=16, H=2, V=129, I=8, G=12, phones=40, text_phones=40, codes=128, positions=400
)  # fmt: skip
Outputs = dict[str, np.ndarray]
Hook = Callable[[Outputs], Outputs]
Make = Callable[..., Path]
# The reference recording that the scripted voice is baked with.
SPECTROGRAM = np.abs(np.random.default_rng(3).standard_normal((1, 1025, 20))).astype(np.float32)


@dataclass(frozen=True)
class Damage:
    """What is wrong with a voice: other weights, a layer left out, or outputs changed by a hook for each stage."""

    weights: Callable[[Outputs], Outputs] | None = None
    dropped_layer: int | None = None
    outputs: dict[str, Hook] = field(default_factory=dict)


def _weights() -> Outputs:
    random = np.random.default_rng(7)
    d, layers = DIMS.D, DIMS.L

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    head = normal(d, DIMS.V)
    return {
        "text": normal(DIMS.phones, d),
        "bert": normal(1024, d, scale=0.02),
        "codes": normal(DIMS.V, d),
        "query": normal(layers, d, d, scale=d**-0.5),
        "key": normal(layers, d, d, scale=d**-0.5),
        "value": normal(layers, d, d, scale=d**-0.5),
        "head": head,
        "acoustic_codes": normal(DIMS.codes, DIMS.I),
        "acoustic_phones": normal(DIMS.text_phones, DIMS.I),
        "acoustic_ge": normal(DIMS.G, DIMS.I),
        "speak": normal(DIMS.I, 640, scale=0.1),
        "speak_ge": normal(DIMS.G, 640, scale=0.02),
        "reference": normal(1025, DIMS.G, scale=0.05),
        "prompt": normal(768, DIMS.codes),
    }


class NumpySessionDouble:
    """One stage of the scripted voice; stands in for a backend's session."""

    def __init__(self, stage: str, damage: Damage) -> None:
        weights = _weights()
        self.w = damage.weights(weights) if damage.weights else weights
        self.damage, self.stage = damage, stage

    def run(self, feeds: Outputs) -> Outputs:
        out = {name: np.asarray(a, np.float32) for name, a in getattr(self, f"_{self.stage}")(**feeds).items()}
        if self.stage == "prompt":
            out["codes"] = out["codes"].astype(np.int64)
        hook = self.damage.outputs.get(self.stage)
        return hook(out) if hook else out

    def close(self) -> None:
        pass

    def _transform(self, rows: np.ndarray, keys: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
        """Causal attention layers over new rows [n, D] after a cache [L, S, D] → last row, all keys, all values."""
        all_keys, all_values, past, count = [], [], keys.shape[1], len(rows)
        mask = np.arange(past + count)[None] > past + np.arange(count)[:, None]
        for layer in range(DIMS.L):
            k = np.concatenate([keys[layer], rows @ self.w["key"][layer]])
            v = np.concatenate([values[layer], rows @ self.w["value"][layer]])
            scores = np.where(mask, -1e4, rows @ self.w["query"][layer] @ k.T)
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            if layer != self.damage.dropped_layer:
                rows = np.tanh(rows + weights / weights.sum(axis=-1, keepdims=True) @ v)
            all_keys.append(k)
            all_values.append(v)
        return rows[-1], np.stack(all_keys), np.stack(all_values)

    def _positions(self, start: int, count: int) -> np.ndarray:
        return np.sin(np.arange(start, start + count)[:, None] / 3.0 + np.arange(DIMS.D))

    def _logits(self, row: np.ndarray) -> np.ndarray:
        logits = row @ self.w["head"]
        logits[-1] -= 20.0  # EOS stays away, so that a free run reaches its limit
        return logits[None]

    def _prefill(self, phones: np.ndarray, bert: np.ndarray, prompt: np.ndarray) -> Outputs:
        text = self.w["text"][phones[0]] + bert[0].T @ self.w["bert"] + self._positions(0, phones.shape[1])
        spoken = self.w["codes"][prompt[0]] + self._positions(0, prompt.shape[1])
        empty = np.empty((DIMS.L, 0, DIMS.D), np.float32)
        row, keys, values = self._transform(np.concatenate([text, spoken]), empty, empty)
        return {"logits": self._logits(row), "keys": keys[:, None], "values": values[:, None]}

    def _step(self, token: np.ndarray, position: np.ndarray, keys: np.ndarray, values: np.ndarray) -> Outputs:
        row = self.w["codes"][token[0]] + self._positions(int(position[0]), 1)
        row, k, v = self._transform(row, keys[:, 0], values[:, 0])
        return {"logits": self._logits(row), "new_keys": k[:, None, -1:], "new_values": v[:, None, -1:]}

    def _acoustic(
        self, codes: np.ndarray, phones: np.ndarray, ge: np.ndarray, noise: np.ndarray, noise_scale: np.ndarray
    ) -> Outputs:
        count = noise.shape[2]
        spread = codes[0][np.arange(count) * codes.shape[1] // count]
        text = self.w["acoustic_phones"][phones[0]].mean(axis=0)
        mean = self.w["acoustic_codes"][spread] + text + ge[0, :, 0] @ self.w["acoustic_ge"]
        return {"latent": mean.T[None] + noise * noise_scale}

    def _vocoder(self, latent: np.ndarray, ge: np.ndarray) -> Outputs:
        return {"audio": np.tanh(latent[0].T @ self.w["speak"] + ge[0, :, 0] @ self.w["speak_ge"]).reshape(1, -1)}

    def _reference(self, spectrogram: np.ndarray) -> Outputs:
        return {"ge": np.tanh(spectrogram[0].mean(axis=1) @ self.w["reference"])[None, :, None]}

    def _prompt(self, ssl_content: np.ndarray) -> Outputs:
        half = ssl_content.shape[2] // 2
        return {"codes": np.argmax(ssl_content[0, :, : 2 * half : 2].T @ self.w["prompt"], axis=1)[None]}
