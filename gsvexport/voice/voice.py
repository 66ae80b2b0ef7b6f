"""A voice: two checked weights files, their sizes, and the reference that it speaks like."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gsvexport.errors import VoiceError
from gsvexport.signal.cloning import keeps_pace
from gsvexport.stages import SYMBOL_COUNTS, VERSIONS
from gsvexport.voice.checkpoint import Checkpoint
from gsvexport.voice.dims import SovitsDims, T2SDims
from gsvexport.voice.findings import Findings
from gsvexport.voice.pretrained import NOTHING, Pretrained, read_bert, read_hubert, read_speaker
from gsvexport.voice.profile import Profile, ReferenceTable, read_profile
from gsvexport.voice.reference import Reference, checked_reference
from gsvexport.voice.vocoder import Vocoder
from gsvexport.voice.weights import read_gpt, read_sovits


@dataclass(frozen=True, eq=False)
class Voice:
    """A voice that can be exported: every tensor, id and file in it has been checked.

    `path` is the `voice.toml`, `provenance` identifies the weights without naming a place on any machine, `notes` are
    things worth telling that are no errors, `notice` is the licence's text for every artifact.
    `sovits` of a LoRA is merged with its base; v3 and v4 have a `vocoder`.
    """

    name: str
    language: str
    version: str
    path: Path
    gpt: Checkpoint
    sovits: Checkpoint
    t2s: T2SDims
    acoustics: SovitsDims
    reference: Reference | None
    provenance: dict[str, Any]
    notes: tuple[str, ...] = ()
    vocoder: Vocoder | None = None
    pretrained: Pretrained = NOTHING
    notice: bytes | None = None


def read_voice(path: Path | str, reference: ReferenceTable | None = None) -> Voice:
    """Read and check a voice from its `voice.toml`, or from the directory that holds one.

    `reference` takes the place of the one in `voice.toml`.

    Raises:
        VoiceError: with everything that is wrong in `voice.toml`, else everything wrong in the files that it names.
        EnvironmentProblem: a recording or a text has to be read and the extra that does it is not installed.
    """
    profile = read_profile(Path(path))
    found = Findings()
    gpt = found.collect(lambda: read_gpt(profile))
    sovits = found.collect(lambda: read_sovits(profile, found))
    if gpt and sovits:
        compare(gpt.dims, sovits.dims, found)
    dims = sovits.dims if sovits else None
    pretrained = _pretrained(profile, dims, found)
    table, made = reference or profile.reference, None
    if table:
        made = checked_reference(table, profile.language, dims, pretrained.stages, found)
    if found.problems or gpt is None or sovits is None:
        fix = found.fix or f"correct {profile.path.name}, or the files that it names"
        raise VoiceError(f"the voice of {profile.path} cannot be used", problems=found.problems, fix=fix)
    return Voice(
        profile.name,
        profile.language,
        sovits.dims.version,
        profile.path,
        gpt.checkpoint,
        sovits.checkpoint,
        gpt.dims,
        sovits.dims,
        made,
        {"gpt": gpt.provenance, **sovits.provenance, **pretrained.provenance, **_student(profile)},
        tuple(found.notes),
        sovits.vocoder,
        pretrained,
        profile.notice,
    )


def _student(profile: Profile) -> dict[str, Any]:
    """Whose student the voice is, without the place where the teacher lies."""
    return {} if profile.slim is None else {"slim": {**asdict(profile.slim), "teacher": ""}}


def _pretrained(profile: Profile, dims: SovitsDims | None, found: Findings) -> Pretrained:
    """The networks that the voice is given; a speaker network only for a version that takes it."""
    takes = dims is None or VERSIONS[dims.version].speaker
    hubert, bert, speaker = profile.hubert, profile.bert, profile.speaker if takes else None
    content = found.collect(lambda: read_hubert(hubert)) if hubert else None
    if content is not None and dims is not None and not keeps_pace(content.dims.pace, dims.rate, dims.hop):
        found.problems.append(
            f"{hubert} makes {content.dims.pace:.1f} features a second, this voice takes {dims.rate / dims.hop:.1f} "
            f"({dims.hop} samples at {dims.rate} Hz each): its codes would say other sounds; leave out hubert, and the "
            "text of a reference that has no prompt_codes"
        )
    return Pretrained(
        content,
        found.collect(lambda: read_bert(bert)) if bert else None,
        found.collect(lambda: read_speaker(speaker)) if speaker else None,
    )


def compare(t2s: T2SDims, dims: SovitsDims, found: Findings) -> None:
    """Note why two weights files are not of one voice."""
    if t2s.eos != dims.codes:
        found.problems.append(f"the GPT file speaks {t2s.eos} codes, the SoVITS file has {dims.codes}: not one voice")
    if t2s.phones < dims.text_phones:
        found.problems.append(
            f"the GPT file knows {t2s.phones} phones, the SoVITS file ({dims.version}) {dims.text_phones}: "
            "a GPT file of v1 with a SoVITS file of v2 or newer; use files of the same version"
        )
    elif t2s.phones >= SYMBOL_COUNTS["v2"] > dims.text_phones:
        found.notes.append("the GPT file is of v2 or newer and the SoVITS file of v1: probably not one voice")
