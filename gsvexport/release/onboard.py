"""From a recording to a published voice: choose the stretch, have its text, bake it into what was built before, sign.

Everything that can be refused without work is refused before any; what a later step fails on is kept where it was made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from gsvexport.artifact import container
from gsvexport.artifact.keys import private_names, sign_with
from gsvexport.artifact.signature import add_signature
from gsvexport.compiler.build import build_opened, source_of
from gsvexport.compiler.inputs import open_voice
from gsvexport.compiler.rebake import rebake_artifact, rebake_source
from gsvexport.compiler.source import Source, open_source
from gsvexport.compiler.store import Store
from gsvexport.errors import EnvironmentProblem, GsvError, InputError
from gsvexport.files import atomic_file, refuse_existing, temporary_directory
from gsvexport.progress import Progress, note, step
from gsvexport.registry import index
from gsvexport.registry.places import Place, WebPlace
from gsvexport.registry.publish import Published, publish
from gsvexport.signal.audio import Samples, decode
from gsvexport.signal.excerpt import Excerpt, excerpts
from gsvexport.target.target import read_targets
from gsvexport.verify.matched import part_of
from gsvexport.verify.recogniser import Recogniser
from gsvexport.verify.speech import narrow
from gsvexport.voice.profile import ReferenceTable, given_reference, read_profile

LONGEST = 600.0  # s of a recording
_HEARD = 3  # stretches that are listened to, for one that is a whole sentence
_NEAR = 15.0  # of a score, that a whole sentence may cost
_ENDS = (".", "!", "?", "。", "！", "？", "…")
_BAKE, _VERIFY = "bake", "verify"


@dataclass(frozen=True)
class Phase:
    """What was done, how long it took in s, and what came of it."""

    name: str
    seconds: float
    words: str


@dataclass(frozen=True)
class Wanted:
    """A recording and what is to become of it. `text` is what is said in all of it; None has the recogniser write it.
    `key` is a private key's name; None takes the only one."""

    recording: Path
    base: Path
    targets: Sequence[str]
    name: str
    place: Place
    text: str | None = None
    language: str | None = None
    key: str | None = None
    recogniser: Path | None = None
    out: Path = field(default_factory=Path)
    force: bool = False


def onboard(
    wanted: Wanted, told: Callable[[Phase], None] = lambda _: None, progress: Progress | None = None
) -> list[Published]:
    """Make a voice of a recording, and publish it; `told` hears of each phase as it ends.

    Raises:
        InputError: a name, key, output or repository that cannot be used, before any work; no text.
        VoiceError: no stretch of the recording can be used; the base is broken.
        GateFailed: with this recording an artifact misses a limit; its report is left beside it.
        EnvironmentProblem: the recogniser is wanted and not here; the repository cannot be written. What was baked
            is left where it is.
    """
    clock = _Clock(told, progress or (lambda _: None))
    wanted, key = _refuse(wanted)
    with temporary_directory(wanted.out / f"{wanted.name}.gsv") as work:
        with clock.phase("choose"):
            samples, rate = decode(wanted.recording, LONGEST)
            found = excerpts(samples, rate, str(wanted.recording))
            clock.words = found[0].line
        with clock.phase("text"):
            chosen, text = _text(wanted, samples, rate, found)
            moved = "" if chosen is found[0] else f", from {chosen.start:.2f} s on, a whole sentence"
            clock.words = f"{text!r}{moved}"
        part = samples[round(chosen.start * rate) : round(chosen.end * rate)]
        reference = given_reference([_written(part, rate, work / "reference.wav")], text, wanted.language)
        made = []
        for name in wanted.targets:
            made.append(_bake(wanted, name, reference, work / name, clock))
        with clock.phase("sign"):
            signers = {add_signature(path, partial(sign_with, key)).id for path in made}
            clock.words = f"{key} (key {', '.join(signers)})"
        try:
            with clock.phase("publish"):
                done = publish(made, wanted.place, progress=clock.say)
                clock.words = ", ".join(one.entry.title for one in done)
        except GsvError:
            paths = " ".join(map(str, made))
            clock.say(note(f"made and signed, and not published: gsvexport publish {paths} {wanted.place.name}"))
            raise
    return done


def _refuse(wanted: Wanted) -> tuple[Wanted, str]:
    """Refuse what no work would make right; returns what is wanted, with its language, and the name of the key."""
    index.check_name(wanted.name, "voice")
    names = [target.name for one in wanted.targets for target in read_targets([one])]
    if not names or len({*names}) < len(names):
        raise InputError("name each target once", found=", ".join(names) or "none", fix="--target x86-64-int8")
    for path in (_output(wanted, name) for name in wanted.targets):
        refuse_existing(path, force=wanted.force)
    if isinstance(wanted.place, WebPlace):
        what = f"{wanted.place.name} can only be pulled from"
        raise InputError(what, fix="name the folder or the bucket that the server serves")
    own = private_names()
    if wanted.key is None and len(own) != 1:
        found = ", ".join(own) or "none"
        raise InputError(
            "which key signs?", found=f"private keys here: {found}", fix="--key NAME, or gsvexport key new NAME"
        )
    key = wanted.key or own[0]
    sign_with(key, b"")
    if (wanted.base / "source.json").is_file():
        model = open_source(wanted.base).model
        language, hears = model.language, "ssl" in model.files
    else:
        profile = read_profile(wanted.base)
        language, hears = profile.language, profile.hubert is not None
    if not hears:
        what = f"{wanted.base} has no HuBERT, which makes a prompt of a recording"
        raise InputError(what, fix='hubert = "chinese-hubert-base/" in [pretrained] of its voice.toml')
    return replace(wanted, language=wanted.language or language), key


def _output(wanted: Wanted, target: str) -> Path:
    return wanted.out / f"{wanted.name}-{read_targets([target])[0].name}{container.SUFFIX}"


def _text(wanted: Wanted, samples: Samples, rate: int, found: Sequence[Excerpt]) -> tuple[Excerpt, str]:
    """The stretch, and what is said in it.

    Where the text of the whole recording is given, and the stretch is all of its speech, that is it. Else the
    recogniser listens: among the best stretches one that it hears as whole sentences is preferred.
    """
    best = found[0]
    whole = _all_of(found)
    if wanted.text is not None and whole is not None:
        return whole, " ".join(wanted.text.split())
    try:
        listen = Recogniser(wanted.language or "en", wanted.recogniser)
    except EnvironmentProblem as error:
        why = "only a part of the recording is used" if wanted.text is not None else "no text was given"
        fix = "cut the recording to 3 to 10 s and give its text" if wanted.text is not None else "--text TEXT"
        raise EnvironmentProblem(f"{why}, and nothing here can hear what it says: {error.what}", fix=fix) from error
    candidates = [one for one in found if one.score >= best.score - _NEAR][:_HEARD]
    first: tuple[Excerpt, str] | None = None
    for one in candidates:
        part = samples[round(one.start * rate) : round(one.end * rate)].mean(axis=1)
        heard = listen(narrow(part, rate))
        if not heard:
            continue
        first = first or (one, heard)
        if heard.endswith(_ENDS) and not heard[:1].islower():
            first = one, heard
            break
    if first is None:
        raise InputError(
            f"nothing is heard in {wanted.recording}", found=best.line, fix="--text TEXT, or another recording"
        )
    if wanted.text is None:
        return first
    return first[0], part_of(wanted.text, first[1], wanted.language or "en")[0]


def _all_of(found: Sequence[Excerpt]) -> Excerpt | None:
    """The stretch that holds all of the others."""
    start, end = min(one.start for one in found), max(one.end for one in found)
    return next((one for one in found if (one.start, one.end) == (start, end)), None)


def _written(samples: Samples, rate: int, path: Path) -> Path:
    import soundfile

    with atomic_file(path) as work:
        soundfile.write(work, np.asarray(samples), rate, format="WAV", subtype="FLOAT")
    return path


def _bake(wanted: Wanted, target: str, reference: ReferenceTable, work: Path, clock: _Clock) -> Path:
    """One artifact of the voice, verified."""
    base, out = wanted.base, _output(wanted, target)
    with clock.phase("base"):
        opened = open_voice(base, progress=clock.say)
        clock.words = f"{opened.subject.name} for {target}"
        origin: Source | None
        if opened.subject.baked:
            built = build_opened(opened, target, work, clock.say)
            origin = source_of(opened, Store(note=clock.say), clock.say)
        elif opened.source is not None:  # whoever is built has to have spoken
            origin = rebake_source(base, reference, work / "source", progress=clock.say)
            built = build_opened(open_voice(origin.path, progress=clock.say), target, work, clock.say)
        else:
            built, origin = build_opened(open_voice(base, reference=reference), target, work, clock.say), None
        del opened  # its weights
    with clock.phase(_BAKE):
        clock.words = f"{reference.audio[0].name} into it"
        named = partial(rebake_artifact, name=wanted.name, force=wanted.force)
        named(built, reference, out, source=origin, own=True, progress=clock.say)
        clock.words = f"{out}, {out.stat().st_size / 1e6:.1f} MB"
    return out


class _Clock:
    """Tells of phases. Verifying is part of baking there, and told of as a phase of its own."""

    def __init__(self, told: Callable[[Phase], None], progress: Progress) -> None:
        self._told, self._progress = told, progress
        self._name, self._began = "", 0.0
        self.words = ""

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A phase, told of when it ends well."""
        self._begin(name)
        yield
        self._end()

    def say(self, text: str) -> None:
        """As any progress."""
        phase = step(text).phase
        if self._name == _BAKE and phase.startswith("verifying"):
            self._end()
            self._begin(_VERIFY)
        self._progress(text)

    def _begin(self, name: str) -> None:
        self._name, self._began, self.words = name, time.monotonic(), ""

    def _end(self) -> None:
        self._told(Phase(self._name, time.monotonic() - self._began, self.words))
