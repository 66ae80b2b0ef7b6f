"""A student's artifact beside its teacher's source: what both say of equal codes, and what listeners hear of both.

A student is not meant to be the teacher to the last digit, so levels 1 and 2 are measured and have no limit. What
people would hear has the same limits as beside the artifact's own source (level 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gsvexport.errors import InputError
from gsvexport.progress import Progress, within
from gsvexport.verify import checks, freerun, golden
from gsvexport.verify.cases import Case, Size
from gsvexport.verify.depth import Depth
from gsvexport.verify.gates import Gates, not_run
from gsvexport.verify.heldout import sentences, short_texts
from gsvexport.verify.report import Check

if TYPE_CHECKING:
    from gsvexport.runtime.pipeline import LoadedVoice

AGAINST = "teacher"
_STAGES = (golden.TEACHER, "acoustic", "vocoder")


def unknown(gates: Gates, reason: str) -> list[Check]:
    """The row that says why a student was not compared with its teacher."""
    return [not_run(gates, "pipeline", "valid", AGAINST, reason)]


def compare(
    voice: LoadedVoice, teacher: LoadedVoice, gates: Gates, sizes: tuple[Size, ...], depth: Depth, say: Progress
) -> list[Check]:
    """Every check of a student beside its teacher, whose codes of `sizes` both speak; level 3 where `depth` asks.

    Raises:
        InputError: two versions, or two languages.
    """
    ours, theirs = voice.model, teacher.model
    if (ours.version, ours.language, ours.rate) != (theirs.version, theirs.language, theirs.rate):
        raise InputError(
            f"{theirs.name} ({theirs.version}, {theirs.language}) cannot be the teacher of {ours.name} "
            f"({ours.version}, {ours.language})"
        )
    say("running the teacher")
    made = golden.cases(teacher, sizes, baked_prompt=True)
    cases = [_comparable(case) for case in made if case.stage in _STAGES]
    found = checks.compare(voice, cases, replace(gates, values={}), AGAINST, say)
    if depth.deep:
        texts = sentences(ours, depth.sentences)
        heard = freerun.compare(
            voice, teacher, texts, depth.seeds, gates, within(AGAINST, say), depth.recogniser, short_texts(ours)
        )
        found += [replace(one, against=one.against.replace(freerun.SOURCE, AGAINST)) for one in heard]
    return found


def _comparable(case: Case) -> Case:
    """Without the cache, which has other layers and another width."""
    if case.stage != golden.TEACHER:
        return case
    return replace(case, outputs={"logits": case.outputs["logits"]})


def refuse_another(student: Mapping[str, Any], teacher: Mapping[str, Any], where: str) -> None:
    """Raise where a voice is not the teacher that its student names; both are the `provenance` of their sources.

    Raises:
        InputError: other weights.
    """
    told = student.get("slim") or {}
    wrong = [
        f"{name}: {teacher[name]['sha256'][:16]}, but the student learned from {told[f'teacher_{name}'][:16]}"
        for name in ("gpt", "sovits")
        if told and teacher[name]["sha256"] != told[f"teacher_{name}"]
    ]
    if wrong:
        raise InputError(f"{where} is not this student's teacher", problems=wrong, fix="give the voice it was made of")
