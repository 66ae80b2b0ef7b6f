"""The student as a voice folder in upstream's own file formats, with other sizes in its config."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from gsvexport.demo.real import gpt_config, halves, hparams
from gsvexport.files import atomic_directory
from gsvexport.slim.shape import Shapes, top_k
from gsvexport.stages import MARKED_V1
from gsvexport.synthetic.container import write_checkpoint
from gsvexport.train.pack import array
from gsvexport.voice.layout import T2S_PREFIX
from gsvexport.voice.networks import Synthesizer, Text2Semantic
from gsvexport.voice.profile import NOTICE, read_profile
from gsvexport.voice.voice import Voice
from gsvexport.voice.written import written_path

_ROOT = "slim"  # the folder inside the archives that `torch.save` writes
_HEADERS = {"v2Pro": b"05", "v2ProPlus": b"06"}  # in place of "PK": upstream tells these two by them alone


def write(
    voice: Voice,
    shapes: Shapes,
    t2s: Text2Semantic,
    synthesizer: Synthesizer,
    told: Mapping[str, Any],
    out: Path,
    *,
    force: bool,
) -> None:
    """Write voice.toml, gpt.ckpt, sovits.pth, the reference and the notice to the folder `out`.

    `told` is the table [slim] of voice.toml. Nothing of the teacher's own config is kept but what T2S draws from:
    trainers put paths into it.

    Raises:
        InputError: `out` exists and `force` is false.
        EnvironmentProblem: the disk is full or not writable.
    """
    info = f"slim: {told['recipe']}"
    config = gpt_config(shapes.t2s)
    config["inference"] = {"top_k": top_k(voice)}
    gpt = {"weight": halves(_arrays(t2s, T2S_PREFIX)), "config": config, "info": info}
    sovits = {"weight": halves(_arrays(synthesizer)), "config": hparams(shapes.sovits), "info": info}
    header = _HEADERS.get(voice.version)
    with atomic_directory(out, force=force) as work:
        write_checkpoint(work / "gpt.ckpt", gpt, root=_ROOT)
        write_checkpoint(work / "sovits.pth", sovits, root=None if header else _ROOT, header=header)
        if voice.notice:
            (work / NOTICE).write_bytes(voice.notice)
        (work / "voice.toml").write_bytes(_toml(voice, told, work, out).encode())


def _arrays(network: nn.Module, prefix: str = "") -> dict[str, NDArray[np.float32]]:
    return {f"{prefix}{name}": array(value) for name, value in network.state_dict().items()}


def _toml(voice: Voice, told: Mapping[str, Any], work: Path, out: Path) -> str:
    """The text of voice.toml; recordings and the arrays of the reference are copied to `work`."""
    profile = read_profile(voice.path)
    table, reference = profile.reference, voice.reference
    assert table is not None
    assert reference is not None
    lines = [
        "# A smaller voice, made by `gsvexport slim`. Build it with: gsvexport --target NAME FOLDER",
        "[voice]",
        f"name = {json.dumps(told['name'])}",
        f'language = "{voice.language}"',
        f'version = "{voice.version}"',
        'gpt = "gpt.ckpt"',
        'sovits = "sovits.pth"',
    ]
    if voice.version == "v1":
        lines.append(f'front_end = "{"2024-08" if voice.acoustics.symbols == MARKED_V1 else "2024-01"}"')
    audio = [_copied(path, f"reference-{place}{path.suffix}", work) for place, path in enumerate(table.audio, 1)]
    lines += ["", "[reference]", f"audio = {json.dumps(audio)}", f'language = "{table.language}"']
    if reference.text is not None:
        lines.append(f"text = {json.dumps(reference.text, ensure_ascii=False)}")
    if reference.phones is not None:
        lines.append(f"phones = {list(reference.phones)}")
    if reference.prompt_codes is not None:
        np.save(work / "prompt_codes.npy", reference.prompt_codes)
        lines.append('prompt_codes = "prompt_codes.npy"')
    if reference.speaker:
        lines.append(f"speaker = {json.dumps([_saved(one, n, work) for n, one in enumerate(reference.speaker, 1)])}")
    networks = {name: getattr(profile, name) for name in ("hubert", "bert", "speaker") if getattr(profile, name)}
    if networks:
        lines += ["", "[pretrained]"]
        lines += [f"{name} = {json.dumps(written_path(path, out))}" for name, path in networks.items()]
    lines += [
        "",
        "# The teacher and how this came about. Losses are those of the held-out part, before and after recovery.",
    ]
    lines += [
        "[slim]",
        *(f"{name} = {json.dumps(value)}" for name, value in told.items() if name not in ("name", "losses")),
    ]
    lines += ["", "[slim.losses]", *(f'"{name}" = {json.dumps(value)}' for name, value in told["losses"].items())]
    return "\n".join([*lines, ""])


def _copied(path: Path, name: str, work: Path) -> str:
    shutil.copyfile(path, work / name)
    return name


def _saved(values: NDArray[np.float32], number: int, work: Path) -> str:
    np.save(work / f"speaker-{number}.npy", values)
    return f"speaker-{number}.npy"
