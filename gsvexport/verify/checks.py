"""From cases to checks: run a voice on the inputs of a case and judge how far its outputs are from the reference's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.progress import counted
from gsvexport.runtime.batch import ROWS
from gsvexport.runtime.side_by_side import Rows
from gsvexport.signal.loudness import distance
from gsvexport.verify import audio, pitch, speech, tensors
from gsvexport.verify.cases import Case, Runnable, WritesRows
from gsvexport.verify.gates import METRICS, Gates, judge, not_run
from gsvexport.verify.golden import TEACHER, teacher_forced
from gsvexport.verify.report import Check
from gsvexport.verify.ruler import LEAST_VOICED
from gsvexport.verify.sounding import chains, speak

Array = NDArray[Any]
Pair = tuple[Array, Array]  # reference, value

# A prefill gives one row for each case: too few for a share of rows to mean anything.
LOGITS = {"prefill": ("max_error", "kl"), "step": ("max_error", "top1", "top15", "kl")}
LATENT = ("max_error", "cosine_distance", "snr_db")
SPEECH = ("pesq_mean", "pesq", "f0_cents", "voicing_error")
SOUND = (
    *(
        "sound_share",
        "max_error",
        "snr_db",
        "log_mel_l1",
        "mr_stft",
        "clipping_rise",
        "silence_change",
        "rms_change_db",
    ),
    *SPEECH,
)
SHORTEST_SPEECH = 1.0  # s; of less, and of what has no voice in it, neither PESQ nor a pitch says anything
CODES = ("equal",)
CACHE = ("cache_error",)


@dataclass(frozen=True)
class _Ran:
    """The outputs of one stage for one case, beside the reference's; `problem` says why they cannot be compared."""

    pairs: dict[str, Pair]
    problem: str = ""


def compare(
    voice: Runnable,
    cases: Sequence[Case],
    gates: Gates,
    against: str,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Every stage of `cases` in turn, then all from codes to sound in a row. `against` names the reference."""
    rate, checks = voice.model.rate, []
    stages, phase = list(dict.fromkeys(case.stage for case in cases)), f"comparing with {against}"
    chained = chains(cases)
    count = len(stages) + bool(chained)
    for number, stage in enumerate(stages, 1):
        mine = [case for case in cases if case.stage == stage]
        progress(counted(f"{'prefill and step' if stage == TEACHER else stage}: {phase}", phase, number, count))
        if stage == TEACHER:
            checks += _teacher(voice, mine, gates, against)
            continue
        ran = [_run(case, partial(voice.run, stage, case.inputs)) for case in mine]
        checks += _judge_all(gates, stage, _metrics(mine[0]), against, ran, rate)
    if chained:
        progress(counted(f"codes to sound, all stages in a row: {phase}", phase, count, count))
        ran = [_run(chain["vocoder"], partial(speak, voice, chain)) for chain in chained]
        checks += _judge_all(gates, "pipeline", SOUND, against, ran, rate)
    return checks


def of_sound(gates: Gates, pairs: Sequence[Pair], rate: int) -> list[Check]:
    """Every check of level 2 of sounds, each pair expected and found, as those of all stages in a row."""
    ran = [_Ran({"audio": pair}) for pair in pairs]
    return _judge_all(gates, "pipeline", SOUND, "what was expected", ran, rate, valid=False)


def constants(gates: Gates, baked: Mapping[str, Array], reference: Mapping[str, Array], against: str) -> list[Check]:
    """The stored constants of a baked voice beside the reference's."""
    ran = {name: _run(Case(name, "baked", {}, {name: array}), lambda: baked) for name, array in reference.items()}
    problems = [one.problem for one in ran.values() if one.problem]
    checks = [_valid(gates, "baked", against, problems, len(ran))]
    for kinds, metrics in (("iu", CODES), ("f", ("max_error",))):
        mine = [one for name, one in ran.items() if reference[name].dtype.kind in kinds]
        if mine:
            checks += _judge_all(gates, "baked", metrics, against, mine, 0, valid=False)
    return checks


def _teacher(voice: Runnable, cases: Sequence[Case], gates: Gates, against: str) -> list[Check]:
    """Row 0 of the logits and the rows of text and prompt belong to `prefill`, everything after them to `step`.

    Where sentences can be written side by side, each has to pass there, too.
    """
    ran = [_run(case, partial(_forced, voice, case)) for case in cases]
    checks, together = [], _side_by_side(voice, cases)
    for stage in ("prefill", "step"):
        logits, caches = [], []
        for case, one in zip(cases, ran, strict=True):
            first = case.inputs["phones"].shape[1] + case.inputs["prompt"].shape[1]
            rows = slice(0, 1) if stage == "prefill" else slice(1, None)
            places = slice(0, first) if stage == "prefill" else slice(first, None)
            pairs = {name: (r[rows], x[rows]) for name, (r, x) in one.pairs.items() if name == "logits"}
            held = {name: (r[:, places], x[:, places]) for name, (r, x) in one.pairs.items() if name != "logits"}
            logits.append(_Ran(pairs, one.problem))
            caches.append(_Ran(held, one.problem))
        if stage == "step":
            logits += [
                _Ran({name: (r[1:], x[1:]) for name, (r, x) in one.pairs.items()}, one.problem) for one in together
            ]
        checks += _judge_all(gates, stage, LOGITS[stage], against, logits, 0)
        if any(len(case.outputs) > 1 for case in cases):  # a student's cache is not its teacher's
            checks += _judge_all(gates, stage, CACHE, against, caches, 0, valid=False)
    return checks


def _forced(voice: Runnable, case: Case) -> dict[str, Array]:
    tokens = case.inputs["tokens"]
    text = {name: case.inputs[name] for name in ("phones", "bert", "prompt")}
    return teacher_forced(voice, **text, tokens=tokens, count=len(tokens))


def _side_by_side(voice: Runnable, cases: Sequence[Case]) -> list[_Ran]:
    """Each case's logits, written in one step with the others'; none where this voice writes one at a time."""
    if len(cases) < 2 or not isinstance(voice, WritesRows):
        return []
    try:
        rows = voice.rows(min(ROWS, len(cases)))
        if rows.most < 2:
            return []
        found: dict[str, Array] = {}
        for start in range(0, len(cases), rows.most):
            found |= _in_one_step(rows, cases[start : start + rows.most])
    except GsvError as error:
        return [_Ran({}, f"side by side: {' '.join(str(error).split())}")]
    only = [Case(f"{one.name} side by side", one.stage, {}, {"logits": one.outputs["logits"]}) for one in cases]
    return [_run(case, partial(dict, logits=found[one.name])) for case, one in zip(only, cases, strict=True)]


def _in_one_step(rows: Rows, cases: Sequence[Case]) -> dict[str, Array]:
    """Logits [n, V] by case; one with fewer tokens leaves before the others."""
    text = ("phones", "bert", "prompt")
    found = {case.name: [rows.enter(*(case.inputs[name] for name in text))] for case in cases}
    active = list(cases)
    while active:
        for row in reversed(range(len(active))):
            if len(found[active[row].name]) == active[row].inputs["tokens"].size:
                rows.leave(row)
                active[row] = active[-1]
                active.pop()
        if active:
            counts = [len(found[case.name]) - 1 for case in active]
            tokens = [int(case.inputs["tokens"][count]) for case, count in zip(active, counts, strict=True)]
            places = [case.inputs["prompt"].shape[1] + count for case, count in zip(active, counts, strict=True)]
            for case, logits in zip(active, rows.step(tokens, places), strict=True):
                found[case.name].append(logits)
    return {name: np.stack(logits) for name, logits in found.items()}


def _metrics(case: Case) -> tuple[str, ...]:
    """Which metrics fit what a stage puts out."""
    if "audio" in case.outputs:
        return SOUND
    return CODES if all(array.dtype.kind in "iu" for array in case.outputs.values()) else LATENT


def _run(case: Case, call: Callable[[], Mapping[str, Array]]) -> _Ran:
    """Call, and pair each output with the reference's; whatever makes a comparison impossible becomes the problem."""
    try:
        outputs = call()
    except GsvError as error:
        return _Ran({}, f"case {case.name}: {' '.join(str(error).split())}")
    for port, expected in case.outputs.items():
        if port not in outputs:
            return _Ran({}, f"case {case.name}: no {port}")
        if outputs[port].shape != expected.shape:
            return _Ran({}, f"case {case.name}: {port} is {_sizes(outputs[port])} instead of {_sizes(expected)}")
        if count := audio.nonfinite_count(outputs[port]):
            return _Ran({}, f"case {case.name}: {count} of {expected.size} values of {port} are NaN or infinite")
    return _Ran({port: (expected, outputs[port]) for port, expected in case.outputs.items()})


def _judge_all(
    gates: Gates,
    stage: str,
    metrics: Sequence[str],
    against: str,
    ran: Sequence[_Ran],
    rate: int,
    *,
    valid: bool = True,
) -> list[Check]:
    """ "valid" and then each metric over all cases; without comparable outputs the metrics do not run."""
    problems = [one.problem for one in ran if one.problem]
    checks = []
    if valid:
        checks.append(_valid(gates, stage, against, problems, len(ran)))
    if problems:
        return checks + [not_run(gates, stage, metric, against, "the outputs are not valid") for metric in metrics]
    pairs = [pair for one in ran for pair in one.pairs.values()]
    checks += [_measure(gates, stage, metric, against, pairs, rate) for metric in metrics if metric not in SPEECH]
    return checks + (_speech(gates, stage, against, pairs, rate) if metrics is SOUND else [])


def _speech(gates: Gates, stage: str, against: str, pairs: Sequence[Pair], rate: int) -> list[Check]:
    """PESQ, pitch and voicing, worst case, over the pairs whose reference holds enough voice."""
    long = [(r.reshape(-1), x.reshape(-1)) for r, x in pairs if r.size >= SHORTEST_SPEECH * rate]
    tracks = [(pitch.pitch(r, rate), pitch.pitch(x, rate)) for r, x in long]
    voiced = [index for index, (track, _) in enumerate(tracks) if np.mean(track > 0) >= LEAST_VOICED]
    if not voiced:
        reason = f"no case is a voice: {SHORTEST_SPEECH:g} s, {LEAST_VOICED:.0%} of it voiced"
        return [not_run(gates, stage, metric, against, reason) for metric in SPEECH]
    cents = [pitch.f0_cents(*tracks[index]) for index in voiced]
    errors = [pitch.voicing_error(*tracks[index]) for index in voiced]
    lost = "nothing is voiced any more" if np.isnan(cents).any() else ""
    return [
        *_pesq(gates, stage, against, [long[index] for index in voiced], rate),
        _beside_own(gates, stage, "f0_cents", against, max(cents) if not lost else np.nan, len(voiced), lost),
        _beside_own(gates, stage, "voicing_error", against, max(errors), len(voiced)),
    ]


def _beside_own(gates: Gates, stage: str, metric: str, against: str, value: float, n: int, reason: str = "") -> Check:
    """A check whose baseline is how far another seed of the source moves the same metric."""
    baseline = gates.ruler.own(_OWN[metric]) or None
    return judge(gates, stage, metric, against, value, n, reason=reason, baseline=baseline)


def _pesq(gates: Gates, stage: str, against: str, pairs: Sequence[Pair], rate: int) -> list[Check]:
    """Mean and worst case."""
    names, reason = ("pesq_mean", "pesq"), "PESQ finds no utterance in the reference"
    known: list[float] = []
    try:
        scores = [speech.pesq_wb(speech.narrow(r, rate), speech.narrow(x, rate)) for r, x in pairs]
        known = [score for score in scores if score is not None]
    except EnvironmentProblem as problem:
        reason = " ".join(str(problem).split())
    if not known:
        return [not_run(gates, stage, name, against, reason) for name in names]
    values = (float(np.mean(known)), min(known))
    return [judge(gates, stage, name, against, value, len(known)) for name, value in zip(names, values, strict=True)]


def _valid(gates: Gates, stage: str, against: str, problems: Sequence[str], n: int) -> Check:
    return judge(gates, stage, "valid", against, 0.0 if problems else 1.0, n, reason="; ".join(problems))


def _measure(gates: Gates, stage: str, metric: str, against: str, pairs: Sequence[Pair], rate: int) -> Check:
    if metric in _OF_LOGITS:
        rows = [np.concatenate(side) for side in zip(*pairs, strict=True)]
        return judge(gates, stage, metric, against, _OF_LOGITS[metric](*rows), len(rows[0]))
    if metric in _OF_SIGNALS:
        r, x = (np.concatenate([array.reshape(-1) for array in side]) for side in zip(*pairs, strict=True))
        change, baseline = _OF_SIGNALS[metric](r, x, rate)
        return judge(gates, stage, metric, against, change, r.size, baseline=baseline)
    if metric == "sound_share":
        return _sound_share(gates, stage, against, pairs, rate)
    results = [_of_pair(metric, reference, value, rate) for reference, value in pairs]
    worst = max if METRICS[metric].direction == "max" else min
    value, n = worst(results), len(results)
    if metric in _OWN:
        return _beside_own(gates, stage, metric, against, value, n)
    return judge(gates, stage, metric, against, value, n)


def _sound_share(gates: Gates, stage: str, against: str, pairs: Sequence[Pair], rate: int) -> Check:
    unit = gates.ruler.unit
    if unit is None:
        reason = f"{gates.ruler.reason}; absolute limits of SNR, log-mel and STFT stand in"
        return not_run(gates, stage, "sound_share", against, reason)
    flat = [(r.reshape(-1), x.reshape(-1)) for r, x in pairs]
    own = gates.ruler.own("loudness") / unit  # below 1 for a voice that hardly uses its noise
    return judge(gates, stage, "sound_share", against, distance(flat, rate) / unit, len(flat), baseline=own)


# Metrics that a ruler knows, by its names for them.
_OWN = {"log_mel_l1": "log_mel", "mr_stft": "mr_stft", "f0_cents": "f0_cents", "voicing_error": "voicing_error"}
_OF_LOGITS: dict[str, Callable[[Array, Array], float]] = {
    "top1": lambda r, x: tensors.top_k_agreement(r, x, 1),
    "top15": lambda r, x: tensors.top_k_agreement(r, x, 15),
    "kl": tensors.kl_divergence,
}
_OF_TENSORS: dict[str, Callable[[Array, Array], float]] = {
    "max_error": tensors.scaled_error,
    "cache_error": tensors.scaled_error,
    "cosine_distance": tensors.cosine_distance,
    "snr_db": tensors.snr_db,
    "equal": tensors.equal_share,
}


def _of_pair(metric: str, reference: Array, value: Array, rate: int) -> float:
    if metric in _OF_TENSORS:
        return _OF_TENSORS[metric](reference, value)
    r, x = reference.reshape(-1), value.reshape(-1)
    return audio.log_mel_l1(r, x, rate) if metric == "log_mel_l1" else audio.multi_resolution_stft(r, x)


def _clipping(r: Array, x: Array, rate: int) -> tuple[float, float]:
    return audio.clipping_share(x) - audio.clipping_share(r), audio.clipping_share(r)


def _silence(r: Array, x: Array, rate: int) -> tuple[float, float]:
    return abs(audio.silence_share(x, rate) - audio.silence_share(r, rate)), audio.silence_share(r, rate)


def _level(r: Array, x: Array, rate: int) -> tuple[float, float]:
    floor = 1e-6  # of full scale: keeps the logarithm of a silent signal finite
    was, now = (20.0 * float(np.log10(max(audio.rms(signal), floor))) for signal in (r, x))
    return abs(now - was), was


# How much a property of the sound of all cases together has changed, and what it was.
_OF_SIGNALS: dict[str, Callable[[Array, Array, int], tuple[float, float]]] = {
    "clipping_rise": _clipping,
    "silence_change": _silence,
    "rms_change_db": _level,
}


def _sizes(array: Array) -> str:
    return "×".join(map(str, array.shape)) or "a single number"
