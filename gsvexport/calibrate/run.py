"""Calibration: the pipeline speaks a corpus, and what each stage was given is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.backends import Session
from gsvexport.calibrate.corpus import Corpus, Sentence, choose, find_corpora
from gsvexport.calibrate.coverage import (
    Coverage,
    Finding,
    Floats,
    Ints,
    code_usage,
    findings,
    missing_phones,
    pitch_spread,
    pitch_track,
    spread,
)
from gsvexport.calibrate.settings import BAKED, FREE, Settings, Utterance, utterances
from gsvexport.errors import ArtifactError, InputError
from gsvexport.files import canonical_json, sha256_bytes
from gsvexport.model import Model
from gsvexport.progress import counted
from gsvexport.runtime.audio import Audio
from gsvexport.runtime.pipeline import LoadedVoice
from gsvexport.runtime.ports import checked
from gsvexport.runtime.speech import Manner, latents, whole
from gsvexport.runtime.text import joined, sentences
from gsvexport.runtime.tokens import Decoder, new_decoder
from gsvexport.stages import SYMBOL_COUNTS, VERSIONS, sounding
from gsvexport.text.symbols import phone_ids, symbols

Feeds = dict[str, NDArray[Any]]
# Whose feeds are kept as they are, as far as a version has them; those of T2S follow from `Spoken`.
STAGES = ("acoustic", "features", "cfm", "vocoder")
# Of flow matching: steps, and frames of the prompt. Enough for what stages see: the network attends to all of a prompt
# in every step, so with upstream's 4 s of it each sentence would take 3 times as long.
MEL_STEPS, MEL_PROMPT = 4, 64
_RESULT, _ARRAYS = "calibration.json", "feeds.npz"


@dataclass(frozen=True, eq=False)
class Spoken:
    """What T2S was given and said, for teacher forcing: phones int64 [1, X] (those of the baked prompt in front), their
    prompt int64 [1, Y] (Y may be 0) and the codes int64 [n] that followed."""

    phones: Ints
    prompt: Ints
    codes: Ints


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """What the stages of one voice saw. `feeds` maps a stage of `STAGES` to the arrays of each utterance that was kept,
    `spoken` has all utterances. `digest` names the content: settings, corpora and every array."""

    settings: Settings
    coverage: Coverage
    feeds: dict[str, tuple[Feeds, ...]]
    spoken: tuple[Spoken, ...]
    corpora: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of settings, corpora, coverage and all arrays."""
        arrays = {name: [str(one.dtype), list(one.shape), sha256_bytes(one.tobytes())] for name, one in self._arrays()}
        return sha256_bytes(canonical_json([self._description(), arrays]).encode())

    def to_json(self) -> dict[str, Any]:
        """What the artifact keeps: everything but the arrays, and the digest over them."""
        return {**self._description(), "digest": self.digest}

    def write(self, folder: Path) -> None:
        """Write `calibration.json` and `feeds.npz` to an existing folder; equal results give equal bytes."""
        np.savez(folder / _ARRAYS, **dict(self._arrays()))  # type: ignore[arg-type]
        (folder / _RESULT).write_bytes(canonical_json(self.to_json()).encode())

    def _description(self) -> dict[str, Any]:
        return {"settings": self.settings.to_json(), "corpora": self.corpora, "coverage": self.coverage.to_json()}

    def _arrays(self) -> list[tuple[str, NDArray[Any]]]:
        kept = [
            (f"{stage}/{number}/{port}", np.ascontiguousarray(array).reshape(array.shape))
            for stage, several in self.feeds.items()
            for number, feeds in enumerate(several)
            for port, array in sorted(feeds.items())
        ]
        for number, one in enumerate(self.spoken):
            kept += [(f"spoken/{number}/{name}", getattr(one, name)) for name in ("phones", "prompt", "codes")]
        return kept


def read_result(folder: Path) -> CalibrationResult:
    """Read what `CalibrationResult.write` wrote.

    Raises:
        ArtifactError: incomplete, damaged or changed.
    """
    try:
        value = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS, allow_pickle=False) as file:
            arrays = dict(file)
        nested: dict[str, dict[int, Feeds]] = {}
        for name, array in arrays.items():
            stage, number, port = name.split("/")
            nested.setdefault(stage, {}).setdefault(int(number), {})[port] = array
        several = {stage: tuple(one[number] for number in sorted(one)) for stage, one in nested.items()}
        result = CalibrationResult(
            Settings.from_json(value["settings"]),
            Coverage.from_json(value["coverage"]),
            {stage: several[stage] for stage in STAGES if stage in several},
            tuple(Spoken(**one) for one in several.get("spoken", ())),
            value["corpora"],
        )
        whole = result.digest == value["digest"]
    except Exception as error:  # whatever a damaged zip archive or JSON text can raise
        raise ArtifactError(f"{folder} holds no calibration that can be read: {error}") from error
    if not whole:
        raise ArtifactError(f"the calibration in {folder} does not match its own digest", fix="calibrate again")
    return result


def calibrate(
    source: Path,
    settings: Settings | None = None,
    *,
    strict: bool = False,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> CalibrationResult:
    """Speak a corpus with the source in the folder `source` and keep what its stages were given.

    Equal sources, settings and corpora give equal results on one machine; on another one, float32 sums may differ in
    their last digit and, rarely, a sampled code with them. With `strict`, a set with findings is refused beforehand.

    Raises:
        InputError: a voice without a baked reference, no corpus or no sentence that it can say, or (with `strict`) what
            the set lacks; all findings.
        BackendError: a stage failed.
    """
    settings, say = settings or Settings(), progress or (lambda _: None)
    voice = Listener(source, threads)
    mel = VERSIONS[voice.model.version].mel is not None
    if mel:
        settings = replace(settings, prompts=(BAKED,), noise_scale=1.0)
    with voice:
        if not voice.baked:
            raise InputError(
                f"{voice.model.name} cannot be calibrated: its source has no baked reference",
                fix="give its voice.toml a [reference] table and export it again",
            )
        script = write_script(settings, voice.model, baked_prompt="prompt" in voice.baked)
        if strict:
            refuse_findings(voice.model.name, script.findings)
        kept = _Sample(settings)
        spoken, tracks, samples = [], [], 0
        for number, one in enumerate(script.utterances, 1):
            words = f"calibrating: {number} of {len(script.utterances)} ({one.sentence.name}, rate {one.rate:g})"
            say(counted(words, "calibrating", number, len(script.utterances)))
            manner = Manner(
                one.seed,
                one.rate,
                settings.noise_scale,
                prompt=np.empty((1, 0), np.int64) if one.prompt == FREE else None,
                max_tokens=one.longest,
                steps=MEL_STEPS if mel else None,
                prompt_frames=MEL_PROMPT if mel else None,
            )
            audio = _say(voice, phone_ids(one.sentence.phones, "v2"), manner)
            spoken.append(Spoken(*voice.started, voice.heard[sounding(voice.model.version)]["codes"][0]))
            # Of the steps of flow matching another one in each utterance.
            steps = {"cfm": voice.steps[number % len(voice.steps)]} if mel else {}
            kept.add({stage: voice.heard[stage] for stage in STAGES if stage in voice.heard} | steps)
            voice.steps.clear()
            tracks.append(pitch_track(audio.samples, audio.rate))
            samples += audio.samples.size
        coverage = _coverage(script, voice, spoken, tracks, samples)
    return CalibrationResult(settings, coverage, kept.feeds(), tuple(spoken), script.corpora)


def _say(voice: LoadedVoice, phones: Any, manner: Manner) -> Audio:
    """`LoadedVoice.synthesize` of one sentence, in whatever manner."""
    rows = sentences(None, phones, voice.model, None, None, None)
    return joined([whole(voice, one) for one in latents(voice, rows, manner)])


def refuse_findings(voice: str, found: Sequence[Finding]) -> None:
    """What `strict` does about a calibration set for `voice` that lacks something.

    Raises:
        InputError: there are findings; all of them.
    """
    if found:
        raise InputError(
            f"the calibration set for {voice} is too narrow",
            problems=[f"{one.name}: {one.text}" for one in found],
            fix="more sentences or another corpus in the target's [calibration], or leave out --strict",
        )


@dataclass(frozen=True)
class Script:
    """What will be said, known before anything is: see `Coverage` for the fields of the same names."""

    utterances: tuple[Utterance, ...]
    corpora: dict[str, str]
    inventory: tuple[str, ...]
    missing: tuple[str, ...]
    unsayable: tuple[str, ...]
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]


def known_phones(model: Model) -> set[str]:
    """The phones that a voice can say, as symbols of the v2 table.

    A GPT may know fewer phones than the SoVITS beside it, and has rows that no phone uses.
    """
    rows = min(model.dims.phones, model.dims.text_phones)
    return set(symbols("v2")[: max((count for count in SYMBOL_COUNTS.values() if count <= rows), default=rows)])


def write_script(settings: Settings, model: Model, *, baked_prompt: bool) -> Script:
    """Choose what to say with a voice.

    Raises:
        InputError: no such corpus, or no sentence that the voice can say.
    """
    corpora = find_corpora(settings.corpus, model.language)
    known = known_phones(model)
    every = [sentence for corpus in corpora for sentence in corpus.sentences]
    can = [sentence for sentence in every if known.issuperset(sentence.phones)]
    inventory = tuple(dict.fromkeys(symbol for corpus in corpora for symbol in corpus.inventory))
    sayable = tuple(symbol for symbol in inventory if symbol in known)
    chosen = choose(can, sayable, settings.sentences)
    said = utterances(settings, chosen, baked_prompt=baked_prompt)
    missing = missing_phones((sentence.phones for sentence in chosen), sayable)
    return Script(
        tuple(said),
        {corpus.language: corpus.digest for corpus in corpora},
        sayable,
        missing,
        tuple(symbol for symbol in inventory if symbol not in known),
        tuple(sentence.name for sentence in every if sentence not in can),
        findings(missing, [one.rate for one in said]),
    )


def _coverage(script: Script, voice: Listener, spoken: list[Spoken], tracks: list[Floats], samples: int) -> Coverage:
    said = script.utterances
    notes = ["one reference: its pitch and timbre are all that conditioning varies over"]
    if any(one.prompt == BAKED for one in said) and not any(one.prompt == FREE for one in said):
        notes.append("every utterance continues the baked prompt")
    if "prompt" not in voice.baked:
        notes.append("the voice has no baked prompt: every utterance is prompt-free")
    if VERSIONS[voice.model.version].mel is not None:
        notes.append(f"{MEL_STEPS} steps of flow matching after {MEL_PROMPT} frames of the prompt")
    if voice.model.language == "zh":
        notes.append("no text features: bert is zero, though Mandarin has it")
    return Coverage(
        languages=tuple(script.corpora),
        utterances=len(said),
        sentences=len({one.sentence.name for one in said}),
        share=round(1 - len(script.missing) / max(1, len(script.inventory)), 6),
        missing=script.missing,
        unsayable=script.unsayable,
        left_out=script.left_out,
        rates=_count([f"{one.rate:g}" for one in sorted(said, key=lambda one: one.rate)]),
        prompts=_count(sorted(one.prompt for one in said)),
        seeds=len({one.seed for one in said}),
        pitch=pitch_spread(tracks),
        codes=code_usage([one.codes for one in spoken], voice.model.dims.codes),
        phones_each=spread([len(one.sentence.phones) for one in said]),
        codes_each=spread([one.codes.size for one in spoken]),
        seconds=round(samples / voice.rate, 3),
        findings=script.findings,
        notes=tuple(notes),
    )


def _count(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in dict.fromkeys(values)}


class Listener(LoadedVoice):
    """A voice that remembers what its stages were given last: `heard` by stage, `started` what T2S began with, `steps`
    every one of flow matching."""

    def __init__(self, folder: Path, threads: int | None) -> None:
        super().__init__(folder, threads=threads, decoder=self._listen)
        self.heard: dict[str, Feeds] = {}
        self.steps: list[Feeds] = []
        self.started: tuple[Ints, Ints] = (np.empty((1, 0), np.int64), np.empty((1, 0), np.int64))

    def run(self, stage: str, feeds: Mapping[str, Any]) -> Feeds:
        """See `LoadedVoice.run`."""
        self.heard[stage] = {
            name: np.array(one) for name, one in checked(self.stage(stage), feeds, self.model.dims).items()
        }
        if stage == "cfm":
            self.steps.append(self.heard[stage])
        return super().run(stage, feeds)

    def _listen(self, prefill: Session, step: Session) -> Decoder:
        return _ListeningDecoder(new_decoder(prefill, step), self)


class _ListeningDecoder:
    """A decoder that tells its voice what it starts with."""

    def __init__(self, inner: Decoder, voice: Listener) -> None:
        self._voice, self._prefill, self.step = voice, inner.prefill, inner.step

    def prefill(self, phones: Ints, bert: Floats, prompt: Ints) -> Floats:
        """See `Decoder.prefill`."""
        self._voice.started = (phones.copy(), prompt.copy())
        return self._prefill(phones, bert, prompt)


class _Sample:
    """Feeds of utterances, as many as fit: those with the smallest random numbers stay, whatever their order."""

    def __init__(self, settings: Settings) -> None:
        self._room = settings.megabytes * 1e6
        self._random = np.random.Generator(np.random.PCG64(settings.seed))
        self._kept: dict[float, dict[str, Feeds]] = {}  # in the order of speech

    def add(self, stages: dict[str, Feeds]) -> None:
        """Keep the feeds of one utterance, and drop what no longer fits; one always stays."""
        self._kept[self._random.random()] = stages
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._room:
            del self._kept[max(self._kept)]

    def feeds(self) -> dict[str, tuple[Feeds, ...]]:
        """By stage, in the order of speech."""
        kept = list(self._kept.values())
        return {stage: tuple(one[stage] for one in kept) for stage in STAGES if kept and stage in kept[0]}


def _size(stages: dict[str, Feeds]) -> int:
    return sum(array.nbytes for feeds in stages.values() for array in feeds.values())


__all__ = ["STAGES", "CalibrationResult", "Corpus", "Script", "Sentence", "Spoken", "calibrate", "read_result"]
