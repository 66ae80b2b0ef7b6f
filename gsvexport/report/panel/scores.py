"""What a panel heard: who counts, means with intervals, and whether the MOS of an artifact fell by too much.

Raters are screened after the test as Recommendation ITU-R BS.1534-3 (10/2015) says (post-screening): who rates the
hidden reference below 90 in more than 15 % of the questions is left out of everything.

The gate has three answers: the fall is within the limit to its upper bound, or its mean is beyond, or the panel cannot
tell, and objective scores decide as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from gsvexport.report.panel.key import Key
from gsvexport.report.panel.results import Answers
from gsvexport.verify.gates import MOST_MOS_DROP, Gates, judge, not_run
from gsvexport.verify.paired import Estimate, crossed
from gsvexport.verify.report import Check

KIND, SCHEMA = "gsvexport-human-scores", 1
LEAST_REFERENCE, MOST_MISSED = 90, 0.15
ENOUGH_RATERS, ENOUGH_PAIRS = 12, 60  # who count, and their ratings of one artifact beside the reference
STAGE, METRIC, AGAINST = "free_run", "mos_fall", "hidden reference, by people"


@dataclass(frozen=True)
class Row:
    """What was heard of one condition; None where it was not asked. `found` is the share of ABX pairs told apart."""

    name: str
    role: str
    digest: str
    mos: Estimate | None = None
    fall: Estimate | None = None
    mushra: Estimate | None = None
    found: Estimate | None = None
    check: Check | None = None


@dataclass(frozen=True)
class Heard:
    """The outcome of a panel: rows by condition, raters that count, and why the others do not."""

    test: str
    raters: int
    dropped: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """No artifact's MOS fell by too much; that too few people heard it is no fall."""
        return not any(one.check and one.check.status == "fail" for one in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `canonical_json`."""
        return {"kind": KIND, "schema": SCHEMA, "passed": self.passed, **asdict(self)}


def score(key: Key, answers: Sequence[Answers]) -> Heard:
    """Screen the raters, and judge every artifact."""
    dropped = {one.rater: reason for one in answers if (reason := unreliable(key, one))}
    kept = [one for one in answers if one.rater not in dropped]
    rows = [_row(key, place, kept) for place in range(len(key.conditions))]
    told = tuple(f"rater {name}: {reason}" for name, reason in dropped.items())
    return Heard(key.test, len(kept), told, tuple(rows))


def unreliable(key: Key, one: Answers) -> str:
    """Why a rater does not count, or nothing."""
    if not key.mushra:
        return ""
    hidden = [score for scores in one.mushra for sound, score in scores.items() if key.role(sound) == "reference"]
    missed = sum(score < LEAST_REFERENCE for score in hidden)
    if missed <= MOST_MISSED * len(hidden):
        return ""
    return f"rated the hidden reference below {LEAST_REFERENCE} in {missed} of {len(hidden)} questions (BS.1534)"


def _row(key: Key, place: int, kept: Sequence[Answers]) -> Row:
    condition = key.conditions[place]

    def table(cell: Callable[[Answers, int], float | None]) -> Estimate | None:
        """One number for each rater and sentence."""
        rows = [[cell(one, sentence) for sentence in range(len(key.sentences))] for one in kept]
        filled = np.array([[np.nan if value is None else value for value in row] for row in rows], np.float64)
        return crossed(filled) if filled.size and not np.isnan(filled).all() else None

    def mos(one: Answers, sentence: int, of: int = place) -> float | None:
        return _mean([score for sound, score in one.mos.items() if _is(key, sound, of, sentence)])

    def fall(one: Answers, sentence: int) -> float | None:
        own, reference = mos(one, sentence), mos(one, sentence, 0)
        return None if own is None or reference is None else reference - own

    def mushra(one: Answers, sentence: int) -> float | None:
        return _mean([s for scores in one.mushra for sound, s in scores.items() if _is(key, sound, place, sentence)])

    def found(one: Answers, sentence: int) -> float | None:
        pairs = zip(key.abx, one.abx, strict=True)
        return _mean([float(right) for pair, right in pairs if any(_is(key, i, place, sentence) for i in pair)])

    row = Row(condition.name, condition.role, condition.digest, table(mos), None, table(mushra))
    if condition.role != "artifact":
        return row
    fallen = table(fall)
    check = _check(key, fallen, len(kept))
    return Row(row.name, row.role, row.digest, row.mos, fallen, row.mushra, table(found), check)


def _check(key: Key, fallen: Estimate | None, raters: int) -> Check:
    gates = Gates({})
    reason = ""
    if not key.mos:
        reason = "MOS was not asked"
    elif not key.mushra:
        reason = "raters cannot be screened without MUSHRA questions"
    elif fallen is None or raters < ENOUGH_RATERS or fallen.n < ENOUGH_PAIRS:
        pairs = fallen.n if fallen else 0
        reason = f"{raters} raters count and gave {pairs} pairs; {ENOUGH_RATERS} and {ENOUGH_PAIRS} are needed"
    elif fallen.value <= MOST_MOS_DROP < fallen.high:
        reason = f"the fall is {fallen.value:.2f}, but may be up to {fallen.high:.2f}: more raters have to say"
    if reason or fallen is None:
        return not_run(gates, STAGE, METRIC, AGAINST, reason)
    return judge(gates, STAGE, METRIC, AGAINST, fallen.value, fallen.n, interval=(fallen.low, fallen.high))


def _is(key: Key, sound: int, condition: int, sentence: int) -> bool:
    one = key.sounds[sound]
    return (one.condition, one.sentence) == (condition, sentence)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
