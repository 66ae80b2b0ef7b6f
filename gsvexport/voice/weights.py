"""The two weights files of a voice: each read once, checked once, and handed on with its sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.stages import MARKED_V1, VERSIONS, Mel
from gsvexport.voice.checkpoint import Checkpoint, read_checkpoint, without
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.findings import Findings
from gsvexport.voice.layout import TRAINING_ONLY
from gsvexport.voice.lora import is_lora, merged
from gsvexport.voice.profile import Profile
from gsvexport.voice.sizes import sovits_dims, t2s_dims
from gsvexport.voice.version import config_version, find_version, flow_matching
from gsvexport.voice.vocoder import FILES, Vocoder, read_vocoder


@dataclass(frozen=True, eq=False)
class Gpt:
    """A GPT file; `provenance` identifies it without naming a place on any machine."""

    checkpoint: Checkpoint
    dims: T2SDims
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Sovits:
    """A SoVITS file, merged where it is a LoRA, and the vocoder of its version."""

    checkpoint: Checkpoint
    dims: SovitsDims
    provenance: dict[str, Any]
    vocoder: Vocoder | None


def read_gpt(profile: Profile) -> Gpt:
    """The GPT file of a voice.

    Raises:
        VoiceError: it cannot be used; every problem.
    """
    checkpoint = read_checkpoint(profile.gpt)
    return Gpt(checkpoint, t2s_dims(checkpoint), _provenance(checkpoint))


def read_sovits(profile: Profile, found: Findings) -> Sovits:
    """The SoVITS file and what it needs besides; a vocoder that is absent or wrong is noted.

    Raises:
        VoiceError: the file or its base cannot be used.
    """
    own = checkpoint = read_checkpoint(profile.sovits)
    provenance, start = {"sovits": _provenance(own)}, ""
    if is_lora(own):
        if profile.base is None:
            raise VoiceError(
                f"{own.path} is a LoRA: its weights belong on top of a base model",
                fix='add base = "s2Gv3.pth" (or "s2Gv4.pth"), upstream\'s pretrained model, to [voice] in voice.toml',
            )
        base = without(read_checkpoint(profile.base), TRAINING_ONLY)
        checkpoint, start = merged(own, base), base.start
        provenance["base"] = _provenance(base)
    elif profile.base is not None:
        raise VoiceError(f"{own.path} is no LoRA, so it takes no base", fix="remove base from [voice] in voice.toml")
    told = find_version(checkpoint, profile.version, start)
    version = told.version
    mel, vocoder = VERSIONS[version].mel, None
    if mel is not None and flow_matching(checkpoint.tensors):
        vocoder = found.collect(lambda: _vocoder(profile, version, mel))
        if vocoder:
            provenance["vocoder"] = {"sha256": vocoder.file.sha256, "size": vocoder.file.size}
    dims = sovits_dims(checkpoint, told, vocoder.dims if vocoder else None)
    if version == "v1" and _marks_pitch(profile, checkpoint):
        dims = replace(dims, symbols=MARKED_V1)
    return Sovits(without(checkpoint, TRAINING_ONLY), dims, provenance, vocoder)


def _marks_pitch(profile: Profile, checkpoint: Checkpoint) -> bool:
    """Whether a voice of v1 was trained by upstream of August 2024 or newer, which names the version in the config."""
    if profile.front_end is not None:
        return profile.front_end == "2024-08"
    return profile.language == "ja" and config_version(checkpoint.config) is not None


def _vocoder(profile: Profile, version: str, mel: Mel) -> Vocoder:
    if profile.vocoder is None:
        raise VoiceError(
            f"a {version} voice needs the vocoder that upstream offers for it",
            fix=f'add vocoder = "{FILES[version]}" (or the folder that holds it) to [pretrained] in voice.toml',
        )
    return read_vocoder(profile.vocoder, version, mel)


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """What identifies a weights file; upstream's info is left out where somebody has put a path into it."""
    info = "" if any(mark in checkpoint.info for mark in "/\\") else checkpoint.info
    return {"sha256": checkpoint.sha256, "size": checkpoint.size, "header": checkpoint.header, "info": info}
