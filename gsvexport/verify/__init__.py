"""Is an artifact what its source is? Every stage is run and compared, and so is the sound at the end.

Two references, each named in the checks: the golden vectors inside the artifact, which a device can use alone, and,
when it is at hand, the source itself on longer inputs with the voice's own prompt.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.artifact.manifest import MANIFEST
from gsvexport.artifact.tools import INSTALL
from gsvexport.backends import Opener, open_session
from gsvexport.errors import GsvError, InputError
from gsvexport.model import Model
from gsvexport.runtime.batch import Batch, Written
from gsvexport.stages import CLONING_STAGES, VERSIONS, speaking
from gsvexport.verify import audio, checks, freerun, golden, package, student
from gsvexport.verify.beside import Beside
from gsvexport.verify.cases import Case, Size
from gsvexport.verify.depth import Depth
from gsvexport.verify.gates import Gates, judge, not_run, resolve
from gsvexport.verify.heldout import sentences, short_texts, spoken
from gsvexport.verify.report import Check, Report
from gsvexport.verify.sounding import MEL_STEPS
from gsvexport.verify.speech import BEST_PESQ

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

__all__ = ["Check", "Depth", "Report", "verify_artifact", "verify_voice"]

Progress = Callable[[str], None]
GOLDEN, SOURCE, REFERENCE_STAGE, ITSELF = "golden vectors", "source", "source's reference stage", "itself"
# Longer than the golden vectors: 2.4 s with the baked prompt where there is one, 1.2 s at another speed without it.
LIVE = (
    Size("long", phones=40, prompt=30, tokens=60, codes=60, speed=1.0, spectrogram=64, ssl=48, bert=False),
    Size("slow", phones=21, prompt=0, tokens=30, codes=24, speed=0.8, spectrogram=33, ssl=31, bert=True),
)
# Beside them, of two held-out sentences; the first is a golden vector. Where they are near the limits for PESQ, of six
# more: one sentence's PESQ moves by 0.1 from sentence to sentence, and now and then by 0.6.
SAID, MORE, SAID_SECONDS = slice(1, 3), slice(3, 9), 3.0
_NEAR = (0.5, 2.0)  # of what PESQ may fall
FREE_RUN_TOKENS = 60
_LIVE_STAGES = ("pipeline", "baked")  # besides the stages that a sentence goes through


def verify_artifact(
    folder: Path,
    *,
    source: Path | LoadedVoice | None = None,
    gates: Mapping[str, float] | None = None,
    precision: str | Mapping[str, str] = "fp32",
    references: Sequence[Mapping[str, Any]] | None = None,
    depth: Depth | None = None,
    progress: Progress | None = None,
    opener: Opener = open_session,
    teacher: Path | None = None,
    untaught: str = "",
) -> Report:
    """Run the unpacked artifact in `folder` and compare it with its golden vectors and, where given, its source, a
    folder or an open one that stays open. Artifact and source run at the same time, each on half of the cores.

    `gates` are a target's limits and `precision` its placement's, for all stages or for each (see `gates.resolve`).
    `references` are the feeds of stage `reference` for each reference the voice was baked with (or `fbank`, of which
    stage `speaker` makes one of them); without them the baked
    constants are compared with the source's stored ones only. It runs here, whatever machine it was made for; `depth`
    says how far (default: to level 2).
    `progress` is told in words what is being done. `opener` emulates what cannot run here. `teacher` is the source
    of the voice that a student was made of, `untaught` says why there is none.

    Raises:
        TargetError: unknown gates or precisions.
        ArtifactError: the artifact or the source cannot be opened, or its golden vectors are damaged.
    """
    from gsvexport.runtime.pipeline import load

    held = (folder / golden.FOLDER).is_dir()
    limits = resolve(precision, gates, golden.read_ruler(folder / golden.FOLDER) if held else None)
    # What level 3 says is said in turn.
    threads = None if source is None or (depth and depth.deep) else share_of_cores()
    with load(folder, any_machine=True, opener=opener, threads=threads) as voice:
        cases = golden.read(folder / golden.FOLDER) if held else ()
        with contextlib.ExitStack() as stack:
            if isinstance(source, Path):
                source = stack.enter_context(load(source, threads=threads))
            report = verify_voice(voice, limits, cases, source, references, progress, depth)
        vectors = package.vectors(voice.model, cases, limits) if (folder / MANIFEST).is_file() else []
        beside = student.unknown(limits, untaught) if untaught else []
        if teacher is not None:
            sizes = (LIVE[0], *said(voice.model))
            with load(teacher) as original:
                beside = student.compare(voice, original, limits, sizes, depth or Depth(), progress or (lambda _: None))
    return replace(report, checks=(*package.audit(folder, limits), *vectors, *report.checks, *beside))


def share_of_cores() -> int:
    """Cores for each of two voices that run at the same time. One thread takes much less processor time than two do for
    the same, and half of the cores each is no slower than all of them in turn."""
    return max(1, (os.cpu_count() or 1) // 2)


def verify_voice(
    voice: LoadedVoice,
    gates: Gates,
    cases: Sequence[Case],
    source: LoadedVoice | None = None,
    references: Sequence[Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
    depth: Depth | None = None,
) -> Report:
    """`verify_artifact` for voices that are open already; `cases` are the golden vectors, empty when there are none."""
    say, depth = progress or (lambda _: None), depth or Depth()
    inputs = golden.inputs(voice.model, LIVE[0], np.random.Generator(np.random.PCG64(golden.SEED)))
    with Beside() as beside:
        if source is not None:
            say("running the source")
            sizes = (*LIVE, *said(voice.model))
            made = beside.start(golden.cases, beside.stopping(source), sizes, baked_prompt=True)
            fresh = beside.start(_conditioned, source, references)
            heard = beside.start(_speak, source, inputs)
        found = checks.compare(voice, cases, gates, GOLDEN, say)
        covered = {stage for case in cases for stage in golden.COVERS.get(case.stage, (case.stage,))}
        found += [
            not_run(gates, stage, "valid", GOLDEN, "no golden vectors of this stage")
            for stage in voice.stages
            if stage not in covered
        ]
        if source is None:
            reason = "no source was given to compare with"
            unknown = (*speaking(voice.model.version), *_LIVE_STAGES)
            found += [not_run(gates, stage, "valid", SOURCE, reason) for stage in unknown]
        else:
            dropped = [stage for stage in CLONING_STAGES if stage not in voice.stages]  # their results are baked
            live = [case for case in made.result() if case.stage not in dropped]
            compared = checks.compare(voice, live, gates, SOURCE, say)
            if _near(compared) and (others := said(voice.model, MORE)):
                say("near a limit: running the source on more sentences")
                first = len(LIVE) + MORE.start - SAID.start
                more = beside.start(golden.cases, beside.stopping(source), others, first=first)
                live += [case for case in more.result() if case.stage not in dropped]
                compared = checks.compare(voice, live, gates, SOURCE, say)
            found += compared
            found += _baked(voice, source, fresh.result, gates)
        say("free run")
        found += _free_run(voice, inputs, None if source is None else heard.result, gates)
    if depth.deep:
        texts = sentences(voice.model, depth.sentences)
        found += freerun.compare(
            voice, source, texts, depth.seeds, gates, say, depth.recogniser, short_texts(voice.model)
        )
    return Report(tuple(found), _environment())


def said(model: Model, which: slice = SAID) -> list[Size]:
    """The sentences that artifact and source say on equal codes; the first of the language is a golden vector."""
    try:
        phones = spoken(model, which.stop)[which]
    except InputError:
        phones = ()
    first = which.start - SAID.start
    return [golden.said(f"said{number}", one, SAID_SECONDS, model) for number, one in enumerate(phones, first)]


def _near(found: Sequence[Check]) -> bool:
    """Whether three sentences are too few to tell: some PESQ has fallen by half to twice of what it may."""
    for check in found:
        if check.metric in ("pesq", "pesq_mean") and check.value is not None and check.limit is not None:
            least, most = (share * (BEST_PESQ - check.limit) for share in _NEAR)
            if least <= BEST_PESQ - check.value <= most:
                return True
    return False


def _conditioned(source: LoadedVoice, references: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any] | None:
    """What the source's stage `reference` makes of references now; None without any."""
    if not references:
        return None
    speakers = [
        feeds["speaker"] if "speaker" in feeds else source.run("speaker", {"fbank": feeds["fbank"]})["speaker"]
        for feeds in references
        if "speaker" in feeds or "fbank" in feeds
    ]
    return source.condition([feeds["spectrogram"] for feeds in references], speakers)


def _baked(
    voice: LoadedVoice, source: LoadedVoice, conditioned: Callable[[], Mapping[str, Any] | None], gates: Gates
) -> list[Check]:
    """The stored constants beside the source's, and beside what its `reference` stage gives now."""
    if not voice.baked and not source.baked:
        return [not_run(gates, "baked", "valid", SOURCE, "the voice has no baked reference")]
    found = checks.constants(gates, voice.baked, source.baked, SOURCE)
    fresh = conditioned()
    if fresh is None:
        reason = "the reference's spectrogram was not given"
        return [*found, not_run(gates, "baked", "valid", REFERENCE_STAGE, reason)]
    return found + checks.constants(gates, voice.baked, fresh, REFERENCE_STAGE)


def _free_run(
    voice: LoadedVoice, inputs: Mapping[str, Any], spoken: Callable[[], tuple[Any, Any]] | None, gates: Gates
) -> list[Check]:
    """Greedy generation without teacher forcing, spoken: does it run, and how long does it follow the source, which has
    `spoken`?

    Sound is not compared sample by sample here: one different code changes all that follows.
    """
    codes, sound = np.empty(0, np.int64), np.empty(0, np.float32)
    unprompted = VERSIONS[voice.model.version].mel is not None and "prompt" not in voice.baked
    missing = [stage for stage in speaking(voice.model.version) if stage not in voice.stages]
    problem = f"the artifact holds no stage {', '.join(missing)}" if missing else ""
    if unprompted:
        reason = f"a {voice.model.version} voice without a baked reference cannot speak by itself"
        return [not_run(gates, "free_run", "valid", ITSELF, reason, level=3)]
    if not missing:
        try:
            codes, sound = _speak(voice, inputs)
        except GsvError as error:
            problem = " ".join(str(error).split())
    if count := audio.nonfinite_count(sound):
        problem = f"{count} of {sound.size} samples are NaN or infinite"
    elif not problem and audio.silence_share(sound, voice.rate) == 1:
        problem = f"{sound.size / voice.rate:.2f} s of speech are silent"
    found = [judge(gates, "free_run", "valid", ITSELF, 0.0 if problem else 1.0, 1, reason=problem, level=3)]
    metrics = ("token_prefix", "length_ratio", "clipping_rise")
    if problem or spoken is None:
        reason = "the free run is not valid" if problem else "no source was given to compare with"
        return found + [not_run(gates, "free_run", metric, SOURCE, reason, level=3) for metric in metrics]
    expected, original = spoken()
    same = min(len(codes), len(expected))
    prefix = int(np.argmin(np.append(codes[:same] == expected[:same], False)))
    longest, base = max(len(codes), len(expected)), audio.clipping_share(original)
    ratio = longest / max(1, same)
    rise = audio.clipping_share(sound) - base
    return [
        *found,
        judge(gates, "free_run", "token_prefix", SOURCE, prefix / longest, longest),
        judge(gates, "free_run", "length_ratio", SOURCE, ratio, len(codes), baseline=len(expected)),
        judge(gates, "free_run", "clipping_rise", SOURCE, rise, sound.size, baseline=base, level=3),
    ]


class _Noted(Batch):
    """A batch of one sentence after the other that remembers what was submitted."""

    def __init__(self, voice: LoadedVoice) -> None:
        super().__init__(voice, rows=1)
        self.said: list[Written] = []

    def submit(self, *arguments: Any, **options: Any) -> Written:
        """As `Batch.submit`."""
        self.said.append(super().submit(*arguments, **options))
        return self.said[-1]


def _speak(voice: LoadedVoice, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    """Greedy codes [n] and their audio [N], through the public interface."""
    greedy = replace(voice.sampling, greedy=True)
    prompt = None if "prompt" in voice.baked else inputs["prompt"]
    conditioning = None
    if "ge" not in voice.baked:
        takes_speaker = any(port.name == "speaker" for port in voice.stages["reference"].inputs)
        conditioning = voice.condition(inputs["spectrogram"], [inputs["speaker"]] if takes_speaker else [])
    settings: dict[str, Any] = {"prompt": prompt, "sampling": greedy, "max_tokens": FREE_RUN_TOKENS}
    if VERSIONS[voice.model.version].mel is not None:
        settings["steps"] = MEL_STEPS
    batch = _Noted(voice)
    with batch:
        sound = voice.synthesize(phones=inputs["phones"], conditioning=conditioning, batch=batch, **settings)
        codes = np.concatenate([one.result() for one in batch.said])
    return codes, sound.samples


def _environment() -> dict[str, str]:
    """What this machine is; shown with a report, never stored in it."""
    found = {"machine": f"{platform.machine()}, {platform.system()} {platform.release()}"}
    for name in ("numpy", "onnxruntime", "gsvexport", *INSTALL, "ctranslate2"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "python": platform.python_version()}
