"""The voice's own ruler: how far its sound moves when nothing but the seed of its noise is another one.

GPT-SoVITS draws noise for every sentence, and two seeds are the same speech to everybody who listens. Their distance,
on equal codes, is the unit in which a build's distance from its source is judged: a real voice moves by ten times as
much as one that hardly uses its noise, and so do inaudible roundings inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import ArtifactError, InputError
from gsvexport.progress import counted
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.speech import Manner, sound_feeds
from gsvexport.signal.loudness import distance, unit
from gsvexport.stages import VERSIONS
from gsvexport.untrusted import schema
from gsvexport.verify import audio, pitch
from gsvexport.verify.heldout import spoken
from gsvexport.verify.sounding import MEL_PROMPT, MEL_STEPS

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

Array = NDArray[Any]

SENTENCES, MEL_SENTENCES = 4, 2  # flow matching takes ten times as long
SECONDS = 2.5  # of each, at most
LEAST_VOICED = 0.1  # share of 10 ms frames; what has less is no speech
_LEAST = 0.1  # s; a pitch needs so much


@dataclass(frozen=True)
class Distance:
    """A mean over sentences, and their standard deviation."""

    mean: float
    spread: float


@dataclass(frozen=True)
class Ruler:
    """Distances between two seeds over `n` sentences: of loudness (see `gsvexport.signal.loudness`), which is what a
    share is taken of, log-mel L1 in nepers, multi-resolution STFT, pitch in cents, and the share of frames that one of
    them voices and the other does not.

    Without them there is no ruler, and `reason` says why.
    """

    n: int
    loudness: Distance | None = None
    log_mel: Distance | None = None
    mr_stft: Distance | None = None
    f0_cents: Distance | None = None
    voicing_error: Distance | None = None
    reason: str = ""

    @property
    def unit(self) -> float | None:
        """The distance of loudness that counts as 1; None without a ruler."""
        return None if self.loudness is None else unit(self.loudness.mean)

    def own(self, name: str) -> float:
        """The mean of one of the distances; 0 without a ruler."""
        found: Distance | None = getattr(self, name)
        return 0.0 if found is None else found.mean

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> Ruler:
        """Rebuild from `to_json`'s value; `where` names the file in errors.

        Raises:
            ArtifactError: not a ruler, or numbers that no sound has.
        """
        if problems := schema.findings(value, SHAPE):
            raise ArtifactError(f"{where} holds no ruler", problems=problems, fix="build the artifact again")
        parts = {name: Distance(**value[name]) if value[name] else None for name in DISTANCES}
        if len({part is None for part in parts.values()}) > 1 or not (parts["loudness"] or value["reason"]):
            raise ArtifactError(f"{where} holds half a ruler", fix="build the artifact again")
        return cls(int(value["n"]), reason=str(value["reason"]), **parts)


DISTANCES = ("loudness", "log_mel", "mr_stft", "f0_cents", "voicing_error")
_DISTANCE = schema.optional(schema.record({"mean": schema.number(0, 1e4), "spread": schema.number(0, 1e4)}))
SHAPE = schema.record({"n": schema.whole(0, 1000), "reason": schema.text(1000), **dict.fromkeys(DISTANCES, _DISTANCE)})
_NONE = Distance(0.0, 0.0)
FLOORED = Ruler(1, _NONE, _NONE, _NONE, _NONE, _NONE)  # of a voice without noise


def measure(voice: LoadedVoice, progress: Callable[[str], None] = lambda _: None) -> Ruler:
    """The ruler of a voice that runs in FP32: every sentence with equal codes and two seeds of noise.

    The numbers have three digits, so that the last bits of another processor's sums do not move them.
    """
    if "ge" not in voice.baked:
        return Ruler(0, reason="the voice has no baked reference to speak with")
    mel = VERSIONS[voice.model.version].mel is not None
    if mel and "prompt" not in voice.baked:
        return Ruler(0, reason=f"a {voice.model.version} voice without a prompt cannot speak by itself")
    try:
        said = spoken(voice.model, MEL_SENTENCES if mel else SENTENCES)
    except InputError as error:
        return Ruler(0, reason=error.what)
    if not said:
        return Ruler(0, reason="there is no sentence that the voice knows all phones of")
    pairs, voiced = [], 0.0
    for index, phones in enumerate(said):
        words = "the voice's own variation"
        progress(counted(f"{words}: {index + 1} of {len(said)}", words, index + 1, len(said)))
        one, other = _twice(voice, np.array([phones], np.int64), index, MEL_STEPS if mel else None)
        if not (np.isfinite(one).all() and np.isfinite(other).all()):  # golden vectors refuse such a voice in words
            return Ruler(index + 1, reason="the source gives NaN or infinite values")
        if one.size:
            pairs.append((one, other))
            voiced += float(np.mean(pitch.pitch(one, voice.rate) > 0)) if one.size > _LEAST * voice.rate else 0.0
        if voiced < LEAST_VOICED * (index + 1):  # random weights: no need to hear more
            return Ruler(index + 1, reason=f"the source does not speak: {voiced / (index + 1):.0%} of it is voiced")
    if not any(np.any(one != other) for one, other in pairs):
        return replace(_of(pairs, voice.rate), reason="the voice uses no noise; the floor stands for it")
    return _of(pairs, voice.rate)


def of_source(folder: Path, progress: Callable[[str], None] = lambda _: None) -> Ruler:
    """`measure` of the source in a folder, on one core."""
    from gsvexport.runtime.pipeline import load

    with load(folder, threads=1) as voice:
        return measure(voice, progress)


def _of(pairs: list[tuple[Array, Array]], rate: int) -> Ruler:
    tracks = [(pitch.pitch(one, rate), pitch.pitch(other, rate)) for one, other in pairs]
    return Ruler(
        len(pairs),
        _spread([distance([pair], rate) for pair in pairs]),
        _spread([audio.log_mel_l1(*pair, rate) for pair in pairs]),
        _spread([audio.multi_resolution_stft(*pair) for pair in pairs]),
        _spread([cents for track in tracks if np.isfinite(cents := pitch.f0_cents(*track))]),
        _spread([pitch.voicing_error(*track) for track in tracks]),
    )


def _spread(values: list[float]) -> Distance:
    return Distance(*(float(f"{number:.3g}") for number in (np.mean(values or [0.0]), np.std(values or [0.0]))))


def _twice(voice: LoadedVoice, phones: Array, index: int, steps: int | None) -> tuple[Array, Array]:
    """The same codes with two seeds of noise: two signals [N]."""
    longest = max(1, int(SECONDS * voice.model.code_rate))
    prompt = voice.own_prompt()
    codes = voice.tokens(phones, prompt=prompt, sampling=replace(voice.sampling, seed=index), max_tokens=longest)
    if not codes.size:
        return np.empty(0), np.empty(0)
    heard = []
    for seed in (0, 1):
        manner = Manner(steps=steps, prompt_frames=MEL_PROMPT if steps else None)
        feeds = sound_feeds(voice, codes, phones, voice.baked, manner, Draws(seed, index))
        heard.append(voice.run("vocoder", feeds)["audio"].reshape(-1))
    return heard[0], heard[1]
