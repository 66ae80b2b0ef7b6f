"""From the phones of sentences to sound: codes, latent and audio, sentence by sentence, whole or in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.errors import BackendError, InputError
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.ports import Array, convert, outside
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.text import PAUSE
from gsvexport.runtime.windows import windows
from gsvexport.stages import MAX_TOKENS, frames

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

SPEEDS = (0.25, 4.0)
NOISE_SCALES = (0.0, 4.0)  # upstream uses 0.5; far above 1 nothing but noise is left
SPEAKING_STAGES = ("prefill", "step", "acoustic", "vocoder")


@dataclass(frozen=True)
class Manner:
    """How something is said; see `LoadedVoice.synthesize`."""

    seed: int = 0
    speed: float = 1.0
    noise_scale: float = 0.5
    sampling: Sampling | None = None
    prompt: Any = None
    bert: Any = None
    conditioning: Mapping[str, Any] | None = None
    max_tokens: int = MAX_TOKENS


def latents(voice: LoadedVoice, rows: Sequence[Array], manner: Manner) -> Iterator[dict[str, Array]]:
    """What the vocoder is given for each sentence, as soon as it is known. `rows` holds phones [1, X].

    The arguments are checked at once, before the first sentence.

    Raises:
        InputError: what is out of range, all of it; a voice without conditioning; an artifact that lacks a stage.
    """
    given = _conditioning(voice, manner.conditioning)
    for row in rows:
        _check(voice, row, given, manner)
    return _latents(voice, rows, manner, given)


def whole(voice: LoadedVoice, feeds: Mapping[str, Array]) -> Audio:
    """One sentence in one piece."""
    return Audio(voice.run("vocoder", feeds)["audio"][0], voice.rate)


def pieces(voice: LoadedVoice, sentences: Iterator[dict[str, Array]], keep: int) -> Iterator[Audio]:
    """The same sound in pieces of `keep` latent frames, each as soon as it is computed, with the pauses between."""
    assert voice.model.vocoder_context is not None
    left, right = voice.model.vocoder_context
    for number, feeds in enumerate(sentences):
        if number:
            yield Audio(np.zeros(round(PAUSE * voice.rate), np.float32), voice.rate)
        count, hop = feeds["latent"].shape[2], voice.model.hop
        for one in windows(count, keep, left, right):
            found = voice.run("vocoder", {**feeds, "latent": feeds["latent"][:, :, one.start : one.stop]})["audio"][0]
            end = None if one.last == count else (one.last - one.start) * hop
            yield Audio(found[(one.first - one.start) * hop : end], voice.rate)


def _latents(
    voice: LoadedVoice, rows: Sequence[Array], manner: Manner, given: Mapping[str, Any]
) -> Iterator[dict[str, Array]]:
    prompt = manner.prompt
    if prompt is None and "prompt" not in voice.baked:
        prompt = np.empty((1, 0), np.int64)
    streams = np.random.SeedSequence(manner.seed)
    for row in rows:
        for_sampling, for_noise = (np.random.Generator(np.random.PCG64(one)) for one in streams.spawn(2))
        sampling = manner.sampling or voice.sampling
        codes = voice.generate(row, manner.bert, prompt, sampling, for_sampling, manner.max_tokens).tokens
        if not codes.size:
            raise BackendError(
                f"{voice.model.name}: the voice ended the sentence before its first code",
                fix="verify the artifact; try another seed",
            )
        shape = (1, voice.model.dims.I, frames(codes.size, manner.speed))
        values = {
            **given,
            "codes": codes[np.newaxis],
            "phones": row,
            "noise": for_noise.standard_normal(shape, dtype=np.float32),
            "noise_scale": np.float32(manner.noise_scale),
        }
        values |= voice.run("acoustic", _pick(voice, "acoustic", values))
        yield _pick(voice, "vocoder", values)


def _conditioning(voice: LoadedVoice, given: Mapping[str, Any] | None) -> dict[str, Any]:
    values = dict(voice.baked if given is None else given)
    missing = [
        port.name
        for port in voice.stage("acoustic").inputs
        if port.name in ("ge", "ge_text") and port.name not in values
    ]
    if missing:
        raise InputError(
            f"{voice.model.name} cannot speak without {' and '.join(missing)}",
            fix="pass conditioning=voice.condition(spectrogram), or export the voice with a [reference]",
        )
    return values


def _check(voice: LoadedVoice, phones: Array, conditioning: Mapping[str, Any], manner: Manner) -> None:
    """Everything that can be known before the first code, in one error."""
    for stage in SPEAKING_STAGES:
        voice.stage(stage)
    problems = []
    for stage in ("prefill", "acoustic"):
        for port in voice.stages[stage].inputs:
            value = {"phones": phones, **conditioning}.get(port.name) if port.name != "prompt" else None
            if value is not None:
                problems += convert(voice.stages[stage], port, value, voice.model.dims)[1]
    problems += outside("speed", manner.speed, *SPEEDS)
    problems += outside("noise_scale", manner.noise_scale, *NOISE_SCALES)
    problems += outside("seed", manner.seed, 0, integer=True)
    problems += outside("max_tokens", manner.max_tokens, 1, integer=True)
    if problems:
        raise InputError("this cannot be spoken", problems=problems)


def _pick(voice: LoadedVoice, stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {port.name: values[port.name] for port in voice.stages[stage].inputs if port.name in values}
