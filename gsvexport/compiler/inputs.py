"""What a VOICE argument names: a voice's checkpoints, a source exported earlier, or the built-in demo voice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gsvexport.artifact.container import SUFFIX
from gsvexport.compiler.plan import Subject
from gsvexport.errors import ArtifactError, InputError, VoiceError
from gsvexport.files import atomic_directory, canonical_json, refuse_existing, refuse_others, sha256_bytes, sha256_file
from gsvexport.progress import Progress, note
from gsvexport.stages import PRETRAINED_STAGES
from gsvexport.untrusted.reading import inside, read_bytes, why
from gsvexport.voice.profile import LARGEST_NOTICE, NOTICE

if TYPE_CHECKING:
    from gsvexport.compiler.source import Source
    from gsvexport.voice.profile import ReferenceTable
    from gsvexport.voice.voice import Voice


@dataclass(frozen=True)
class Opened:
    """What a VOICE argument turned out to be: checkpoints (`voice`), or an exported source (`source`). A build hands it
    on with the source of the voice in it.

    `notice` is what the voice's licence asks to be told with it, or None. `teacher` is the voice that a student was
    made of, where it lies where the student says; elsewhere `untaught` says why there is none.
    """

    subject: Subject
    path: Path
    voice: Voice | None = None
    source: Source | None = None
    notice: bytes | None = None
    teacher: Opened | None = None
    untaught: str = ""

    @property
    def exported(self) -> Source:
        """The ONE ONNX source, once there is one."""
        assert self.source is not None
        return self.source


def open_voice(
    path: str | Path | None, *, reference: ReferenceTable | None = None, progress: Progress | None = None
) -> Opened:
    """Read what a VOICE argument names. `reference` takes the place of a voice's own.

    Raises:
        InputError: nothing there, or something that is not a voice.
        VoiceError, ArtifactError: the voice or the source is broken; all findings.
    """
    from gsvexport.compiler.source import open_source
    from gsvexport.voice.voice import read_voice

    say = progress or (lambda _: None)
    if path is None:
        from gsvexport import demo

        path = demo.demo_voice()
        if remark := demo.remark():
            say(note(remark))
    path = Path(path)
    if not path.exists():
        raise InputError(
            f"there is no voice at {path}", fix="give a folder with a voice.toml, or none for the demo voice"
        )
    if path.is_file() and path.suffix == SUFFIX:
        raise InputError(f"{path} is an artifact already", fix="give the voice that it was built from")
    if (path / "source.json").is_file():
        if reference is not None:
            raise InputError(
                f"{path} is a source, with a reference of its own", fix=f"gsvexport bake {path} --reference … -o NEW"
            )
        say(f"checking the source {path}")
        source = open_source(path, verify=True)
        baked = "ge" in source.model.baked
        pretrained = tuple(name for name in source.model.files if name in PRETRAINED_STAGES)
        subject = Subject("source", source.model.name, source.model.version, baked, source.digest, pretrained)
        file = path / NOTICE
        try:
            notice = read_bytes(inside(path, NOTICE), LARGEST_NOTICE)
        except FileNotFoundError:
            notice = None
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{file} {why(error)}", fix="export the source again") from error
        return _with_notice(Opened(subject, path, source=source, notice=notice))
    say(f"reading {path}")
    voice = read_voice(path, reference)
    for word in voice.notes:
        say(note(word))
    baked, networks = voice.reference is not None, voice.pretrained.stages
    subject = Subject("voice", voice.name, voice.version, baked, voice_digest(voice), networks)
    opened = _with_notice(Opened(subject, path, voice=voice, notice=voice.notice))
    return _taught(opened, say) if "slim" in voice.provenance else opened


def _taught(student: Opened, say: Progress) -> Opened:
    """A student with its teacher, which is not asked for its own."""
    from gsvexport.voice.profile import read_profile
    from gsvexport.voice.voice import read_voice

    profile = read_profile(student.path)
    assert profile.slim is not None
    path, wrong = profile.path.parent / profile.slim.teacher, "it has other weights"
    try:
        voice = read_voice(path)
    except (VoiceError, OSError) as error:
        wrong = " ".join(str(error).split())
    else:
        if (voice.gpt.sha256, voice.sovits.sha256) == (profile.slim.teacher_gpt, profile.slim.teacher_sovits):
            baked, digest = voice.reference is not None, voice_digest(voice)
            subject = Subject("voice", voice.name, voice.version, baked, digest, voice.pretrained.stages)
            teacher = _with_notice(Opened(subject, path, voice=voice, notice=voice.notice))
            return replace(student, subject=replace(student.subject, teacher=teacher.subject.digest), teacher=teacher)
    say(note(f"the teacher at {path} is not compared with: {wrong}"))
    return replace(student, untaught=f"its teacher does not lie where {profile.path.name} says")


def export_source(
    path: str | Path | None, out: Path, *, force: bool = False, progress: Progress | None = None
) -> Source:
    """Write only the ONNX source of a voice to the folder `out`, with the voice's notice.

    Raises:
        InputError: `out` exists and `force` is false or it is no source, or `path` is a source already.
        VoiceError: the voice is broken; all findings.
    """
    from gsvexport.compiler.source import open_source, write_source

    refuse_existing(out, force=force)
    refuse_others(out, own=(out / "source.json").is_file(), what="a source")
    opened = open_voice(path, progress=progress)
    if opened.voice is None:
        raise InputError(f"{path} is a source already", fix="give a voice, or copy the folder")
    with atomic_directory(out, force=force) as work:
        write_source(opened.voice, work / "source", progress=progress)
        for item in (work / "source").iterdir():
            item.rename(work / item.name)
        (work / "source").rmdir()
        if opened.notice:
            (work / NOTICE).write_bytes(opened.notice)
    return open_source(out)


def voice_digest(voice: Voice) -> str:
    """SHA-256 over everything that a voice's export depends on: both checkpoints, the reference, names and hints."""
    value: dict[str, Any] = {
        "name": voice.name,
        "language": voice.language,
        "version": voice.version,
        "gpt": voice.gpt.sha256,
        "sovits": voice.sovits.sha256,
        "provenance": voice.provenance,
    }
    if (reference := voice.reference) is not None:
        codes = reference.prompt_codes
        value["reference"] = {
            "audio": [sha256_file(path) for path in reference.audio],
            "text": reference.text,
            "language": reference.language,
            "phones": list(reference.phones) if reference.phones is not None else None,
            "prompt_codes": codes.tolist() if codes is not None else None,
            "speaker": [sha256_bytes(array.tobytes()) for array in reference.speaker],
        }
    return sha256_bytes(canonical_json(value).encode())


def _with_notice(opened: Opened) -> Opened:
    """The notice is part of what is exported: another notice is another artifact."""
    if opened.notice is None:
        return opened
    both = f"{opened.subject.digest}\n{sha256_bytes(opened.notice)}".encode()
    return replace(opened, subject=replace(opened.subject, digest=sha256_bytes(both)))
