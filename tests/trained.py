"""A folder of GPT-SoVITS as upstream's training leaves it, with tiny weights of the conformance data."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from conformance import conformance

from gsvexport.files import link
from gsvexport.synthetic.pretrained import write_pretrained
from gsvexport.voice import upstream

ENGLISH = "HH AH0 L OW1 ."
SENTENCES = {"a.wav": ("Hello there.", 5.0), "b.wav": ("It is a long way home.", 6.5), "c.wav": ("Yes.", 1.0)}


def weights(kind: str, version: str) -> str:
    return f"{kind}_weights" + ("" if version == "v1" else f"_{version}")


def lay_weights(
    folder: Path, version: str, name: str = "alice", *, gpt: tuple[int, ...] = (5, 15), sovits: tuple[int, ...] = (4, 8)
) -> None:
    """The weights of one voice; of a v3 or v4 voice they are a LoRA."""
    data = conformance(version).folder
    rank = "_l32" if version in ("v3", "v4") else ""
    for kind, source, names in (
        ("GPT", "gpt.ckpt", [f"{name}-e{epoch}.ckpt" for epoch in gpt]),
        ("SoVITS", "sovits.pth", [f"{name}_e{epoch}_s{epoch * 12}{rank}.pth" for epoch in sovits]),
    ):
        place = folder / weights(kind, version)
        place.mkdir(parents=True, exist_ok=True)
        for each in names:
            shutil.copyfile(data / source, place / each)


def sound(path: Path, seconds: float, level: float = 0.3) -> Path:
    """A recording: a voiced sound that comes and goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(int(32000 * seconds)) / 32000
    buzz = sum(np.sin(2 * np.pi * 140 * order * time) / order for order in range(1, 5))
    soundfile.write(
        path, level * buzz / np.abs(buzz).max() * np.abs(np.sin(2 * np.pi * 1.5 * time)), 32000, format="WAV"
    )
    return path


def lay_logs(
    folder: Path,
    name: str = "alice",
    sentences: dict[str, tuple[str, float]] = SENTENCES,
    phones: str = ENGLISH,
    *,
    table: bool = True,
) -> None:
    """What the training was made of."""
    place = folder / "logs" / name
    for wav, (_, seconds) in sentences.items():
        sound(place / "5-wav32k" / wav, seconds)
    if table:
        lines = [f"{wav}\t{phones}\tNone\t{text}" for wav, (text, _) in sentences.items()]
        (place / "2-name2text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@functools.cache
def network(key: str) -> Path:
    """One of upstream's networks with random weights, made once in a test run and never written to."""
    folder = Path(tempfile.mkdtemp(prefix="gsvexport-network-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder / write_pretrained(folder, (key,))[key]


def lay_networks(place: Path, version: str, *, bert: bool = False) -> None:
    """Upstream's networks in their places below `pretrained_models`."""
    for key in ("hubert", "speaker", *(("bert",) if bert else ())):
        target = place / upstream.NETWORKS[key]
        target.parent.mkdir(parents=True, exist_ok=True)
        made = network(key)
        if made.is_dir():
            shutil.copytree(made, target, copy_function=lambda one, other: link(Path(one), Path(other)))
        else:
            link(made, target)
    if version not in upstream.BASES:
        return
    data = conformance(version).folder
    for name, source in (
        (upstream.BASES[version], "base.pth"),
        (upstream.VOCODERS[version], {"v3": "bigvgan", "v4": "vocoder.pth"}[version]),
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (data / source).is_dir() else shutil.copyfile
        copy(data / source, place / name)


def lay_out(folder: Path, version: str, name: str = "alice", *, bert: bool = False) -> Path:
    """All of it."""
    lay_weights(folder, version, name)
    lay_logs(folder, name)
    lay_networks(folder / upstream.PRETRAINED, version, bert=bert)
    return folder
