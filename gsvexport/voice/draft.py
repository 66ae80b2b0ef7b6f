"""A voice in the making: what is known of it, what is still missing, and what a build would find wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from gsvexport.errors import EnvironmentProblem, VoiceError
from gsvexport.stages import VERSIONS
from gsvexport.text.runs import runs
from gsvexport.voice import upstream
from gsvexport.voice.checkpoint import Checkpoint, read_checkpoint, without
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.findings import Findings
from gsvexport.voice.layout import TRAINING_ONLY
from gsvexport.voice.lora import is_lora, merged
from gsvexport.voice.pretrained import read_bert, read_hubert, read_speaker
from gsvexport.voice.profile import ReferenceTable
from gsvexport.voice.reference import Reference, checked_reference
from gsvexport.voice.sizes import sovits_dims, t2s_dims
from gsvexport.voice.version import Told, find_version
from gsvexport.voice.vocoder import read_vocoder
from gsvexport.voice.voice import compare, read_voice

_ALSO_HAN = ("yue", "ja")  # a text in Han characters alone may be of these, too
_SAY_WHICH = "say which: --version v3, or --version v4; whoever trained it knows"


@dataclass(frozen=True)
class Draft:
    """What is known of a voice. Paths are the user's; `language` and the files are None as long as nothing is known.

    `language` is what the voice speaks, `spoken` that of the recording's text where it is another one. `dims` are those
    of the SoVITS file where it is whole, which a LoRA is not.
    """

    name: str
    gpt: Path
    sovits: Path
    version: str
    lora: bool
    language: str | None = None
    audio: tuple[Path, ...] = ()
    text: str | None = None
    spoken: str | None = None
    hubert: Path | None = None
    bert: Path | None = None
    speaker: Path | None = None
    vocoder: Path | None = None
    base: Path | None = None
    dims: SovitsDims | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Need:
    """Something that a build asks for and that is not there: `option` gives it, `networks` is what to get of upstream's
    pretrained models."""

    what: str
    option: str
    networks: str = ""


def begun(
    name: str, gpt: Path, sovits: Path, hint: str | None = None, base: Path | None = None, likely: str | None = None
) -> Draft:
    """A draft of two weights files, once both can be read.

    Which version they are of is detected. `hint` is what their owner says; it may not contradict them. `likely` is
    believed where nothing else tells: the version in whose folder they lay.

    Raises:
        VoiceError: one of them cannot be used, they are swapped, or nothing tells the version; all findings.
    """
    found = Findings()
    first = found.collect(lambda: read_checkpoint(gpt))
    second = found.collect(lambda: read_checkpoint(sovits))
    t2s = found.collect(lambda: t2s_dims(first)) if first else None
    version = found.collect(lambda: _version(second, hint, base, likely)) if second else None
    dims = None
    if second and version and not is_lora(second):
        dims = found.collect(lambda: sovits_dims(second, Told(version)))
    if t2s and dims:
        compare(t2s, dims, found)
    if found.problems or second is None or version is None:
        raise VoiceError(f"no voice can be made of {gpt} and {sovits}", problems=found.problems, fix=found.fix)
    return Draft(name, gpt, sovits, version, is_lora(second), base=base, dims=dims)


def unknown_version(sovits: Path, base: Path | None = None) -> bool:
    """Whether nothing but its owner can tell if a SoVITS file is of v3 or v4."""
    try:
        _version(read_checkpoint(sovits), None, base, None)
    except VoiceError as error:
        return error.fix == _SAY_WHICH
    return False


def _version(checkpoint: Checkpoint, hint: str | None, base: Path | None, likely: str | None) -> str:
    start = read_checkpoint(base).start if base is not None and is_lora(checkpoint) else ""
    try:
        told = find_version(checkpoint, hint, start)
    except VoiceError as error:
        if likely in ("v3", "v4"):  # the two that nothing may tell apart
            return likely
        raise VoiceError(error.what, found=error.found, fix=_SAY_WHICH) from error
    if told.problems:
        wrong = [text.replace("voice.toml says version", "--version says") for text in told.problems]
        raise VoiceError(f"{checkpoint.path} is not of one version", problems=wrong, fix="leave --version out")
    return told.version


def language_of(text: str) -> str | None:
    """The language of a text by its script: ko, ja, zh or en; None where it has no letter. Cantonese is taken for
    Mandarin: both are written in the same characters."""
    count: dict[str, int] = {}
    for run in runs(text, "auto"):
        if letters := sum(letter.isalpha() for letter in run.text):
            count[run.language] = count.get(run.language, 0) + letters
    others = {language: letters for language, letters in count.items() if language != "en"}
    return max(others or count, key=lambda language: count[language], default=None)


def in_language(draft: Draft, language: str | None, recorded: str | None = None) -> Draft:
    """The draft with its languages: the voice's is `language`, or that of the recording, which is `recorded`, or what
    its text is written in."""
    script = language_of(draft.text) if draft.text else None
    spoken = recorded or script
    voice = language or spoken
    if spoken is None or voice == spoken or (recorded is None and spoken == "zh" and voice in _ALSO_HAN):
        return replace(draft, language=voice, spoken=None)
    return replace(draft, language=voice, spoken=spoken)


def missing(draft: Draft) -> list[Need]:
    """What a build of this voice asks for and is not there, all of it."""
    version, needs = VERSIONS[draft.version], []
    prompted = version.mel is not None or draft.text is not None or not draft.audio
    if draft.lora and draft.base is None:
        what = f"the base of this LoRA, upstream's own {draft.version} model"
        needs.append(Need(what, "--base", upstream.BASES[draft.version]))
    if version.mel is not None and draft.vocoder is None:
        files = upstream.VOCODERS[draft.version]
        needs.append(Need(f"the vocoder that upstream offers for {draft.version}", "--vocoder", files))
    if not draft.audio:
        needs.append(Need("a recording to speak like, of 3 to 10 seconds", "--reference FILE.wav"))
    if draft.text is None and (version.mel is not None or not draft.audio):
        needs.append(Need("what is said in the recording", '--text "…"'))
    if draft.language is None:
        needs.append(Need("the voice's language: zh, yue, en, ja or ko", "--language en"))
    if prompted and draft.hubert is None:
        needs.append(Need("HuBERT, which makes prompt codes of the recording", "--hubert", upstream.NETWORKS["hubert"]))
    if version.speaker and draft.speaker is None:
        files = upstream.NETWORKS["speaker"]
        needs.append(Need(f"the speaker network, which a {draft.version} voice needs", "--speaker", files))
    return needs


def download(needs: list[Need], folder: Path) -> list[str] | None:
    """The command, as its words, that gets what is missing of upstream's networks into `folder`; None where nothing is.

    It is that of the package huggingface_hub. A name without an ending is a folder.
    """
    names = [need.networks for need in needs if need.networks]
    patterns = [name if Path(name).suffix in (".pth", ".ckpt") else f"{name}/*" for name in names]
    if not names:
        return None
    included = [word for pattern in patterns for word in ("--include", pattern)]
    return ["hf", "download", "lj1995/GPT-SoVITS", *included, "--local-dir", str(folder)]


@dataclass(frozen=True)
class Checked:
    """What a build would say: problems and notes; and how many phones the recording's text has, where that is known."""

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    phones: int | None = None


def check(draft: Draft, file: Path) -> Checked:
    """What a build would find wrong with the voice whose `file` was written; what is `missing` is not repeated.

    Where nothing is missing this is the very reading that a build begins with.
    """
    found = Findings()
    reference = None
    try:
        if missing(draft):
            reference = _parts(draft, found)
        else:
            voice = read_voice(file)
            found.notes += voice.notes
            reference = voice.reference
    except VoiceError as error:
        found.problems += error.problems
    except EnvironmentProblem as error:  # a package that reads sound, or text of this language
        found.problems.append(f"{error.what}: {error.fix}")
    phones = len(reference.phones) if reference is not None and reference.phones is not None else None
    return Checked(tuple(found.problems), tuple(found.notes), phones)


def _parts(draft: Draft, found: Findings) -> Reference | None:
    """Check what is there of a voice that is not whole."""
    mel, dims, base, network = VERSIONS[draft.version].mel, draft.dims, draft.base, draft.vocoder
    vocoder = found.collect(lambda: read_vocoder(network, draft.version, mel)) if network and mel else None
    if draft.lora and base is not None:
        whole = found.collect(
            lambda: merged(read_checkpoint(draft.sovits), without(read_checkpoint(base), TRAINING_ONLY))
        )
        inner = vocoder.dims if vocoder else None
        dims = found.collect(lambda: sovits_dims(whole, Told(draft.version), inner)) if whole else None
    if (folder := draft.hubert) is not None:
        found.collect(lambda: read_hubert(folder))
    if (words := draft.bert) is not None:
        found.collect(lambda: read_bert(words))
    if (speaker := draft.speaker) is not None:
        found.collect(lambda: read_speaker(speaker))
    if not draft.audio:
        return None
    told = draft.language is not None and (draft.text is not None or mel is None)
    language = draft.language or "en"
    text = draft.text if told else None
    table = ReferenceTable(draft.audio, text, draft.spoken or language, None, None, ())
    heard = Findings()
    made = checked_reference(table, language, dims if told else None, ("ssl", "speaker"), heard)
    found.problems += heard.problems
    found.notes += heard.notes if told else []  # else they are about what is missing
    return made
