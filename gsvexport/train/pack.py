"""Trained networks → a voice in upstream's file formats, and the archive that travels with gsvexport."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gsvexport.demo.real import gpt_config, hparams
from gsvexport.files import atomic_directory, atomic_file, canonical_json
from gsvexport.synthetic.container import write_checkpoint
from gsvexport.text.symbols import symbols
from gsvexport.train.data import Acoustic, Heard
from gsvexport.train.shape import GPT, SOVITS
from gsvexport.train.tokens import Vocabulary
from gsvexport.voice.layout import T2S_PREFIX
from gsvexport.voice.networks import Synthesizer, Text2Semantic

FILES = ("gpt.ckpt", "reference.json", "reference.wav", "reference_codes.npy", "sovits.pth", "tests.json")
SIGNIFICANT_BITS = 7
_ROOT = "demo"  # the folder inside the archives that `torch.save` writes
_HALF_DIGITS = 10  # explicit bits of a float16's fraction


def rounded(values: NDArray[np.floating[Any]], bits: int = SIGNIFICANT_BITS) -> NDArray[np.float16]:
    """The nearest float16 values whose fraction has `bits` significant bits, the leading one included.

    Half to even on the kept digits; what leaves float16's range is held at its largest.
    """
    half = np.clip(values, -65504, 65504).astype(np.float16)
    dropped = _HALF_DIGITS + 1 - bits
    raw = half.view(np.uint16).astype(np.uint32)
    odd = (raw >> dropped) & 1
    raw = (raw + (1 << (dropped - 1)) - 1 + odd) >> dropped << dropped
    return np.minimum(raw & 0x7FFF, 0x7BFF).astype(np.uint16).view(np.float16) * np.where(raw & 0x8000, -1, 1).astype(
        np.float16
    )


def write(
    folder: Path,
    t2s: Text2Semantic,
    synthesizer: Synthesizer,
    known: Vocabulary,
    data: Acoustic,
    *,
    sharpness: float,
    steps: Mapping[str, int],
) -> None:
    """Write gpt.ckpt, sovits.pth, the reference and the test sentences; an existing folder is replaced.

    `sharpness` multiplies the GPT's scores: at the default temperature 1 it then draws as at 1 / sharpness.
    """
    acoustic = {name: array(value) for name, value in synthesizer.state_dict().items()}
    _tidy_sovits(acoustic)
    told = " ".join(f"{name} {count}" for name, count in steps.items())
    with atomic_directory(folder, force=True) as work:
        write_gpt(work / "gpt.ckpt", t2s, known, sharpness, told)
        sovits = {"weight": halves(acoustic), "config": hparams(SOVITS), "info": f"demo: {told}"}
        write_checkpoint(work / "sovits.pth", sovits, root=_ROOT)
        _write_reference(work, data.reference, known)
        tests = [_sentence(one, known) for one in data.test]
        (work / "tests.json").write_bytes(json.dumps(tests, indent=0).encode())


def write_gpt(path: Path, network: Text2Semantic, known: Vocabulary, sharpness: float, told: str) -> None:
    """Write gpt.ckpt; `told` says in it how the network came about."""
    weights = {f"{T2S_PREFIX}{name}": array(value) for name, value in network.state_dict().items()}
    weights[f"{T2S_PREFIX}ar_predict_layer.weight"] *= sharpness
    _tidy_gpt(weights, known)
    write_checkpoint(path, {"weight": halves(weights), "config": gpt_config(GPT), "info": f"demo: {told}"}, root=_ROOT)


def unpacked_gpt(path: Path, sharpness: float) -> dict[str, torch.Tensor]:
    """The weights of a packed GPT as a network takes them to be trained on.

    Raises:
        VoiceError: the file cannot be used.
    """
    from gsvexport.voice.checkpoint import read_checkpoint

    tensors = read_checkpoint(path).tensors
    state = {
        name.removeprefix(T2S_PREFIX): torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()
    }
    state["ar_predict_layer.weight"] /= sharpness
    return state


def archive(folder: Path, path: Path, names: Sequence[str] = FILES) -> None:
    """Write the files of a folder to a .tar.xz; equal files give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = (folder / name).stat().st_size
            with open(folder / name, "rb") as stream:
                tar.addfile(info, stream)
    # Few position bits and many literal contexts: halves of which few bits are used.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 1}]
    packed = lzma.compress(buffer.getvalue(), format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters)
    with atomic_file(path, force=True) as work:
        work.write_bytes(packed)


def array(value: torch.Tensor) -> NDArray[np.float32]:
    """A tensor as float32."""
    return value.detach().cpu().float().numpy().copy()


def halves(weights: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float16]]:
    """Rounded weights."""
    return {name: rounded(value) for name, value in weights.items()}


def _tidy_gpt(weights: dict[str, NDArray[np.float32]], known: Vocabulary) -> None:
    """Rows that nothing can reach: phones of other languages and codes that do not exist."""
    spoken = [number for number, name in enumerate(symbols("v2")) if name not in english()]
    weights[f"{T2S_PREFIX}ar_text_embedding.word_embeddings.weight"][spoken] = 0
    unused = slice(len(known.keys), GPT.eos)
    weights[f"{T2S_PREFIX}ar_audio_embedding.word_embeddings.weight"][unused] = 0
    predict = weights[f"{T2S_PREFIX}ar_predict_layer.weight"]
    predict[unused] = predict[unused].mean(axis=0)  # what all of them learned: never


def _tidy_sovits(weights: dict[str, NDArray[np.float32]]) -> None:
    silent = [number for number, name in enumerate(symbols("v2")) if name not in english()]
    weights["enc_p.text_embedding.weight"][silent] = 0


def english() -> set[str]:
    """The names of the phones that English texts have."""
    from gsvexport.text.phonemise import SIGNS
    from gsvexport.train.grid import LABELS

    return {*SIGNS, *LABELS[1:], *(label.replace("1", "2") for label in LABELS[1:]), "UNK"}


def _write_reference(folder: Path, one: Heard, known: Vocabulary) -> None:
    import soundfile

    soundfile.write(folder / "reference.wav", one.audio.numpy(), SOVITS.rate, subtype="PCM_16")
    np.save(folder / "reference_codes.npy", known.codes(one.keys).astype(np.int64))
    names = symbols("v2")
    ids = one.phones.tolist()
    reference = {"text": one.text, "phones": [names[number] for number in ids], "phone_ids": ids}
    (folder / "reference.json").write_bytes(canonical_json(reference).encode())


def _sentence(one: Heard, known: Vocabulary) -> dict[str, Any]:
    names = symbols("v2")
    ids = one.phones.tolist()
    codes = known.codes(one.keys).tolist()
    return {
        "id": one.name,
        "text": one.text,
        "phones": [names[number] for number in ids],
        "phone_ids": ids,
        "true_codes": codes,
    }
