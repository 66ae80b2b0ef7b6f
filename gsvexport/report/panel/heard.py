"""Human scores beside a report: where enough people have heard an artifact, they judge its MOS, and models do not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gsvexport.errors import ArtifactError
from gsvexport.report.panel.key import DIGEST, MOST_ARTIFACTS
from gsvexport.report.panel.scores import AGAINST, KIND, METRIC, SCHEMA, STAGE
from gsvexport.untrusted import reading, schema
from gsvexport.verify.gates import MOST_MOS_DROP
from gsvexport.verify.report import Check, Report

LARGEST = 4 << 20  # bytes
_NUMBER = schema.number(-100, 100)
_ESTIMATE = schema.optional(
    schema.record({"value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "n": schema.whole(0, 1 << 20)})
)
_SHAPE = schema.record(
    {
        "kind": schema.one_of(KIND),
        "schema": schema.one_of(SCHEMA),
        "passed": schema.flag,
        "test": DIGEST,
        "raters": schema.whole(0, 1 << 20),
        "dropped": schema.rows(schema.text(400), 10_000),
        "rows": schema.rows(
            schema.record(
                {
                    "name": schema.text(200),
                    "role": schema.text(20),
                    "digest": schema.text(64, re.compile("[0-9a-f]{64}|")),
                    **dict.fromkeys(("mos", "fall", "mushra", "found"), _ESTIMATE),
                    "check": schema.optional(schema.table(schema.anything, 20)),
                }
            ),
            MOST_ARTIFACTS + 8,
        ),
    }
)


def read_scores(path: Path) -> dict[str, Check]:
    """The human check of each artifact by its manifest's digest.

    Raises:
        ArtifactError: no scores, or a check that contradicts itself or is none of a MOS.
    """
    try:
        value: Any = reading.read_json(path, limit=LARGEST)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} {reading.why(error)}", fix="write it: gsvexport listen --results … -o") from error
    if problems := schema.findings(value, _SHAPE):
        raise ArtifactError(f"{path} holds no scores of a panel", problems=problems)
    found: dict[str, Check] = {}
    for row in value["rows"]:
        if not (row["check"] and row["digest"]):
            continue
        try:
            check = Check(**row["check"])
        except (TypeError, ArtifactError) as error:
            raise ArtifactError(f"{path} is damaged", problems=[f"{row['name']}: {error}"]) from error
        if (check.stage, check.metric, check.against) != (STAGE, METRIC, AGAINST) or check.limit != MOST_MOS_DROP:
            raise ArtifactError(f"{path} is damaged", problems=[f"{row['name']}: its check is not of a MOS"])
        found[row["digest"]] = check
    return found


def judged(report: Report, digest: str, heard: Path | None) -> Report:
    """A report with what people said of the artifact with this digest.

    Where they decide (the check passes or fails), the objective MOS stay as figures, without a limit.

    Raises: as `read_scores`, and
        ArtifactError: these people have not heard this artifact.
    """
    if heard is None:
        return report
    checks = read_scores(heard)
    if digest not in checks:
        fix = "name the scores of a test that this very artifact was in"
        raise ArtifactError(f"the panel of {heard} has not heard this artifact", found=f"digest {digest}", fix=fix)
    said = checks[digest]
    others = report.checks if said.status == "not_run" else tuple(map(_figure, report.checks))
    return replace(report, checks=(*others, said))


def without_objective(reports: Sequence[Report]) -> list[Report]:
    """Reports in which no model of people judges a MOS, to be compared where people did."""
    return [replace(one, checks=tuple(c for c in one.checks if c.metric not in OBJECTIVE)) for one in reports]


OBJECTIVE = ("p808_drop", "ovr_drop")


def _figure(check: Check) -> Check:
    if check.metric not in OBJECTIVE or check.value is None:
        return check
    return replace(check, limit=None, status="info", reason="people judged the MOS")
