"""Which metrics exist, what each must reach by default, and how a number becomes a check.

The FP32 limits come from the conformance data (float64 and float32 differ by 1.1e-6 on audio; an independent FP32
implementation stays within 2e-5 on audio and latents and 1e-4 on logits) with room for another processor's summation
order. The limits of the lower precisions are starting points for a target to override, not measured truths.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gsvexport.errors import TargetError
from gsvexport.signal.loudness import distance
from gsvexport.stages import VERSIONS, stages
from gsvexport.verify.audio import log_mel_l1
from gsvexport.verify.report import Check, Direction, Status, meets, rounded
from gsvexport.verify.ruler import Ruler
from gsvexport.verify.tensors import Array, snr_db


@dataclass(frozen=True)
class Metric:
    """What a metric's number means; `level` is the level of proof it belongs to."""

    level: int
    direction: Direction
    meaning: str


METRICS: dict[str, Metric] = {
    "members": Metric(0, "max", "files that are missing, foreign or not byte for byte what the manifest says"),
    "unreferenced": Metric(0, "max", "members that nothing uses"),
    "ports": Metric(0, "max", "inputs and outputs of a graph that are not those of its stage"),
    "external_data": Metric(0, "max", "weights of a graph that are outside their file, or in a file of no member"),
    "machine_local": Metric(0, "max", "members and graphs that name a path or the name of the machine that built them"),
    "golden_cases": Metric(0, "max", "golden vectors that a stage has to have, and that are absent or say nothing"),
    "declared_precision": Metric(0, "min", "share of a graph's weights that are stored as its precision says"),
    "other_context": Metric(0, "max", "things that a compiled context is not, though recipe or target say so"),
    "integer_faults": Metric(0, "max", "tensors and operators of an integer graph that are not static integers"),
    "mapped_share": Metric(
        0, "min", "share of a stage's multiply-adds that an accelerator runs, predicted or compiled"
    ),
    "compiled": Metric(
        0, "min", "1 if the vendor's own compiler makes an engine of the graph that fits the device, else 0"
    ),
    "ready_made": Metric(0, "min", "1 if an engine that was built ahead of time is what the manifest says, else 0"),
    "parsed": Metric(0, "min", "1 if the vendor's parser takes the graph, of which no engine was asked, else 0"),
    "kernels": Metric(0, "max", "kernels of a run, of the profile with the most, in the vendor's compiler"),
    "scratch_mb": Metric(0, "max", "scratch memory of a run, of the largest profile, in 10^6 bytes, as planned by it"),
    "valid": Metric(1, "min", "1 if the stage ran and gave finite arrays of the reference's shapes, else 0"),
    "max_error": Metric(1, "max", "max |x-r| / max(1, max |r|), worst case"),
    "cache_error": Metric(1, "max", "max_error of the projected keys and values of all layers and rows"),
    "cosine_distance": Metric(1, "max", "1 - cosine between the flattened arrays, worst case"),
    "equal": Metric(1, "min", "share of equal codes, worst case"),
    "top1": Metric(1, "min", "share of teacher-forced rows with the same arg-max"),
    "top15": Metric(1, "min", "mean overlap of the 15 best codes, |A∩B|/15"),
    "kl": Metric(1, "max", "mean KL divergence of the next-code distributions in nats"),
    "sound_share": Metric(
        2, "max", "difference of loudness as a share of what another seed changes in the source, over all cases"
    ),
    "snr_db": Metric(2, "min", "10·log10(Σr²/Σ(r-x)²) in dB, worst case; 200 means identical"),
    "log_mel_l1": Metric(2, "max", "mean |difference| of 80 natural-log mel bands, worst case"),
    "mr_stft": Metric(2, "max", "multi-resolution STFT distance, worst case"),
    "clipping_rise": Metric(2, "max", "share of samples at full scale, minus the reference's, over all cases"),
    "silence_change": Metric(2, "max", "|share of silent 20 ms frames - the reference's|, all cases"),
    "rms_change_db": Metric(2, "max", "|level - the reference's| in dB, over all cases"),
    "pesq_mean": Metric(2, "min", "PESQ-WB of the artifact's speech against the reference's, mean of the cases"),
    "pesq": Metric(2, "min", "PESQ-WB of the artifact's speech against the reference's, worst case; 4.644 is the best"),
    "f0_cents": Metric(2, "max", "median |difference of pitch| in cents where both are voiced, worst case"),
    "voicing_error": Metric(2, "max", "share of frames that one calls voiced and the other not, worst case"),
    "token_prefix": Metric(3, "min", "share of the greedy free run before the first different token"),
    "length_ratio": Metric(3, "max", "longer / shorter of the two greedy free runs, in tokens"),
    "p808_drop": Metric(3, "max", "fall of DNSMOS P.808, mean over utterances; the 95 % bound is judged"),
    "ovr_drop": Metric(3, "max", "fall of DNSMOS P.835 OVR, mean over utterances; the 95 % bound is judged"),
    "wer_rise": Metric(3, "max", "rise of the recogniser's word error rate, 0 to 1; the 95 % bound is judged"),
    "cer_rise": Metric(3, "max", "rise of the recogniser's letter error rate, 0 to 1; the 95 % bound is judged"),
    "duration_ratio": Metric(3, "max", "longer / shorter of the mean durations; the 95 % bound is judged"),
    "eos_drop": Metric(3, "max", "fall of the share of utterances that end by themselves; the 95 % bound is judged"),
    "repeat_rise": Metric(3, "max", "rise of the share of codes inside loops; the 95 % bound is judged"),
    "speaker_drop": Metric(3, "max", "fall of the cosine to the source's voice; the 95 % bound is judged"),
    "silence_rise": Metric(3, "max", "rise of the share of silent 20 ms frames; the 95 % bound is judged"),
    "runaways_short": Metric(
        3, "max", "share of texts up to 15 phones that run away: endless, loops, too long or short"
    ),
    "runaways_middle": Metric(3, "max", "the same of texts from 16 to 60 phones"),
    "runaways_long": Metric(3, "max", "the same of texts of more than 60 phones"),
    "runaway_rise": Metric(
        3, "max", "rise of the share of runaways beyond chance, of all texts or of one length: the lower 95 % bound"
    ),
    "mos_fall": Metric(3, "max", "fall of the MOS that people gave, 1 to 5; the 95 % bound is judged"),
}
# Above this fall of a MOS, of people or of a model of them, nothing passes, whatever a target says.
MOST_MOS_DROP = 0.3
# What has one limit for everybody: a stage must be "valid", and of the faults of a package there may be none.
FIXED: dict[str, float | None] = {
    **dict.fromkeys(("valid", "compiled", "parsed", "ready_made"), 1.0),
    **{name: 0.0 for name, kind in METRICS.items() if kind.level == 0 and kind.direction == "max"},
    **dict.fromkeys(("kernels", "scratch_mb"), None),  # figures, not faults
    **dict.fromkeys(("runaways_short", "runaways_middle", "runaways_long"), None),
    "runaway_rise": 0.02,
    "mos_fall": MOST_MOS_DROP,
}
GATED = tuple(name for name in METRICS if name not in FIXED)  # what a target may set a limit for
# What compares waveforms as such. A GAN behind a normalising flow moves them by what nobody hears, so where the voice
# has a ruler they are limits for FP32 alone, and reported elsewhere.
WAVEFORM = ("max_error", "cosine_distance", "snr_db", "log_mel_l1", "mr_stft")
DECIDING = ("sound_share", "log_mel_l1", "snr_db")  # of these, what has a limit decides where integers end
OWN = ("f0_cents", "voicing_error")  # these may move by as much as they do from one seed to another
HEARD = ("vocoder", "pipeline")  # the stages that put out sound
SPOKEN = ("acoustic",)  # and what the vocoder speaks as it is
# What leads to sound has limits of its own. Noise on the latents is heard from 12 dB on (PESQ 4.4, two voices), so
# where the sound is judged itself they need do no more than name the stage that has gone wrong.
LATENT_SNR = {"int8": 20.0, "int16x8": 20.0, "int8-dynamic": 20.0, "int8-weights": 20.0, "int4-weights": 15.0}
# The noise of the stages before the vocoder adds to the vocoder's own, and both together have one limit: what chooses
# their layers leaves them a quarter of its power, so many dB below it. Without a ruler that is noise of the latent;
# with one, what is heard when the source's vocoder speaks it: an error of a few frames is nothing to a latent's
# signal-to-noise ratio, and is heard (PESQ 3.8 at 30 dB, where white noise of 26 dB leaves 4.6).
BEFORE_SOUND_DB = 6.0
_MOS = ("p808_drop", "ovr_drop")
# Stages of the graphs, and what verification adds: stored constants, codes to sound in a row, generation without
# teacher forcing.
GRAPHS = tuple(dict.fromkeys(name for version in VERSIONS for name in stages(version)))
_MADE_OF: dict[str, tuple[str, ...]] = {
    "baked": (),  # stored as the FP32 source computed them, whatever the target's precision
    "pipeline": ("acoustic", "features", "cfm", "vocoder"),
    "free_run": ("prefill", "step", "acoustic", "features", "cfm", "vocoder"),
}
STAGES = (*GRAPHS, *_MADE_OF)

_FP32 = {
    "mapped_share": 0.0,  # no accelerator is asked for; a target that has one says how much
    "max_error": 1e-4,
    "cache_error": 1e-4,
    "cosine_distance": 1e-6,
    "equal": 1.0,
    "top1": 1.0,
    "top15": 0.99,
    "kl": 1e-5,
    "sound_share": 0.01,
    "snr_db": 80.0,
    "log_mel_l1": 1e-3,
    "mr_stft": 0.01,
    "clipping_rise": 1e-4,
    "silence_change": 0.005,
    "rms_change_db": 0.01,
    "declared_precision": 1.0,
    "pesq_mean": 4.6,
    "pesq": 4.6,
    "f0_cents": 1.0,
    "voicing_error": 0.005,
    "token_prefix": 0.5,  # a near-tie late in the run may fall the other way; an early split is a defect
    "length_ratio": 2.0,
    "p808_drop": 0.05,
    "ovr_drop": 0.05,
    "wer_rise": 0.05,
    "cer_rise": 0.03,
    "pipeline.wer_rise": 0.01,
    "pipeline.cer_rise": 0.01,
    "duration_ratio": 1.05,
    "eos_drop": 0.05,
    "repeat_rise": 0.05,
    "speaker_drop": 0.02,
    "silence_rise": 0.05,
}
# Below FP32 a free run may part from the source's at any code, so its tokens are reported and not gated.
_FP16 = {
    "max_error": 0.05,
    "cache_error": 0.05,
    "cosine_distance": 1e-4,
    "equal": 0.95,
    "top1": 0.97,
    "top15": 0.99,
    "kl": 0.001,
    "sound_share": 0.35,
    "snr_db": 40.0,
    "log_mel_l1": 0.02,
    "mr_stft": 0.1,
    "clipping_rise": 0.001,
    "silence_change": 0.02,
    "rms_change_db": 0.3,
    "declared_precision": 0.5,
    "pesq_mean": 4.5,
    "pesq": 4.4,
    "f0_cents": 10.0,
    "voicing_error": 0.02,
    "length_ratio": 2.0,
    "p808_drop": 0.1,
    "ovr_drop": 0.1,
    "wer_rise": 0.1,
    "cer_rise": 0.06,
    "pipeline.wer_rise": 0.01,
    "pipeline.cer_rise": 0.01,
    "duration_ratio": 1.1,
    "eos_drop": 0.1,
    "repeat_rise": 0.05,
    "speaker_drop": 0.03,
    "silence_rise": 0.05,
}
_INT8 = {
    "max_error": 0.5,
    "cache_error": 0.5,
    "cosine_distance": 0.01,
    "equal": 0.9,
    "top1": 0.9,
    "top15": 0.97,
    "kl": 0.02,
    "sound_share": 0.5,
    "snr_db": 25.0,
    "log_mel_l1": 0.05,
    "mr_stft": 0.3,
    "clipping_rise": 0.001,
    "silence_change": 0.05,
    "rms_change_db": 0.5,
    "declared_precision": 0.1,  # the head, and what measurement left float, is stored otherwise; a tiny voice has 0.2
    "pesq_mean": 4.3,
    "pesq": 4.0,
    "f0_cents": 20.0,
    "voicing_error": 0.05,
    "length_ratio": 2.0,
    "p808_drop": 0.2,
    "ovr_drop": 0.2,
    "wer_rise": 0.15,
    "cer_rise": 0.1,
    "pipeline.wer_rise": 0.02,
    "pipeline.cer_rise": 0.015,
    "duration_ratio": 1.1,
    "eos_drop": 0.1,
    "repeat_rise": 0.05,
    "speaker_drop": 0.05,
    "silence_rise": 0.05,
}
_INT4 = {
    **_INT8,
    "max_error": 1.0,
    "cache_error": 1.0,
    "cosine_distance": 0.03,
    "equal": 0.8,
    "top1": 0.8,
    "top15": 0.9,
    "kl": 0.1,
    "snr_db": 15.0,
    "log_mel_l1": 0.1,
    "mr_stft": 0.6,
    "sound_share": 0.7,
    "silence_change": 0.1,
    "pesq_mean": 4.0,
    "pesq": 3.5,
    "p808_drop": 0.3,
    "ovr_drop": 0.3,
}
# By the precisions of a target's placement; "stage.metric" is for one stage and goes before "metric". On the source's
# own codes ("pipeline") words are paired so tightly that a rise of one in a hundred shows; a free run, whose luck with
# codes differs from seed to seed by some points, can only tell what is gross.
LIMITS: dict[str, dict[str, float]] = {
    "fp32": _FP32,
    "fp16": _FP16,
    "int8": _INT8,
    "int16x8": _INT8,
    "int8-dynamic": _INT8,
    "int8-weights": _INT8,
    "int4-weights": _INT4,
}


@dataclass(frozen=True)
class Gates:
    """Resolved limits by (stage, metric), and the voice's ruler that some of them are in units of."""

    values: Mapping[tuple[str, str], float]
    ruler: Ruler = field(default_factory=lambda: Ruler(0, reason="no ruler was measured"))

    def limit(self, stage: str, metric: str) -> float | None:
        """The limit of a metric in a stage; None where nothing is asked."""
        return FIXED[metric] if metric in FIXED else self.values.get((stage, metric))


def resolve(
    precision: str | Mapping[str, str] = "fp32", gates: Mapping[str, float] | None = None, ruler: Ruler | None = None
) -> Gates:
    """The default limits of a precision, with a target's gates on top.

    `precision` is one for all stages, or one for each stage (a stage left out is FP32); what several stages do together
    has the loosest of their limits. `gates` maps "metric" (every stage) or "stage.metric" (one, which wins) to a limit.
    Below FP32 sound is judged by the voice's own `ruler`; without one by absolute limits of waveform and spectrum.

    Raises:
        TargetError: unknown precision, stage or metric (with the nearest names), or a limit that is no finite number.
    """
    of_stage = {stage: precision if isinstance(precision, str) else precision.get(stage, "fp32") for stage in GRAPHS}
    problems = [
        f"no default limits for precision '{name}'{_nearest(name, LIMITS)}"
        for name in dict.fromkeys(of_stage.values())
        if name not in LIMITS
    ]
    for key, limit in (gates or {}).items():
        stage, _, metric = key.rpartition(".")
        if stage and stage not in STAGES:
            problems.append(f"gate '{key}': no stage '{stage}'{_nearest(stage, STAGES)}")
        if metric not in GATED:
            problems.append(f"gate '{key}': no metric '{metric}'{_nearest(metric, GATED)}")
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not math.isfinite(limit):
            problems.append(f"gate '{key}': the limit is {limit!r}, not a finite number")
        elif metric in _MOS and limit > MOST_MOS_DROP:
            problems.append(f"gate '{key}': {limit:g} is more than {MOST_MOS_DROP:g}, the most that a MOS may fall")
    if problems:
        raise TargetError(
            "the gates cannot be used", problems=problems, fix="correct the target; metrics: " + ", ".join(GATED)
        )
    values: dict[tuple[str, str], float] = {}
    for stage in STAGES:
        precisions = [of_stage[part] for part in _MADE_OF.get(stage, (stage,))]
        defaults = {metric: _default(stage, metric, precisions) for metric in GATED}
        if ruler is not None and ruler.unit is not None and any(one != "fp32" for one in precisions):
            if stage in HEARD:
                defaults |= dict.fromkeys(WAVEFORM)
                defaults |= {metric: max(defaults[metric] or 0.0, ruler.own(metric)) for metric in OWN}
            elif stage in GRAPHS and of_stage[stage] in LATENT_SNR:
                defaults["snr_db"] = LATENT_SNR[of_stage[stage]]
        values |= {(stage, metric): default for metric, default in defaults.items() if default is not None}
    chosen = sorted((gates or {}).items(), key=lambda item: "." in item[0])  # one stage's gate after everybody's
    for key, asked in chosen:
        place, _, metric = key.rpartition(".")
        values |= {(name, metric): float(asked) for name in ((place,) if place else STAGES)}
    return Gates(values, ruler) if ruler else Gates(values)


def judge(
    gates: Gates,
    stage: str,
    metric: str,
    against: str,
    value: float,
    n: int,
    *,
    baseline: float | None = None,
    reason: str = "",
    level: int | None = None,
    interval: tuple[float, float] | None = None,
) -> Check:
    """One check from a measured number: rounded, then compared with its limit. NaN and infinities fail.

    `level` replaces the metric's own level (a free run's audio is level 3). Of an estimate with an `interval`, the
    bound that is worse is compared.
    """
    kind, limit = METRICS[metric], gates.limit(stage, metric)
    finite = all(map(math.isfinite, (value, *(interval or ()))))
    number = rounded(value) if finite else None
    low, high = map(rounded, interval) if interval and finite else (None, None)
    bound = high if kind.direction == "max" else low
    status: Status
    if number is None:
        status, reason = "fail", reason or f"the value is {value}"
    elif limit is None:
        status = "info"
    else:
        status = "pass" if meets(number if bound is None else bound, limit, kind.direction) else "fail"
    return Check(
        level=kind.level if level is None else level,
        stage=stage,
        metric=metric,
        against=against,
        value=number,
        limit=limit,
        direction=kind.direction,
        n=n,
        status=status,
        baseline=rounded(baseline) if baseline is not None and math.isfinite(baseline) else None,
        reason=reason,
        low=low,
        high=high,
    )


def not_run(gates: Gates, stage: str, metric: str, against: str, reason: str, *, level: int | None = None) -> Check:
    """A check that could not be made, and why."""
    kind, limit = METRICS[metric], gates.limit(stage, metric)
    level = kind.level if level is None else level
    return Check(level, stage, metric, against, None, limit, kind.direction, 0, "not_run", None, reason)


def _default(stage: str, metric: str, precisions: Sequence[str]) -> float | None:
    """The loosest default among several precisions; None when one of them asks nothing."""
    tables = [LIMITS[name] for name in precisions or ("fp32",)]
    limits = [table.get(f"{stage}.{metric}", table.get(metric)) for table in tables]
    known = [limit for limit in limits if limit is not None]
    if len(known) < len(limits):
        return None
    return max(known) if METRICS[metric].direction == "max" else min(known)


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"; did you mean {', '.join(close)}?" if close else f"; known: {', '.join(known)}"


def share_of_gates(
    pairs: Sequence[tuple[Array, Array]], rate: int, limits: Mapping[str, float], unit: float | None
) -> float:
    """How much of its gates for sound a vocoder uses up, given audio outputs [1, N] with those expected first.

    1 is at the gate. The largest of the shares of `limits`: sound_share of all together, with the ruler's `unit` (None:
    no ruler); log_mel_l1 of the worst; for snr_db the worst ratio of noise amplitudes, 10^((limit - snr_db) / 20).
    """
    flat, shares = [(one[0], other[0]) for one, other in pairs], [0.0]
    if "sound_share" in limits and unit is not None:
        shares.append(distance(flat, rate) / unit / limits["sound_share"])
    if "log_mel_l1" in limits:
        shares += [log_mel_l1(one, other, rate) / limits["log_mel_l1"] for one, other in flat]
    if "snr_db" in limits:
        shares += [10 ** ((limits["snr_db"] - snr_db(one, other)) / 20) for one, other in flat]
    return float(max(shares))
