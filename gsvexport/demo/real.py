"""The real demo voice, put together on the user's machine: networks of the installed package, a GPT of this project.

What travels with this project is the GPT, and whole numbers: the codebook's occurrences (`units`), the reference's
phones and codes. The rest is computed, in seconds, and kept in the cache under a name that tells from what.
"""

from __future__ import annotations

import json
import tarfile
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.demo import cached, package, units, weights
from gsvexport.demo.weights import Floats
from gsvexport.errors import EnvironmentProblem
from gsvexport.files import canonical_json, sha256_bytes, sha256_file, sha256_once
from gsvexport.synthetic.container import HParams, write_checkpoint
from gsvexport.untrusted.reading import parse_array

ARCHIVE = Path(__file__).parent / "real-voice.tar.xz"
NOTICE = Path(__file__).parent / "NOTICE-real"
SHA256 = "3c7318e5de5db661c3dc495630286e6581dd48261187b069d4671862601be7ba"
PARTS = ("gpt.ckpt", "reference.json", "tests.json", "units.npy")
MADE = ("gpt.ckpt", "reference.json", "reference.wav", "reference_codes.npy", "sovits.pth", "tests.json", "voice.toml")
REMARK = (
    f"the demo voice is put together from the installed package {package.NAME}: its recordings are CC0, its networks "
    "were fine-tuned from a voice whose corpus is for non-commercial use; clear that before any use but trying"
)
_LARGEST = 64 << 20  # bytes of the archive's files together
_RECIPE = 1  # counts what the code below makes of the same parts
_SEED = 11
_ROOT = "demo"
_LEAST_SAME = 0.9  # share of the occurrences whose nearest cluster is the one that they made; it is 0.955


def folder() -> Path:
    """The folder of the voice, with its `voice.toml` and notice; made where it is not in the cache.

    Raises:
        EnvironmentProblem: the package is not installed or another one, or the cache cannot be written.
    """
    made_from = [sha256_once(ARCHIVE), sha256_once(NOTICE), *(digest for digest, _ in package.FILES.values())]
    name = sha256_bytes(canonical_json([_RECIPE, *made_from]).encode())[:16]
    return cached.folder(f"real-{name}", (*MADE, "NOTICE"), write)


def write(where: Path) -> None:
    """Put the voice together in the empty folder `where`.

    Raises: as `folder`.
    """
    found = parts()
    reference = json.loads(found["reference.json"])
    half = package.TextHalf()
    book = codebook(half, parse_array(found["units.npy"]))
    codes = _reference_codes(half, book, reference)
    tensors, dilations = package.weights()
    spoken = _spoken(book, codes)
    package.network.cache_clear()  # 63 MB
    made = weights.sovits(book, tensors, dilations)
    sovits = {"weight": halves(made), "config": hparams(weights.SOVITS), "info": f"demo: {package.NAME}"}
    write_checkpoint(where / "sovits.pth", sovits, root=_ROOT)
    np.save(where / "reference_codes.npy", codes)
    _write_wave(where / "reference.wav", spoken)
    for name in ("gpt.ckpt", "reference.json", "tests.json"):
        (where / name).write_bytes(found[name])
    (where / "NOTICE").write_bytes(NOTICE.read_bytes())
    (where / "voice.toml").write_bytes(cached.toml(reference))


def codebook(half: package.TextHalf, occurrences: NDArray[Any]) -> units.Codebook:
    """The codebook from its occurrences [N, 2]: the symbol ids of texts, and the code of each.

    Raises:
        EnvironmentProblem: the package says something else about them than when they were put in codes.
    """
    ids, labels = occurrences.astype(np.int64).T
    starts = np.flatnonzero(ids == package.symbols()[package.START])
    said = package.ask(half, np.split(ids, starts[1:]))
    mean, logs, lengths = (np.concatenate([getattr(one, name) for one in said]) for name in ("mean", "logs", "lengths"))
    symbols = np.zeros(labels.max() + 1, np.int64)
    symbols[labels] = ids
    book = units.codebook(labels, symbols, mean, logs, lengths)
    same = float((book.codes(ids, mean) == labels).mean())
    if same < _LEAST_SAME:
        raise EnvironmentProblem(
            f"the codebook that {package.NAME} gives is not the one that the demo voice's GPT was trained with",
            found=f"{same:.3f} of the occurrences in their cluster",
            limit=_LEAST_SAME,
            fix="report this with the versions of onnxruntime and numpy",
        )
    return book


def halves(tensors: Mapping[str, Floats]) -> dict[str, NDArray[np.float16]]:
    """Tensors as upstream's files hold them."""
    return {name: np.clip(value, -65504, 65504).astype(np.float16) for name, value in tensors.items()}


def gpt_config(dims: Any) -> dict[str, Any]:
    """The `config` of a GPT file with these sizes."""
    return {
        "data": {"max_sec": 54, "pad_val": dims.eos},
        "model": {
            "vocab_size": dims.vocab,
            "phoneme_vocab_size": dims.phones,
            "embedding_dim": dims.width,
            "hidden_dim": dims.width,
            "head": dims.heads,
            "linear_units": 4 * dims.width,
            "n_layer": dims.layers,
            "dropout": 0,
            "EOS": dims.eos,
            "random_bert": 0,
        },
        "inference": {"top_k": 15},
    }


def hparams(dims: Any) -> HParams:
    """The `config` of a SoVITS file with these sizes."""
    return HParams(
        data=HParams(
            max_wav_value=32768.0,
            sampling_rate=dims.rate,
            filter_length=dims.n_fft,
            hop_length=dims.hop,
            win_length=dims.window_length,
            n_mel_channels=128,
            mel_fmin=0.0,
            mel_fmax=None,
            add_blank=True,
            n_speakers=300,
            cleaned_text=True,
        ),
        model=HParams(
            inter_channels=dims.inter,
            hidden_channels=dims.hidden,
            filter_channels=dims.filter,
            n_heads=dims.heads,
            n_layers=dims.text_layers,
            kernel_size=dims.kernel,
            p_dropout=0.1,
            resblock=dims.resblock,
            resblock_kernel_sizes=list(dims.resblock_kernels),
            resblock_dilation_sizes=[list(dilations) for dilations in dims.resblock_dilations],
            upsample_rates=list(dims.upsample_rates),
            upsample_initial_channel=dims.upsample_initial,
            upsample_kernel_sizes=list(dims.upsample_kernels),
            n_layers_q=3,
            use_spectral_norm=False,
            gin_channels=dims.gin,
            semantic_frame_rate="25hz",
            freeze_quantizer=True,
            version=dims.version,
        ),
        version=dims.version,
    )


def _reference_codes(half: package.TextHalf, book: units.Codebook, reference: Mapping[str, Any]) -> NDArray[np.int64]:
    """The codes of the reference [1, 1, T], computed; they have to be those that the GPT was trained to go on from.

    Raises:
        EnvironmentProblem: they are others.
    """
    ids = np.array(reference["symbols"], np.int64)
    [said] = half([ids.tolist()])
    codes = np.repeat(book.codes(ids, said.mean), units.pairs(said.lengths))
    if codes.tolist() != reference["codes"]:
        raise EnvironmentProblem(
            f"{package.NAME} gives the reference other codes than the demo voice's GPT was trained with",
            fix="report this with the versions of onnxruntime and numpy",
        )
    return codes[None, None]


def _spoken(book: units.Codebook, codes: NDArray[np.int64]) -> Floats:
    """Codes as the package's own decoder speaks them, [512·T]."""
    frames = np.repeat(codes.ravel(), 2)
    noise = np.random.default_rng(_SEED).standard_normal((len(frames), package.WIDTH)).astype(np.float32)
    latent = book.mean[frames] + np.float32(weights.NOISE) * noise * np.exp(book.logs[frames])
    return package.SpeechHalf()(np.ascontiguousarray(latent.T))


def _write_wave(path: Path, samples: Floats) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(package.RATE)
        stream.writeframes(np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2").tobytes())


def occurrences() -> NDArray[Any]:
    """The codebook's occurrences that travel with this project, as `codebook` takes them.

    Raises: as `parts`.
    """
    return parse_array(parts()["units.npy"])


def parts() -> dict[str, bytes]:
    """What travels with this project, by name.

    Raises:
        EnvironmentProblem: the archive is damaged.
    """
    if not ARCHIVE.is_file() or sha256_file(ARCHIVE) != SHA256:
        raise EnvironmentProblem(f"the demo voice's GPT {ARCHIVE} is absent or damaged", fix="install gsvexport again")
    with tarfile.open(ARCHIVE, "r:xz") as archive:
        return cached.members(archive, PARTS, _LARGEST)
