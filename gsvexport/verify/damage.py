"""Known ways to damage a voice or its speech, for the self-test. Sound is mono float [N] and not changed in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends import Opener, Session, open_session
from gsvexport.errors import missing_package
from gsvexport.verify.freerun import Utterance

Array = NDArray[Any]
Outputs = Mapping[str, Array]
Region = tuple[str, int, int, tuple[int, ...]]  # file, offset and length in bytes, shape
_SEED = 20240117
_FLOAT = 1  # ONNX's number for float32


def noise(samples: Array, snr_db: float) -> Array:
    """White noise at a signal-to-noise ratio in dB."""
    random = np.random.Generator(np.random.PCG64(_SEED))
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10.0 ** (-snr_db / 20.0)
    return np.asarray(samples + level * random.standard_normal(samples.shape), np.float32)


def mu_law(samples: Array, bits: int) -> Array:
    """Companded with µ = 255 (ITU-T G.711's law, continuous), rounded to so many bits, and back."""
    steps = 2 ** (bits - 1) - 1
    coded = np.sign(samples) * np.log1p(255.0 * np.minimum(np.abs(samples), 1.0)) / np.log(256.0)
    rounded = np.round(coded * steps) / steps
    return np.asarray(np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256.0)) / 255.0, np.float32)


def gain(samples: Array, db: float) -> Array:
    """Louder or softer; what leaves ±1 is clipped."""
    return np.clip(samples * 10.0 ** (db / 20.0), -1.0, 1.0).astype(np.float32)


def faster(samples: Array, factor: float) -> Array:
    """Played at another sampling rate: pitch and pace times `factor`, by linear interpolation."""
    places = np.arange(0.0, samples.size - 1.0, factor)
    return np.asarray(np.interp(places, np.arange(samples.size), samples), np.float32)


def faster_in_place(samples: Array, factor: float) -> Array:
    """`faster` and then as long as before: cut, or filled up with silence."""
    return np.resize(np.pad(faster(samples, factor), (0, samples.size)), samples.size)


def half_silent(samples: Array) -> Array:
    """The second half is gone."""
    return np.where(np.arange(samples.size) < samples.size // 2, samples, 0.0).astype(np.float32)


def swapped(latent: Array) -> Array:
    """Latent [1, I, F] with the channels of largest and smallest variance exchanged."""
    spread = latent[0].var(axis=1)
    order = np.arange(latent.shape[1])
    order[[spread.argmin(), spread.argmax()]] = spread.argmax(), spread.argmin()
    return latent[:, order]


def of_sound(utterance: Utterance, change: Callable[[Array], Array]) -> Utterance:
    """An utterance that sounds otherwise."""
    return replace(utterance, samples=change(utterance.samples))


def looped(utterance: Utterance) -> Utterance:
    """The code in the middle, and its sound, said 25 times (a second) in its place."""
    middle, step = len(utterance.codes) // 2, utterance.samples.size // len(utterance.codes)
    code, sound = utterance.codes[middle : middle + 1], utterance.samples[middle * step : (middle + 1) * step]
    codes = np.concatenate([utterance.codes[:middle], np.repeat(code, 25), utterance.codes[middle + 1 :]])
    parts = (utterance.samples[: middle * step], np.tile(sound, 25), utterance.samples[(middle + 1) * step :])
    return replace(utterance, codes=codes, samples=np.concatenate(parts))


def cut(utterance: Utterance, share: float) -> Utterance:
    """It ends too early, after that share of its codes."""
    codes, samples = (array[: max(1, int(share * len(array)))] for array in (utterance.codes, utterance.samples))
    return replace(utterance, codes=codes, samples=samples)


def endless(utterance: Utterance) -> Utterance:
    """It was stopped and had not ended by itself."""
    return replace(utterance, ended=False)


def opener(changes: Mapping[str, Callable[[Outputs], dict[str, Array]]]) -> Opener:
    """Opens graphs whose outputs are changed, by stage."""

    def opened(backend: str, folder: Path, file: str, *, threads: int | None = None) -> Session:
        session = open_session(backend, folder, file, threads=threads)
        change = changes.get(Path(file).stem)
        return _Changed(session, change) if change else session

    return opened


class _Changed:
    def __init__(self, session: Session, change: Callable[[Outputs], dict[str, Array]]) -> None:
        self._session, self._change = session, change

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The stage's outputs, changed."""
        return self._change(self._session.run(feeds))

    def close(self) -> None:
        """See `gsvexport.backends.Session`."""
        self._session.close()


def weights(source: Path, stages: Mapping[str, str], operators: tuple[str, ...]) -> list[Region]:
    """Where the float32 weights of these operators lie, in the order in which a graph uses them, each once.

    `stages` maps a stage to its file; of a weight that has more than one axis only.

    Raises:
        EnvironmentProblem: the extra `compile` is not installed.
    """
    found: dict[Region, None] = {}
    for file in stages.values():
        graph = _graph(source / file)
        stored = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == _FLOAT}
        for node in graph.node:
            if operators and node.op_type not in operators:
                continue
            for name in node.input:
                if name in stored and stored[name].external_data and (len(stored[name].dims) > 1 or not operators):
                    place = {entry.key: entry.value for entry in stored[name].external_data}
                    shape = tuple(stored[name].dims)
                    found[place["location"], int(place.get("offset", 0)), int(place["length"]), shape] = None
    return list(found)


def patched(source: Path, out: Path, changes: Mapping[Region, Callable[[Array], Array]]) -> Path:
    """A copy of a source with changed weights; files that do not change are the same files."""
    files = {region[0] for region in changes}
    for path in sorted(source.rglob("*")):
        target = out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.relative_to(source).as_posix() in files:
            shutil.copyfile(path, target)
        elif path.is_file():
            _link(path, target)
    for (file, offset, length, shape), change in changes.items():
        stored = np.memmap(out / file, np.float32, "r+", offset, (length // 4,))
        stored[:] = change(np.array(stored).reshape(shape)).reshape(-1)
        stored.flush()
    return out


def half_precision(array: Array) -> Array:
    """Rounded to float16."""
    return array.astype(np.float16).astype(np.float32)


def wrong_scale(array: Array) -> Array:
    """Quantised to 8 bits with a scale that is a quarter of what the largest weight needs: the others saturate."""
    scale = float(np.abs(array).max()) / 127.0 / 4.0 or 1.0
    return np.asarray(np.clip(np.round(array / scale), -127, 127) * scale, np.float32)


def middle(regions: list[Region]) -> Iterator[Region]:
    """The region in the middle of the list, or nothing of an empty one."""
    yield from regions[len(regions) // 2 :][:1]


def _graph(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise missing_package("onnx", "damaging weights for the self-test", "compile") from error
    return onnx.load(path, load_external_data=False).graph


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
