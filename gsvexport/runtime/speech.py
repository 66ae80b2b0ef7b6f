"""From the phones of sentences to sound: codes, latent or mel, audio; sentence by sentence, whole or in windows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any, NamedTuple, Protocol

import numpy as np

from gsvexport.errors import BackendError, InputError
from gsvexport.model import Model
from gsvexport.runtime import flow_matching
from gsvexport.runtime.ahead import Noise, Pace, latents_of
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.batch import Batch, Written
from gsvexport.runtime.draws import LARGEST_SEED, Draws
from gsvexport.runtime.loaded import LoadedStages
from gsvexport.runtime.ports import Array, convert, outside
from gsvexport.runtime.runaway import Finding, findings, tempo
from gsvexport.runtime.sampling import Sampling
from gsvexport.runtime.text import PAUSE, Spoken
from gsvexport.runtime.windows import sliding, windows
from gsvexport.stages import FRAMES_PER_CODE, MAX_TOKENS, VERSIONS, Stage, frames, sounding, speaking

SPEEDS = (0.25, 4.0)
NOISE_SCALES = (0.0, 4.0)  # upstream uses 0.5; far above 1 nothing but noise is left
STEPS = (1, 128)
CFG_RATES = (0.0, 8.0)
_NOISE_SCALE, _MEL_NOISE_SCALE = 0.5, 1.0  # upstream's own
SIDE_BY_SIDE = 4  # sentences of one text that are written in one step, see docs/batching.md


class Speaker(Protocol):
    """What is needed of a voice to turn codes into sound."""

    model: Model
    stages: dict[str, Stage]

    def run(self, stage: str, feeds: Mapping[str, Any]) -> dict[str, Array]:
        """One stage: arrays in, arrays out."""
        ...


@dataclass(frozen=True)
class Manner:
    """How something is said; see `LoadedVoice.synthesize`. `prompt_frames` are those that flow matching sees at most of
    a prompt's mel (None: upstream's number)."""

    seed: int = 0
    speed: float = 1.0
    noise_scale: float | None = None
    sampling: Sampling | None = None
    prompt: Any = None
    bert: Any = None
    conditioning: Mapping[str, Any] | None = None
    max_tokens: int = MAX_TOKENS
    steps: int | None = None
    cfg_rate: float = 0.0
    progress: Callable[[int, int], None] | None = None
    batch: Batch | None = None
    retry: bool = False
    prompt_frames: int | None = None
    solver: str = flow_matching.EULER


class Latent(NamedTuple):
    """What the vocoder is given for a sentence, and what is to be said of it."""

    feeds: dict[str, Array]
    notes: tuple[str, ...] = ()


def latents(voice: LoadedStages, rows: Sequence[Spoken], manner: Manner, *, together: bool = False) -> Iterator[Latent]:
    """What the vocoder is given for each sentence, as soon as it is known.

    With `together` several sentences are written side by side before the first of them is there: sooner done, but
    later begun.

    The arguments are checked at once, before the first sentence.

    Raises:
        InputError: what is out of range, all of it; a voice without conditioning; an artifact that lacks a stage.
    """
    return _latents(voice, rows, manner, _checked(voice, rows, manner), together)


def whole(voice: LoadedStages, sentence: Latent) -> Audio:
    """One sentence in one piece."""
    return Audio(voice.run("vocoder", sentence.feeds)["audio"][0], voice.rate, sentence.notes)


def pieces(voice: LoadedStages, sentences: Iterator[Latent], keep: int) -> Iterator[Audio]:
    """The same sound in pieces of `keep` latent frames, each as soon as it is computed, with the pauses between."""
    assert voice.model.vocoder_context is not None
    left, right = voice.model.vocoder_context
    for number, (feeds, notes) in enumerate(sentences):
        if number:
            yield Audio(np.zeros(round(PAUSE * voice.rate), np.float32), voice.rate)
        count, hop = feeds["latent"].shape[2], voice.model.hop
        for one in windows(count, keep, left, right):
            found = voice.run("vocoder", {**feeds, "latent": feeds["latent"][:, :, one.start : one.stop]})["audio"][0]
            end = None if one.last == count else (one.last - one.start) * hop
            yield Audio(found[(one.first - one.start) * hop : end], voice.rate, notes if one.last == count else ())


def early_pieces(voice: LoadedStages, rows: Sequence[Spoken], manner: Manner, pace: Pace) -> Iterator[Audio]:
    """Sound while codes are still being written, with the pauses between sentences; see `ahead.py`.

    The arguments are checked at once. Raises: as `latents`.
    """
    return _early(voice, rows, manner, _checked(voice, rows, manner), pace)


def _early(
    voice: LoadedStages, rows: Sequence[Spoken], manner: Manner, given: Mapping[str, Any], pace: Pace
) -> Iterator[Audio]:
    assert voice.model.vocoder_context is not None
    left, right = voice.model.vocoder_context
    hop, scale = voice.model.hop, _NOISE_SCALE if manner.noise_scale is None else manner.noise_scale
    for number, (row, draws) in enumerate(_told(rows, manner)):
        if number:
            yield Audio(np.zeros(round(PAUSE * voice.rate), np.float32), voice.rate)
        noise = Noise(voice.model.dims.I, draws)
        fixed = {**given, "phones": row.phones, "noise_scale": np.float32(scale)}

        def latent(codes: Array, start: int, fixed: Any = fixed, noise: Noise = noise) -> Array:
            first = FRAMES_PER_CODE * start
            values = {**fixed, "codes": codes[np.newaxis]}
            values["noise"] = noise(first, first + FRAMES_PER_CODE * codes.size)
            return voice.run("acoustic", _pick(voice, "acoustic", values))["latent"]

        sampling = manner.sampling or voice.sampling
        prompt, most = _prompt(voice, manner), manner.max_tokens
        if manner.batch is None:
            codes = voice.codes(row.phones, row.bert, prompt, sampling, draws, most)
        else:
            codes = iter(manner.batch.submit(row.phones, row.bert, prompt, sampling, most, draws=draws))
        written = _Coming(codes)
        spoke = False
        for window, first, last in sliding(latents_of(iter(written), latent, pace), left, right):
            found = voice.run("vocoder", _pick(voice, "vocoder", {**fixed, "latent": window}))["audio"][0]
            notes: tuple[str, ...] = ()
            if last is None:  # every code is there
                notes = _noted(_judged(voice, written.codes, row, written.ended), number, len(rows))
            yield Audio(found[first * hop : None if last is None else last * hop], voice.rate, notes)
            spoke = True
        if not spoke:
            raise _nothing(voice)


def _drawing(rows: Sequence[Spoken], seed: int) -> Iterator[tuple[Spoken, Draws]]:
    """Each sentence with its random numbers."""
    for number, row in enumerate(rows):
        yield row, Draws(seed, number)


def _prompt(voice: LoadedStages, manner: Manner) -> Any:
    return voice.own_prompt() if manner.prompt is None else manner.prompt


def _nothing(voice: LoadedStages) -> BackendError:
    return BackendError(
        f"{voice.model.name}: the voice ended the sentence before its first code",
        fix="verify the artifact; try another seed",
    )


def _told(rows: Sequence[Spoken], manner: Manner) -> Iterator[tuple[Spoken, Draws]]:
    """The sentences with their random numbers; who wants to know is told of each as it begins."""
    for number, one in enumerate(_drawing(rows, manner.seed), 1):
        _tell(manner, number, len(rows))
        yield one


def _tell(manner: Manner, number: int, total: int) -> None:
    if manner.progress is not None:
        manner.progress(number, total)


class _Coming:
    """The codes of a sentence on their way through, and whether it ended by itself."""

    def __init__(self, codes: Generator[int, None, bool]) -> None:
        self._coming, self._codes, self.ended = codes, list[int](), False

    def __iter__(self) -> Iterator[int]:
        while True:
            try:
                code = next(self._coming)
            except StopIteration as end:
                self.ended = bool(end.value)
                return
            self._codes.append(code)
            yield code

    @property
    def codes(self) -> Array:
        """Those that have come, int64 [n]."""
        return np.array(self._codes, np.int64)


class _Said(NamedTuple):
    """The codes [n] of a sentence, whether it ended by itself, and the random numbers of its noise."""

    row: Spoken
    codes: Array
    ended: bool
    draws: Draws


def _judged(voice: LoadedStages, codes: Array, row: Spoken, ended: bool) -> tuple[Finding, ...]:
    return findings(codes, np.asarray(row.phones, np.int64).reshape(-1), ended, tempo(voice))


def _noted(found: Sequence[Finding], number: int, count: int, after: str = "") -> tuple[str, ...]:
    where = f"sentence {number + 1}: " if count > 1 else ""
    return tuple(f"{where}{one.text}{after}" for one in found)


def _latents(
    voice: LoadedStages, rows: Sequence[Spoken], manner: Manner, given: Mapping[str, Any], together: bool
) -> Iterator[Latent]:
    prompt, sampling = _prompt(voice, manner), manner.sampling or voice.sampling
    with contextlib.closing(_said(voice, rows, manner, together)) as every:
        for number, (row, codes, ended, draws) in enumerate(every):
            found, after = _judged(voice, codes, row, ended), ""
            if found and manner.retry:
                other = Draws(manner.seed, number, attempt=1)
                again = voice.generate(row.phones, row.bert, prompt, sampling, other, manner.max_tokens)
                if _judged(voice, again.tokens, row, again.ended):
                    after = "; another seed was no better"
                else:
                    codes, after = again.tokens, "; so it was said again with another seed"
            if not codes.size:
                raise _nothing(voice)
            feeds = sound_feeds(voice, codes, row.phones, given, manner, draws)
            yield Latent(feeds, _noted(found, number, len(rows), after))


def _said(voice: LoadedStages, rows: Sequence[Spoken], manner: Manner, together: bool) -> Generator[_Said, None, None]:
    """Every sentence's codes, in order: one sentence after the other, or side by side."""
    prompt, sampling = _prompt(voice, manner), manner.sampling or voice.sampling
    if manner.batch is None and (len(rows) == 1 or not together):
        for row, draws in _told(rows, manner):
            said = voice.generate(row.phones, row.bert, prompt, sampling, draws, manner.max_tokens)
            yield _Said(row, said.tokens, said.ended, draws)
        return
    batch, coming = manner.batch or Batch(voice, min(SIDE_BY_SIDE, len(rows))), _drawing(rows, manner.seed)
    group: list[tuple[Spoken, Written, Draws]] = []
    told = count(1)
    try:
        while some := list(islice(coming, 2 * SIDE_BY_SIDE)):
            group = []
            for row, draws in some:
                written = batch.submit(row.phones, row.bert, prompt, sampling, manner.max_tokens, draws=draws)
                group.append((row, written, draws))
            if manner.batch is None:  # the vocoder would take the cores from the steps
                for _, written, _ in group:
                    _tell(manner, next(told), len(rows))
                    written.wait()
            for row, written, draws in group:
                if manner.batch is not None:
                    _tell(manner, next(told), len(rows))
                yield _Said(row, written.result(), written.ended, draws)
    finally:
        for _, written, _ in group:
            written.cancel()
        if manner.batch is None:
            batch.close()


def sound_feeds(
    voice: Speaker, codes: Array, phones: Array, given: Mapping[str, Any], manner: Manner, draws: Draws
) -> dict[str, Array]:
    """What the vocoder is given for codes [n] and phones [1, X]. `given` is the conditioning, and in v3 and v4 the
    prompt; all noise comes from `draws`."""
    mel, values = VERSIONS[voice.model.version].mel, {**given, "codes": codes[np.newaxis], "phones": phones}
    if mel is None:
        noise = draws.normal(voice.model.dims.I, frames(codes.size, manner.speed))
        scale = _NOISE_SCALE if manner.noise_scale is None else manner.noise_scale
        values |= {"noise": noise, "noise_scale": np.float32(scale)}
        values |= voice.run("acoustic", _pick(voice, "acoustic", values))
    else:
        scale = _MEL_NOISE_SCALE if manner.noise_scale is None else manner.noise_scale
        if manner.prompt_frames is not None:
            mel = replace(mel, prompt=min(mel.prompt, manner.prompt_frames))
        ge = values["ge"]
        before = flow_matching.features(voice.run, values["prompt"], values["prompt_phones"], ge, mel)
        values["mel"] = flow_matching.mel_of(
            voice.run,
            flow_matching.features(voice.run, values["codes"], phones, ge, mel, manner.speed),
            before,
            values["prompt_mel"],
            mel,
            draws,
            steps=manner.steps or mel.steps,
            cfg_rate=manner.cfg_rate,
            noise_scale=scale,
            solver=manner.solver,
        )
    return _pick(voice, "vocoder", values)


def _checked(voice: LoadedStages, rows: Sequence[Spoken], manner: Manner) -> dict[str, Any]:
    """The conditioning, once it and every sentence are known to be in order."""
    given = _conditioning(voice, manner)
    for row in rows:
        _check(voice, row.phones, given, manner)
    return given


def _conditioning(voice: LoadedStages, manner: Manner) -> dict[str, Any]:
    values = dict(voice.baked) | dict(manner.conditioning or {})
    wanted = [port.name for port in voice.stage(sounding(voice.model.version)).inputs if port.name in ("ge", "ge_text")]
    if VERSIONS[voice.model.version].mel is not None:
        wanted += ["prompt", "prompt_phones", "prompt_mel"]
        if manner.prompt is not None:
            raise InputError(
                f"a {voice.model.version} voice continues its own prompt, whose mel it needs as well",
                fix="leave out prompt=, or export the voice with another [reference]",
            )
    elif manner.conditioning is not None:
        values = dict(manner.conditioning)
    missing = [name for name in wanted if name not in values]
    if missing:
        raise InputError(
            f"{voice.model.name} cannot speak without {' and '.join(missing)}",
            fix="pass conditioning=voice.condition(spectrogram), or export the voice with a [reference]",
        )
    return values


def _check(voice: LoadedStages, phones: Array, conditioning: Mapping[str, Any], manner: Manner) -> None:
    """Everything that can be known before the first code, in one error."""
    for stage in speaking(voice.model.version):
        voice.stage(stage)
    problems = []
    for stage in ("prefill", sounding(voice.model.version)):
        for port in voice.stages[stage].inputs:
            value = {"phones": phones, **conditioning}.get(port.name) if port.name != "prompt" else None
            if value is not None:
                problems += convert(voice.stages[stage], port, value, voice.model.dims)[1]
    problems += outside("speed", manner.speed, *SPEEDS)
    if manner.noise_scale is not None:
        problems += outside("noise_scale", manner.noise_scale, *NOISE_SCALES)
    if VERSIONS[voice.model.version].mel is not None:
        problems += outside("steps", manner.steps, *STEPS, integer=True) if manner.steps is not None else []
        problems += outside("cfg_rate", manner.cfg_rate, *CFG_RATES)
        if manner.solver not in flow_matching.SOLVERS:
            problems.append(f"solver is {manner.solver!r}; it must be one of {', '.join(flow_matching.SOLVERS)}")
    elif manner.steps is not None or manner.cfg_rate or manner.solver != flow_matching.EULER:
        problems.append(f"steps, solver and cfg_rate are for v3 and v4; this voice is {voice.model.version}")
    problems += outside("seed", manner.seed, 0, LARGEST_SEED, integer=True)
    problems += outside("max_tokens", manner.max_tokens, 1, integer=True)
    if problems:
        raise InputError("this cannot be spoken", problems=problems)


def _pick(voice: Speaker, stage: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {port.name: values[port.name] for port in voice.stages[stage].inputs if port.name in values}
