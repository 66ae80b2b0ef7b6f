"""The referee's voices, exported once in a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import conformance

import gsvexport
from gsvexport.runtime.audio import write_wav
from gsvexport.runtime.pipeline import LoadedVoice

VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus")


@dataclass(frozen=True)
class Exported:
    """A source folder, its voice, upstream's arrays, and the phones of the baked prompt."""

    folder: Path
    voice: LoadedVoice
    arrays: Any
    prompt_phones: tuple[int, ...] = ()


def export(version: str, folder: Path, *, reference: bool) -> Exported:
    """Export the referee's voice of one version; with `reference`, case a's recording and prompt are baked in."""
    from gsvexport.compiler.source import write_source
    from gsvexport.voice.voice import read_voice

    data, phones = conformance(version), (40, 41, 42, 43) if reference else ()
    toml = ["[voice]", f'name = "referee-{version}"', 'language = "en"']
    for key, name in (("gpt", "gpt.ckpt"), ("sovits", "sovits.pth")):
        (folder / name).symlink_to(data.folder / name)
        toml.append(f'{key} = "{name}"')
    if reference:
        write_wav(folder / "reference.wav", data.arrays["s2_a_ref_wav32k"][0], 32000)
        np.save(folder / "codes.npy", data.arrays["t2s_a_prompt"][0])
        toml += ["[reference]", 'audio = "reference.wav"', 'prompt_codes = "codes.npy"', 'text = "reference"']
        toml.append(f"phones = {list(phones)}")
        if "s2_a_sv_emb" in data.arrays:
            np.save(folder / "speaker.npy", data.arrays["s2_a_sv_emb"].reshape(-1))
            toml.append('speaker = "speaker.npy"')
    (folder / "voice.toml").write_text("\n".join(toml) + "\n")
    write_source(read_voice(folder), folder / "source")
    return Exported(folder / "source", gsvexport.load(folder / "source", threads=1), data.arrays, phones)


@pytest.fixture(scope="session", params=VERSIONS)
def referee(request, tmp_path_factory):
    """Every version, without a reference."""
    return export(request.param, tmp_path_factory.mktemp(request.param), reference=False)


@pytest.fixture(scope="session", params=["v2", "v2Pro"])
def baked(request, tmp_path_factory):
    """A version of either kind, with a baked reference."""
    return export(request.param, tmp_path_factory.mktemp(f"baked-{request.param}"), reference=True)
