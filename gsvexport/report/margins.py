"""How near a check is to its limit, on one scale for all metrics: the share of the limit that it uses up.

0 is perfect, 1 is at the limit, more is beyond it. What is compared with the limit is the bound of an interval where a
check has one: it is the bound that a gate judges.
"""

from __future__ import annotations

from gsvexport.verify.report import Check, Report

MOST = 999.0  # stands for anything larger, and for a limit that leaves no room at all
_NOISE_DB = ("snr_db",)
_BEST = {"pesq": 4.644, "length_ratio": 1.0, "duration_ratio": 1.0}  # of metrics whose best is neither 0 nor 1


def used(check: Check, limit: float | None = None) -> float | None:
    """The share of its limit that a check uses up, with three digits; None without a value or a limit.

    The way from the best possible value to the value, beside the way to the limit L: (value - best) / (L - best). The
    best error is 0, the best share 1, the best ratio of two lengths 1, the best PESQ 4.644. A signal-to-noise ratio in
    dB has no best: 10^((L - value) / 20), the amplitudes of noise; any other score that must be at least L: L / value.

    `limit` replaces the check's own, to measure two checks alike.
    """
    limit = check.limit if limit is None else limit
    value = check.worst
    if value is None or limit is None:
        return None
    best = _BEST.get(check.metric, 0.0 if check.direction == "max" else 1.0)
    if check.metric in _NOISE_DB:
        part, room = 10.0 ** (min(limit - value, 60.0) / 20.0), 1.0
    elif check.direction == "max":
        part, room = value - best, limit - best
    elif limit <= best:
        part, room = best - value, best - limit
    else:
        part, room = limit, value
    if part <= 0.0:
        return 0.0
    return float(f"{min(part / room, MOST):.3g}") if room > 0.0 else MOST


def people_decide(report: Report) -> bool:
    """Whether enough people have heard the artifact to judge how far its MOS fell."""
    return any(check.metric == "mos_fall" and check.status in ("pass", "fail") for check in report.checks)


def mos_basis(report: Report) -> str:
    """Who judged that the MOS did not fall by too much, people or a model of them, in a sentence; empty where a report
    is silent on it."""
    people = next((check for check in report.checks if check.metric == "mos_fall"), None)
    model = next((check for check in report.checks if check.metric == "p808_drop"), None)
    if people is not None and people_decide(report):
        return f"The MOS is judged on human scores: {people.n} pairs of ratings."
    few = f"; people have heard it, but {people.reason}" if people is not None else ""
    if model is not None and model.value is not None:
        return f"The MOS is judged on objective scores (DNSMOS P.808), not on human ones{few}."
    return f"The MOS is not judged{few}." if people is not None or model is not None else ""
