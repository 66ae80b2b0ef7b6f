"""Do the gates fire? The source is damaged in known ways, and each damage must be caught by the gate meant for it.

What is judged is the damaged source beside the intact one, by the limits of one artifact. Rounding its weights to
float16 must pass the limits of FP16: gates that fire at everything would show nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gsvexport.progress import Progress, Step
from gsvexport.verify import LIVE, checks, damage, freerun, golden, said
from gsvexport.verify.cases import Case
from gsvexport.verify.depth import Depth
from gsvexport.verify.gates import Gates, resolve
from gsvexport.verify.golden import TEACHER
from gsvexport.verify.heldout import sentences
from gsvexport.verify.ladder import Kind, Trial, climb
from gsvexport.verify.report import Check

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

WITNESS = "pipeline.pesq_mean"
_SPOKEN_SENTENCES = 12  # every damage is listened to again: enough for what is gross
QUIET = "rounding to float16"
_T2S, _SOUND = (TEACHER,), ("acoustic", "features", "cfm", "vocoder")
_CONVOLUTIONS, _PRODUCTS = ("Conv", "ConvTranspose"), ("MatMul", "Gemm")


@dataclass(frozen=True)
class Row:
    """One damage: the gates `meant` for it ("stage.metric"), those that `fired`, and those that did not run.

    With nothing meant, nothing may fire. What has no limit for this voice (a waveform's, where it has a ruler) is not
    meant.
    """

    name: str
    meant: tuple[str, ...]
    fired: tuple[str, ...]
    not_run: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def ran(self) -> bool:
        """Whether any gate that is meant could be tried."""
        return not self.meant or any(name not in self.not_run for name in self.meant)

    @property
    def passed(self) -> bool:
        """Every gate meant that could be tried fired; where there is none, nothing did."""
        wanted = [name for name in self.meant if name not in self.not_run]
        if self.problems:
            return False
        return all(name in self.fired for name in wanted) if self.meant else not self.fired


def self_test(source: Path, gates: Gates, depth: Depth | None = None, *, progress: Progress | None = None) -> list[Row]:
    """Damage the source in `source` in every known way; with `depth` 3 its speech, too.

    A gate that `depth` requires and that cannot be tried is as bad as one that does not fire.

    Raises:
        ArtifactError: the source cannot be opened.
        EnvironmentProblem: the extra `compile` is not installed.
    """
    from gsvexport.runtime.pipeline import LoadedVoice, load

    say, depth = progress or (lambda _: None), depth or Depth()
    with load(source) as voice, tempfile.TemporaryDirectory() as work:
        cases = golden.cases(voice, (*LIVE, *said(voice.model)), baked_prompt=True)
        rows = []
        for name, (change, meant) in OUTPUTS.items():
            if not change.keys() <= voice.stages.keys():
                continue  # another version's stage
            say(Step(f"self-test: {name}", "self-test"))
            with LoadedVoice(source, opener=damage.opener(change)) as bad:
                rows.append(_row(name, meant, _compare(bad, cases, _SOUND, gates)))
        for name, (stages, operators, weight, meant) in WEIGHTS.items():
            say(Step(f"self-test: {name}", "self-test"))
            files = {stage: voice.model.files[stage] for stage in stages if stage in voice.model.files}
            regions = damage.weights(source, files, operators)
            chosen = damage.middle(regions) if operators else regions
            folder = damage.patched(source, Path(work) / name.replace(" ", "-"), dict.fromkeys(chosen, weight))
            with load(folder) as bad:
                kinds = _T2S if "step" in stages else _SOUND
                limits = gates if meant else resolve("fp16", ruler=gates.ruler)
                found = _compare(bad, cases, kinds if operators else _T2S + _SOUND, limits)
                rows.append(_row(name, meant, found))
        rows += _climbed(source, voice, cases, gates, say)
        if depth.deep:
            rows += _spoken(voice, Path(work) / QUIET.replace(" ", "-"), gates, depth, say)
    return [_insisted(row, depth.required) for row in rows]


def table(rows: Sequence[Row]) -> str:
    """Fixed-width text: one line a damage, then the verdict."""
    cells = [("DAMAGE", "MEANT TO FIRE", "FIRED", "STATUS")]
    for row in rows:
        wanted = [name for name in row.fired if name in row.meant or not row.meant]
        others = f" and {len(row.fired) - len(wanted)} others" if len(row.fired) > len(wanted) else ""
        absent = f"; not run: {', '.join(row.not_run)}" if row.not_run else ""
        status = "FAIL" if not row.passed else "pass" if row.ran else "NOT RUN"
        fired = (", ".join(wanted) or ("none of these" if others else "nothing")) + others + absent
        cells.append((row.name, ", ".join(row.meant) or "nothing", "; ".join((fired, *row.problems)), status))
    widths = [max(len(one[column]) for one in cells) for column in range(3)]
    lines = ["  ".join((*(cell.ljust(w) for cell, w in zip(one, widths, strict=False)), one[3])) for one in cells]
    count = {name: [one[3] for one in cells[1:]].count(name) for name in ("pass", "FAIL", "NOT RUN")}
    verdict = "FAILED" if count["FAIL"] else "passed"
    return "\n".join([*lines, f"{verdict}: {count['pass']} pass, {count['FAIL']} fail, {count['NOT RUN']} not run"])


def _compare(bad: LoadedVoice, cases: Sequence[Case], stages: Sequence[str], gates: Gates) -> list[Check]:
    return checks.compare(bad, [case for case in cases if case.stage in stages], gates, "the intact source")


def _row(name: str, meant: tuple[str, ...], found: Sequence[Check]) -> Row:
    def names(status: str) -> tuple[str, ...]:
        return tuple(f"{check.stage}.{check.metric}" for check in found if check.status == status)

    meant = tuple(one for one in meant if one not in names("info"))
    return Row(name, meant, names("fail"), tuple(one for one in names("not_run") if one in meant))


def _climbed(source: Path, voice: LoadedVoice, cases: Sequence[Case], gates: Gates, say: Progress) -> list[Row]:
    """One row for each kind of damage in growing strength: what PESQ hears has to be refused, and nothing else."""
    if gates.ruler.unit is None:
        return [Row("damages in growing strength", (WITNESS,), (), (WITNESS,))]
    spoken = [case for case in cases if case.name.startswith("said")]
    kinds: dict[Kind, list[Trial]] = {}
    for trial in climb(source, voice, spoken, gates, lambda text: say(Step(f"self-test: {text}", "self-test"))):
        kinds.setdefault(trial.kind, []).append(trial)
    rows = []
    for kind, trials in kinds.items():
        name = f"{kind.name}, {kind.strengths[0]:g} to {kind.strengths[-1]:g} {kind.unit}"
        first = next((trial for trial in trials if trial.fired), None)
        fired = tuple(f"pipeline.{metric}" for metric in first.fired) if first else ()
        problems = tuple(f"{trial.name}: {trial.problem}" for trial in trials if trial.problem)
        absent = (WITNESS,) if all(trial.pesq is None for trial in trials) else ()
        rows.append(Row(name, (*fired, *absent), fired, absent, problems))
    return rows


def _insisted(row: Row, required: Sequence[str]) -> Row:
    """The row with no excuse for the gates that are required."""
    return replace(row, not_run=tuple(name for name in row.not_run if name.partition(".")[2] not in required))


def _spoken(voice: LoadedVoice, rounded: Path, gates: Gates, depth: Depth, say: Progress) -> list[Row]:
    """The damages of level 3, on what the source says freely."""
    from gsvexport.runtime.pipeline import load

    texts = sentences(voice.model, depth.sentences)[:_SPOKEN_SENTENCES]
    if not texts or "ge" not in voice.baked:
        return [Row(name, meant, (), meant) for name, (_, meant) in SPOKEN.items()]
    ears = freerun.listeners(voice.model.language, depth.recogniser)
    with ExitStack() as stack:
        halved = stack.enter_context(load(rounded))
        intact, quiet = (freerun.utterances(one, texts, range(depth.seeds), say) for one in (voice, halved))
    expected = freerun.scores(intact, texts, ears, say)
    limits = resolve("fp16", ruler=gates.ruler)
    found = freerun.checks(expected, freerun.scores(quiet, texts, ears, say), ears, limits)
    rows = [_row(f"{QUIET}, spoken", (), found)]
    for name, (change, meant) in SPOKEN.items():
        say(Step(f"self-test: {name}", "self-test"))
        bad = freerun.scores([change(one) for one in intact], texts, ears, say)
        rows.append(_row(name, meant, freerun.checks(expected, bad, ears, gates)))
    return rows


def _sound(change: Callable[..., Any], *values: float) -> dict[str, Any]:
    return {"vocoder": lambda out: {"audio": change(out["audio"][0], *values)[None]}}


def _nan(samples: Any) -> Any:
    return np.where(np.arange(samples.size) == samples.size // 2, np.nan, samples)


# name: (what becomes of a stage's outputs, the gates meant for it)
OUTPUTS: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "white noise, 30 dB": (_sound(damage.noise, 30), ("vocoder.sound_share", "pipeline.pesq_mean")),
    "white noise, 20 dB": (
        _sound(damage.noise, 20),
        ("pipeline.sound_share", "vocoder.log_mel_l1", "pipeline.pesq", "pipeline.pesq_mean"),
    ),
    "white noise, 10 dB": (_sound(damage.noise, 10), ("vocoder.sound_share", "vocoder.snr_db", "vocoder.pesq")),
    "white noise, 0 dB": (
        _sound(damage.noise, 0),
        ("vocoder.sound_share", "vocoder.mr_stft", "vocoder.voicing_error"),
    ),
    "5-bit µ-law": (_sound(damage.mu_law, 5), ("vocoder.sound_share", "vocoder.pesq", "vocoder.log_mel_l1")),
    "1 dB softer": (_sound(damage.gain, -1), ("vocoder.rms_change_db",)),
    "30 dB louder, clipped": (_sound(damage.gain, 30), ("vocoder.clipping_rise", "vocoder.rms_change_db")),
    "played 3 % too fast": (
        _sound(damage.faster_in_place, 1.03),
        ("vocoder.f0_cents", "vocoder.sound_share", "vocoder.snr_db"),
    ),
    "half of it silent": (_sound(damage.half_silent), ("vocoder.silence_change",)),
    "a sample that is NaN": (_sound(_nan), ("vocoder.valid", "pipeline.valid")),
    "two latent channels swapped": (
        {"acoustic": lambda out: {"latent": damage.swapped(out["latent"])}},
        ("acoustic.cosine_distance", "acoustic.snr_db", "pipeline.sound_share", "pipeline.log_mel_l1"),
    ),
    "two feature channels swapped": (
        {"features": lambda out: {"fea": damage.swapped(out["fea"])}},
        ("features.cosine_distance", "features.snr_db"),
    ),
    "two velocity channels swapped": (
        {"cfm": lambda out: {"velocity": damage.swapped(out["velocity"])}},
        ("cfm.cosine_distance", "cfm.snr_db", "pipeline.sound_share", "pipeline.log_mel_l1"),
    ),
}
# name: (stages, operators of which the middle one's weight changes - all weights where none is named, how, gates)
WEIGHTS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[[Any], Any], tuple[str, ...]]] = {
    "a convolution of zeros": (
        ("vocoder",),
        _CONVOLUTIONS,
        np.zeros_like,
        ("vocoder.sound_share", "vocoder.snr_db", "vocoder.log_mel_l1"),
    ),
    "a wrong quantisation scale": (
        ("vocoder",),
        _CONVOLUTIONS,
        damage.wrong_scale,
        ("vocoder.sound_share", "vocoder.snr_db"),
    ),
    "a layer of T2S dropped": (("prefill", "step"), _PRODUCTS, np.zeros_like, ("step.top1", "step.top15", "step.kl")),
    "a product of T2S scaled by 1.5": (("prefill", "step"), _PRODUCTS, lambda a: 1.5 * a, ("step.top15", "step.kl")),
    QUIET: (("prefill", "step", "acoustic", "features", "cfm", "vocoder"), (), damage.half_precision, ()),
}
# name: (what becomes of an utterance, the gates meant for it)
SPOKEN: dict[str, tuple[Callable[[freerun.Utterance], freerun.Utterance], tuple[str, ...]]] = {
    "speech in noise, 20 dB": (partial(damage.of_sound, change=lambda x: damage.noise(x, 20)), ("free_run.p808_drop",)),
    "speech in noise, 0 dB": (
        partial(damage.of_sound, change=lambda x: damage.noise(x, 0)),
        ("free_run.wer_rise", "free_run.cer_rise", "free_run.ovr_drop"),
    ),
    "speech in 5-bit µ-law": (partial(damage.of_sound, change=lambda x: damage.mu_law(x, 5)), ("free_run.p808_drop",)),
    "another voice: 25 % higher": (
        partial(damage.of_sound, change=lambda x: damage.faster(x, 1.25)),
        ("free_run.speaker_drop", "free_run.duration_ratio"),
    ),
    "a code repeated for a second": (damage.looped, ("free_run.repeat_rise", "free_run.duration_ratio")),
    "an end too early": (partial(damage.cut, share=0.6), ("free_run.duration_ratio", "free_run.wer_rise")),
    "no end": (damage.endless, ("free_run.eos_drop",)),
    "half of the speech silent": (partial(damage.of_sound, change=damage.half_silent), ("free_run.silence_rise",)),
    "speech 30 dB louder": (
        partial(damage.of_sound, change=lambda x: damage.gain(x, 30)),
        ("free_run.clipping_rise",),
    ),
}
