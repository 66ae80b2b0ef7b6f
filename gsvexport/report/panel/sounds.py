"""The sounds of a listening test: reference and artifacts say the same sentences, and anchors spoil the reference's."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import InputError, missing_package
from gsvexport.progress import Progress, counted, within
from gsvexport.report.panel.key import MOST_ARTIFACTS, MOST_SENTENCES, Condition
from gsvexport.report.players import wav
from gsvexport.report.render import opener_of
from gsvexport.report.stored import Stored, read_stored
from gsvexport.runtime.pipeline import LoadedVoice, load
from gsvexport.verify import damage, freerun, heldout, runaways

Array = NDArray[Any]

CODECS = {"flac": "audio/flac", "opus": "audio/ogg", "wav": "audio/wav"}
LONGEST = 12.0  # seconds of a sound; BS.1534 asks for about 10
_PHONES = (18, 60)
_OPUS_RATE = 48000
# BS.1534-3: 3.5 kHz; at least 25 dB down at 4 kHz and 50 dB at 4.5 kHz.
_PASS, _STOP = 3500.0, 4000.0
_ONCE = (0,)  # the only seed
_NOISE_DB = 15.0  # an error of ours at its worst: in noise of 20 dB the gates of sound refuse a voice


@dataclass(frozen=True, eq=False)
class Stimuli:
    """Conditions, the first of which is the reference; sentences; and for each condition the samples [N] of each
    sentence at `rate` Hz, on the reference's codes (`equal`) and as each speaks freely (`free`)."""

    conditions: tuple[Condition, ...]
    sentences: tuple[str, ...]
    equal: tuple[tuple[Array, ...], ...]
    free: tuple[tuple[Array, ...], ...]
    rate: int


def speak(
    artifacts: Sequence[Path],
    reference: Path,
    count: int,
    seed: int,
    say: Progress,
    texts: Path | None = None,
) -> Stimuli:
    """Let reference and artifacts say `count` sentences, which `seed` chooses among the held-out ones or those of the
    file `texts`; what the reference itself cannot say is not among them.

    Raises:
        InputError: voices that differ, a voice without a baked reference, or too few sentences.
        ArtifactError, BackendError: an artifact cannot be opened or run.
    """
    if not 1 <= len(artifacts) <= MOST_ARTIFACTS or not 1 <= count <= MOST_SENTENCES:
        found, limit = f"{len(artifacts)} and {count}", f"1 to {MOST_ARTIFACTS} and 1 to {MOST_SENTENCES}"
        raise InputError("a listening test has so many artifacts and sentences", found=found, limit=limit)
    with contextlib.ExitStack() as opened:
        judge = opened.enter_context(_open(reference)[0])
        pairs = [_open(path) for path in artifacts]
        voices = [opened.enter_context(voice) for voice, _ in pairs]
        _alike(judge, reference, voices, artifacts, [stored for _, stored in pairs])
        sentences, said = _sentences(judge, count, seed, say, texts)
        low = [_low_passed(one.samples, one.rate) for one in said]
        noisy = [damage.noise(one.samples, _NOISE_DB) for one in said]
        own = [one.samples for one in said]
        equal, free = [own, low, noisy], [own, low, noisy]
        for voice, path in zip(voices, artifacts, strict=True):
            spoken = freerun.utterances(voice, sentences, _ONCE, within(path.name, say))
            again = freerun.repeated(voice, sentences, said, spoken, _ONCE, within(path.name, say))
            free.append([one.samples for one in spoken])
            equal.append([one.samples for one in again])
        conditions = (
            Condition("the reference", "reference"),
            Condition("anchor: low-pass 3.5 kHz", "anchor"),
            Condition(f"anchor: noise, {_NOISE_DB:g} dB", "anchor"),
            *(
                Condition(_name(path, artifacts), "artifact", stored.manifest.digest if stored else "")
                for path, (_, stored) in zip(artifacts, pairs, strict=True)
            ),
        )
        longest = int(LONGEST * judge.rate)
        heard, spoke = (tuple(tuple(one[:longest] for one in row) for row in rows) for rows in (equal, free))
        return Stimuli(conditions, tuple(one.text for one in sentences), heard, spoke, judge.rate)


def encoded(samples: Array, rate: int, codec: str) -> bytes:
    """Samples [N] as a file of 16 bits: FLAC and WAV lose nothing more, Opus does.

    Raises:
        EnvironmentProblem: the package soundfile is absent.
    """
    if codec == "wav":
        return wav(samples, rate)
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise missing_package("soundfile", f"sound as {codec}", "compile") from error
    sound = np.clip(samples, -1.0, 1.0)
    if codec == "opus":
        from gsvexport.signal.audio import resample

        sound, rate = np.clip(resample(sound, rate, _OPUS_RATE), -1.0, 1.0), _OPUS_RATE
    out = io.BytesIO()
    kind, code = ("FLAC", "PCM_16") if codec == "flac" else ("OGG", "OPUS")
    soundfile.write(out, sound, rate, format=kind, subtype=code)
    return out.getvalue()


def uri(data: bytes, codec: str) -> str:
    """A file as part of a page."""
    return f"data:{CODECS[codec]};base64,{base64.b64encode(data).decode()}"


def _open(path: Path) -> tuple[LoadedVoice, Stored | None]:
    if path.is_dir() and (path / "source.json").is_file():
        return load(path), None
    stored = read_stored(path)
    stand_in = opener_of(stored.manifest)
    if stand_in:
        return load(path, any_machine=True, opener=stand_in[0]), stored
    return load(path, any_machine=True), stored


def _alike(
    judge: LoadedVoice,
    reference: Path,
    voices: Sequence[LoadedVoice],
    paths: Sequence[Path],
    held: Sequence[Stored | None],
) -> None:
    """Only one voice's artifacts can be rated against its reference."""
    problems = [
        f"{path}: {voice.model.name} ({voice.model.version}) is not the voice of {reference}, or has another reference"
        for voice, path in zip(voices, paths, strict=True)
        if (voice.model.name, voice.model.version, voice.model.baked_key)
        != (judge.model.name, judge.model.version, judge.model.baked_key)
    ]
    digests = [stored.manifest.digest for stored in held if stored]
    problems += [f"{path} is there twice" for path, one in zip(paths, digests, strict=False) if digests.count(one) > 1]
    problems += [f"{reference}: it has no baked reference, so it says nothing"] if "ge" not in judge.baked else []
    if problems:
        raise InputError("these cannot be heard in one test", problems=problems, fix="name artifacts of one voice")


def _sentences(
    judge: LoadedVoice, count: int, seed: int, say: Progress, texts: Path | None
) -> tuple[list[heldout.Sentence], list[freerun.Utterance]]:
    found = heldout.sentences(judge.model, texts)
    fitting = [one for one in found if texts or _PHONES[0] <= len(one.phones) <= _PHONES[1]]
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(fitting))
    sentences: list[heldout.Sentence] = []
    for place in order:
        one = fitting[int(place)]
        [spoken] = freerun.utterances(judge, [one], _ONCE, lambda _: None)
        away = runaways.ran_away(judge, [runaways.Written(one.phones, spoken.codes, spoken.ended)])
        if away[0] or spoken.samples.size > LONGEST * spoken.rate:
            continue
        sentences.append(one)
        say(counted(f"the reference: sentence {len(sentences)} of {count}", "the reference", len(sentences), count))
        if len(sentences) == count:
            return sentences, freerun.utterances(judge, sentences, _ONCE, lambda _: None)
    raise InputError(
        f"there are not {count} sentences in '{judge.model.language}' that the reference says well",
        found=len(sentences),
        fix="give some with --texts FILE, one a line, or ask for fewer with --count",
    )


def _low_passed(samples: Array, rate: int) -> Array:
    """BS.1534's low anchor: nothing above 4 kHz, all of what is below 3.5."""
    spectrum = np.fft.rfft(samples)
    place = (np.fft.rfftfreq(samples.size, 1 / rate) - _PASS) / (_STOP - _PASS)
    spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip(place, 0.0, 1.0))
    return np.asarray(np.fft.irfft(spectrum, samples.size), np.float32)


def _name(path: Path, among: Sequence[Path]) -> str:
    """What an artifact is called in a table: its file's name, with the folder's where two have one."""
    alone = [other.name for other in among].count(path.name) == 1
    return (path.name if alone else f"{path.absolute().parent.name}/{path.name}")[-200:]
