"""`gsvexport init`: from what training left to a voice that can be built."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gsvexport.cli.ask import ask, choose, terminal
from gsvexport.cli.echo import echo
from gsvexport.cli.show import table
from gsvexport.errors import InputError, VoiceError

if TYPE_CHECKING:
    from gsvexport.voice.draft import Draft, Need
    from gsvexport.voice.upstream import Recording, Trained, Weights

_PATH = click.Path(path_type=Path)
_OFFERED = 5  # recordings that are offered to choose from
_PRETRAINED = Path("pretrained")  # where upstream's networks are put where nothing else is said
_NETWORKS = ("hubert", "bert", "speaker", "vocoder", "base")
_VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4")
_LANGUAGES = ("zh", "yue", "en", "ja", "ko")


@click.command()
@click.argument("what", nargs=-1, metavar="[GPT.ckpt SOVITS.pth | NAME]")
@click.option("--from", "folder", type=_PATH, metavar="DIR", help="GPT-SoVITS' own folder: finds voice NAME in it.")
@click.option("-o", "--out", type=_PATH, metavar="DIR", help="The voice's folder. [default: voices/NAME]")
@click.option("--reference", multiple=True, type=_PATH, metavar="FILE", help="A recording of it; several are averaged.")
@click.option("--text", "--reference-text", "text", help="What is said in the first recording, to the letter.")
@click.option("--language", type=click.Choice(_LANGUAGES), help="What it speaks. [default: the text's]")
@click.option("--name", help="What its artifacts are called. [default: the folder's name]")
@click.option("--version", type=click.Choice(_VERSIONS), help="Where the files do not tell v3 from v4, or to choose.")
@click.option("--gpt-epoch", type=click.IntRange(0), metavar="N", help="With --from: not the newest GPT file.")
@click.option("--sovits-epoch", type=click.IntRange(0), metavar="N", help="With --from: not the newest SoVITS file.")
@click.option(
    "--pretrained", type=_PATH, metavar="DIR", help="Upstream's pretrained_models/. [default: pretrained/, or --from's]"
)
@click.option("--hubert", type=_PATH, metavar="DIR", help="Or each by itself: chinese-hubert-base/.")
@click.option("--bert", type=_PATH, metavar="DIR", help="chinese-roberta-wwm-ext-large/, for Mandarin.")
@click.option("--speaker", type=_PATH, metavar="FILE", help="pretrained_eres2netv2w24s4ep4.ckpt, for v2Pro(Plus).")
@click.option("--vocoder", type=_PATH, metavar="PATH", help="BigVGAN's folder for v3, vocoder.pth for v4.")
@click.option("--base", type=_PATH, metavar="FILE", help="s2Gv3.pth or s2Gv4.pth, for a LoRA.")
@click.option("--copy", is_flag=True, help="Copy weights and recordings into the voice's folder.")
@click.option("--force", is_flag=True, help="Replace a voice.toml (and copies) that exist.")
def init(what: tuple[str, ...], **options: Any) -> None:
    """Make a voice of GPT-SoVITS' files: write its voice.toml, and check what a build would check.

    Give the GPT file (.ckpt), the SoVITS file (.pth), a recording of the voice of 3 to 10 seconds and the words in it.
    Or give the folder of GPT-SoVITS and the name that the voice was trained under: the newest pair of weights, a
    recording with its text, and upstream's networks are found there.

    Version and language are detected. What is missing is listed, with the command that gets it; on a terminal it is
    asked for. Files near the voice's folder are named relative to it, others by their full path; --copy copies weights
    and recordings. Nothing is downloaded, nothing in the files is run, and no link out of --from is followed.

    \b
    Examples:
      gsvexport init alice-e15.ckpt alice_e8_s96.pth --reference ref.wav --text "Good morning." -o voices/alice
      gsvexport init --from GPT-SoVITS/ alice
      gsvexport init --from GPT-SoVITS/ alice --sovits-epoch 4 --copy -o voices/alice

    Exit code 0 when the voice can be built, 3 when something is missing or wrong: voice.toml is written all the same
    when its weights can be read.
    """
    from gsvexport.files import refuse_existing
    from gsvexport.voice.draft import begun, check, missing, unknown_version
    from gsvexport.voice.written import FILE, write

    _refuse_absent(options)
    found = _files(what, **options)
    name, out = _named(found, options)
    refuse_existing(out / FILE, force=options["force"])
    hint = options["version"]
    if hint is None and found.version is None and terminal() and unknown_version(found.sovits, options["base"]):
        hint = ("v3", "v4")[choose("Nothing in the files tells its version. Which is it?", ("v3", "v4"))]
    draft = begun(name, found.gpt, found.sovits, hint, options["base"], found.version)
    draft, passed = _with_networks(draft, options)
    draft, recorded, more = _with_reference(draft, found, options)
    draft = _with_language(draft, options["language"], recorded)
    if "zh" not in (draft.language, draft.spoken):
        draft = replace(draft, bert=options["bert"])  # a gigabyte that other languages do not need
    written = write(draft, out, copy=options["copy"], force=options["force"])
    checked, needs = check(written, out / FILE), missing(draft)
    echo(f"{out / FILE} is written\n\n{_page(written, found, checked.phones)}", nl=False)
    for note in (*passed, *more, *checked.notes, *_flat_mandarin(draft)):
        echo(f"note: {note}")
    build = _command("gsvexport", "--target", _target(), str(out))
    if checked.problems or needs:
        absent = [f"missing: {need.what} ({need.option})" for need in needs]
        raise VoiceError(
            f"{out / FILE} is written, but cannot be built yet",
            problems=[*absent, *checked.problems],
            fix="\n         ".join([*_next(what, options, needs), build]),
        )
    echo(f"\nIt is complete. Build it:\n  {build}")


@dataclass(frozen=True)
class _Found:
    """The two files, what the voice is called where they lay, and what else is known of them there."""

    gpt: Path
    sovits: Path
    label: str
    version: str | None = None
    trained: Trained | None = None
    pair: tuple[Weights, Weights] | None = None


def _files(what: Sequence[str], folder: Path | None, version: str | None, **options: Any) -> _Found:
    """The two weights files that the arguments mean."""
    if folder is not None:
        return _in_folder(what, folder, version, options["gpt_epoch"], options["sovits_epoch"])
    if options["gpt_epoch"] is not None or options["sovits_epoch"] is not None:
        raise InputError("an epoch is chosen in a folder of GPT-SoVITS", fix="add --from DIR, or name the files alone")
    if len(what) != 2:
        raise InputError(
            f"a voice is made of two files, and {len(what)} {'was' if len(what) == 1 else 'were'} given",
            fix="gsvexport init GPT.ckpt SOVITS.pth --reference FILE.wav, or gsvexport init --from GPT-SoVITS/ NAME",
        )
    gpt, sovits = map(Path, what)
    if (gpt.suffix, sovits.suffix) == (".pth", ".ckpt"):
        fix = _command("gsvexport", "init", what[1], what[0], "…")
        raise InputError("the GPT file (.ckpt) comes first, the SoVITS file (.pth) second", fix=fix)
    if absent := [f"there is no file at {path}" for path in (gpt, sovits) if not os.path.exists(path)]:
        raise InputError("no voice can be made of these files", problems=absent, fix="check the two paths")
    return _Found(gpt, sovits, re.sub(r"_e\d+(_s\d+)?(_l\d+)?$", "", sovits.stem))


def _in_folder(
    what: Sequence[str], folder: Path, version: str | None, gpt_epoch: int | None, sovits_epoch: int | None
) -> _Found:
    from gsvexport.voice.upstream import look, pair

    if len(what) > 1:
        raise InputError(
            f"--from takes one NAME, and {len(what)} were given", fix=f"gsvexport init --from {folder} NAME"
        )
    trained = look(folder)
    names = trained.names()
    if what:
        name = what[0]
    elif names and (len(names) == 1 or terminal()):
        name = names[choose("Which voice?", names) if len(names) > 1 else 0]
    else:
        raise InputError(
            f"which voice of {folder}?" if names else f"no voice in {folder} has both a GPT and a SoVITS file",
            problems=trained.passed,
            limit=", ".join(names[:20]) or None,
            fix=f"gsvexport init --from {folder} NAME",
        )
    versions = trained.versions(name)
    if version is None and len(versions) > 1 and terminal():
        version = versions[choose(f"{name} is there in several versions. Which one?", versions)]
    gpt, sovits = pair(trained, name, version, gpt_epoch, sovits_epoch)
    return _Found(gpt.path, sovits.path, name, sovits.version, trained, (gpt, sovits))


def _named(found: _Found, options: dict[str, Any]) -> tuple[str, Path]:
    """The voice's name, and its folder."""
    from gsvexport.voice.profile import NAME

    def wrong(name: str) -> str | None:
        return None if NAME.fullmatch(name) else "a name is 1 to 64 letters of ASCII, digits, '.', '_' and '-'"

    out: Path | None = options["out"]
    name: str | None = options["name"]
    if name is None:
        called = found.label if out is None else Path(os.path.abspath(out)).name
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", called).strip("-.")[:64]
    if wrong(name) and options["name"] is None and terminal():
        name = ask("What shall it be called?", wrong) or name
    if problem := wrong(name):
        raise InputError(f"{name or found.label!r} cannot be a voice's name", limit=problem, fix="--name alice")
    return name, Path("voices") / name if out is None else out


def _with_networks(draft: Draft, options: dict[str, Any]) -> tuple[Draft, list[str]]:
    """The draft with what upstream's networks are there, and notes; one that its version does not take is refused."""
    from gsvexport.stages import VERSIONS
    from gsvexport.voice.upstream import networks

    version = VERSIONS[draft.version]
    taken = {"hubert": True, "bert": True, "speaker": version.speaker, "vocoder": version.mel, "base": draft.lora}
    if strange := [key for key in _NETWORKS if options[key] is not None and not taken[key]]:
        kind = "LoRA of v3 or v4" if strange == ["base"] else "voice of another version"
        fix = "leave out " + ", ".join(f"--{key}" for key in strange)
        raise InputError(f"this is a {draft.version} voice; --{strange[0]} is for a {kind}", fix=fix)
    found, notes = networks(_networks_at(options), draft.version)
    there: dict[str, Any] = {key: options[key] or found.get(key) for key in _NETWORKS if taken[key]}
    return replace(draft, **there), notes


def _networks_at(options: dict[str, Any]) -> Path:
    """Where upstream's networks are looked for, and put."""
    from gsvexport.voice.upstream import PRETRAINED

    given: Path | None = options["pretrained"]
    return given or (options["folder"] / PRETRAINED if options["folder"] is not None else _PRETRAINED)


def _with_reference(draft: Draft, found: _Found, options: dict[str, Any]) -> tuple[Draft, str | None, list[str]]:
    """The draft with a recording and its text; the language of that recording, where it is known; and notes."""
    from gsvexport.voice.upstream import recordings, suggested

    audio, text = tuple(options["reference"]), options["text"]
    known, notes = recordings(found.trained.folder, found.label) if found.trained else ([], [])
    one: Recording | None = None
    if audio:  # perhaps one of those that it was trained with, whose text is known
        same = os.path.realpath(audio[0])
        one = next((item for item in known if os.path.realpath(item.path) == same), None)
    elif text is None and (offered := suggested(known, _OFFERED if terminal() else 1)):
        one = offered[_chosen(offered) if len(offered) > 1 else 0]
        audio = (one.path,)
    elif known and text is None:
        notes.append(
            f"none of the {len(known)} recordings in logs/{found.label} is one to speak like; give --reference"
        )
    if not audio and terminal():
        given = ask("A recording to speak like, 3 to 10 seconds (a file; Enter for none)", _no_file)
        audio = (Path(given).expanduser(),) if given else ()
    if text is None and one is not None:
        text = one.text
    if text is None and audio and terminal():
        text = ask("What is said in it, to the letter (Enter for nothing: a voice without a prompt)")
    language = one.language if one is not None and text == one.text else None
    return replace(draft, audio=audio, text=text or None), language, notes


def _chosen(offered: Sequence[Recording]) -> int:
    told = [f"{one.path.stat().st_size / 64_000:4.1f} s  {one.text}" for one in offered]
    return choose("Which recording shall it speak like?", told)


def _with_language(draft: Draft, language: str | None, recorded: str | None) -> Draft:
    from gsvexport.voice.draft import in_language

    said = in_language(draft, language, recorded)
    if said.language is None and terminal():
        chosen = _LANGUAGES[choose("Which language does it speak?", _LANGUAGES)]
        said = in_language(draft, chosen, recorded)
    return said


def _page(draft: Draft, found: _Found, phones: int | None) -> str:
    """What the voice is, for a person."""
    from gsvexport.voice.upstream import epochs

    of = ("", "")
    if found.trained is not None and found.pair is not None:
        gpt, sovits = found.pair
        there = (epochs(found.trained.gpt, gpt), epochs(found.trained.sovits, sovits))
        of = tuple(  # type: ignore[assignment]
            f"  (epoch {one.epoch} of {', '.join(map(str, known))})" if one.epoch is not None else ""
            for one, known in zip(found.pair, there, strict=True)
        )
    spoken = f"{draft.language or 'unknown'}" + (f"; the recording's text is in {draft.spoken}" if draft.spoken else "")
    rows = [
        ("name", draft.name),
        ("version", draft.version + (", a LoRA" if draft.lora else "")),
        ("language", spoken),
        ("gpt", f"{draft.gpt}{of[0]}"),
        ("sovits", f"{draft.sovits}{of[1]}"),
        *(("reference", f"{path}{_sound(path)}") for path in draft.audio),
        *(() if draft.audio else (("reference", "none"),)),
        ("text", (draft.text or "none") + (f"  ({phones} phones)" if phones is not None else "")),
        *((key, str(path)) for key in _NETWORKS if (path := getattr(draft, key)) is not None),
    ]
    return table([("", key, value.replace("\n", " ")) for key, value in rows])


def _sound(path: Path) -> str:
    """How long and how loud a recording is, where that can be told."""
    from gsvexport.errors import EnvironmentProblem
    from gsvexport.voice.upstream import sound

    try:
        seconds, level, _ = sound(path)
    except (VoiceError, EnvironmentProblem):
        return ""
    return f"  ({seconds:.1f} s, {level:.0f} dB)"


def _flat_mandarin(draft: Draft) -> list[str]:
    if "zh" not in (draft.language, draft.spoken) or draft.bert is not None:
        return []
    return ["without BERT (--bert chinese-roberta-wwm-ext-large/) Mandarin is spoken without its text's features"]


def _next(what: Sequence[str], options: dict[str, Any], needs: Sequence[Need]) -> list[str]:
    """The commands that get what is missing, and the one that begins again."""
    from gsvexport.voice.draft import download

    place = _networks_at(options)
    getting = download(list(needs), place)
    words = ["gsvexport", "init", *what]
    for key, value in options.items():
        option = {"folder": "--from"}.get(key, f"--{key.replace('_', '-')}")
        if key == "force" or value in (None, False, ()):
            continue
        for item in value if isinstance(value, tuple) else (value,):
            words += [option] if item is True else [option, str(item)]
    more = [need.option for need in needs if not need.networks]
    again = " ".join([_command(*words), *more, "--force"])
    if getting is None:
        return [again]
    return [f"{_command(*getting)}     (pip install huggingface_hub)", again]


def _refuse_absent(options: dict[str, Any]) -> None:
    """Raise for every file or folder that is named and not there."""
    given = [(f"--{key}", path) for key in ("base", "vocoder", "speaker") if (path := options[key]) is not None]
    given += [("--reference", path) for path in options["reference"]]
    wrong = [f"{option}: there is no file at {path}" for option, path in given if not os.path.exists(path)]
    folders = [(f"--{key}", path) for key in ("hubert", "bert") if (path := options[key]) is not None]
    folders += [("--from", options["folder"])] if options["folder"] is not None else []
    wrong += [f"{option}: there is no folder at {path}" for option, path in folders if not os.path.isdir(path)]
    if options["text"] is not None and not options["text"].strip():
        wrong.append("--text: it is empty; leave it out for a voice without a prompt")
    if wrong:
        raise InputError("no voice can be made of this", problems=wrong, fix="gsvexport init --help")


def _no_file(line: str) -> str | None:
    return None if os.path.isfile(os.path.expanduser(line)) else f"there is no file at {line}"


def _target() -> str:
    """A target that runs on this machine."""
    if platform.machine().lower() not in ("aarch64", "arm64"):
        return "x86-64-int8"
    return "apple-silicon" if platform.system() == "Darwin" else "generic-arm64"


def _command(*words: str) -> str:
    """Words as they are typed into a shell."""
    if os.name != "posix":
        return " ".join(f'"{word}"' if re.search(r"[\s&()^]", word) else word for word in words)
    return shlex.join(words)
