"""The page about one artifact: a single HTML file that needs no network, no script and no other file.

The first screen answers whether the artifact may be shipped, and on what that rests; what was measured is below it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gsvexport.report.charts import log_bars, margin_bar, megabytes, own_bar, size_bars
from gsvexport.report.document import document
from gsvexport.report.listen import Sound
from gsvexport.report.margins import mos_basis, used
from gsvexport.report.markup import Html, element, plain
from gsvexport.report.players import scales, sound_card
from gsvexport.report.stored import Stored, members, weights
from gsvexport.report.terminal import LEVELS, SIGNS, WORDS, failure, interval, not_run, number, percent, place, verdict
from gsvexport.verify.gates import HEARD, METRICS
from gsvexport.verify.report import Check, Report

_NEAREST = 3
_RULED = ("sound_share", "log_mel_l1", "mr_stft", "f0_cents", "voicing_error")  # what a ruler knows
VERDICTS = {"pass": "PASSED", "fail": "FAILED", "not_run": "NOT VERIFIED"}
_COLUMNS = ("Stage", "Metric", "Value", "Limit", "Used", "Baseline", "n", "Against", "Status")
_NUMERIC = {"Value", "Limit", "Baseline", "n"}


@dataclass(frozen=True)
class Here:
    """What running the artifact on this machine gave: checks against its golden vectors, and sounds.

    `elsewhere` says what this machine is where it is not what the artifact was made for; `problem` why nothing ran.
    """

    report: Report = field(default_factory=lambda: Report(()))
    sounds: tuple[Sound, ...] = ()
    elsewhere: str | None = None
    problem: str = ""


def page(stored: Stored, here: Here) -> str:
    """The whole file. Equal artifacts give equal bytes but for what was measured here."""
    manifest = stored.manifest
    report = stored.report or Report(())
    title = f"{manifest.name} for {manifest.target['name']}"
    body = [
        element("header", element("h1", title), element("p", _subtitle(stored), class_="soft")),
        _verdict(stored, report, here),
        _levels(report),
        _facts(stored),
        _nearest(report),
        _own(report),
        _open_questions(report),
        _sounds(here),
        _errors(report),
        _decisions(stored),
        _sizes(stored),
        _all_checks("Every check, as it was when the artifact was built", report),
        _here(here),
        _glossary(report, here),
        _details(stored),
    ]
    return document(f"{VERDICTS[overall(stored, here)]}: {title}", body)


def overall(stored: Stored, here: Here) -> str:
    """The worst of what was stored and what was found here; an artifact without a report was not verified."""
    if here.report.failures:
        return "fail"
    return verdict(stored.report) if stored.report else "not_run"


def _subtitle(stored: Stored) -> str:
    target = stored.manifest.target
    device = target.get("device") if isinstance(target.get("device"), dict) else {}
    machine = [str(device[key]) for key in ("arch", "core") if device and device.get(key)]
    return " · ".join([str(target.get("title", "")), *machine, megabytes(stored.size)])


def _verdict(stored: Stored, report: Report, here: Here) -> Html:
    tone = overall(stored, here)
    lines = []
    if stored.report is None:
        lines.append("The artifact holds no report: nobody knows what it computes.")
    else:
        count = Counter(check.status for check in report.checks)
        lines.append(
            f"When it was built: {count['pass']} checks passed, {count['fail']} failed, {count['not_run']} did not "
            f"run, {count['info']} measured without a limit."
        )
        lines += [f"{c.stage} · {c.metric} against {c.against}: {failure(c)}" for c in report.failures]
        lines += [one for one in (mos_basis(report), place(report)) if one]
        bare = [f"L{level} {name}" for level, name in LEVELS.items() if level not in {c.level for c in report.checks}]
        lines += [f"Nothing was checked of {', '.join(bare)}."] if bare else []
    if here.report.failures:
        lines.append("On this machine it misses limits:")
        lines += [f"{check.stage} · {check.metric}: {failure(check)}" for check in here.report.failures]
    elif here.problem:
        lines.append(f"It was not run for this page: {here.problem}")
    elif here.report.checks:
        what = f", which is {here.elsewhere} and not what it was made for" if here.elsewhere else ""
        lines.append(f"Run again for this page on this machine{what}: all of its golden vectors are met.")
    return element(
        "section", element("strong", VERDICTS[tone]), [element("p", line) for line in lines], class_=f"verdict {tone}"
    )


def _levels(report: Report) -> Html:
    """One card for each level of proof, those without any check included."""
    cards = []
    for level in sorted({*LEVELS, *(check.level for check in report.checks)}):
        count = Counter(check.status for check in report.checks if check.level == level)
        tone = "fail" if count["fail"] else "pass" if count["pass"] and not count["not_run"] else "not_run"
        told = ", ".join(
            f"{count[status]} {WORDS[status]}" for status in ("fail", "not_run", "pass", "info") if count[status]
        )
        cards.append(
            element(
                "div",
                element("b", f"L{level} {LEVELS.get(level, '')}"),
                element("span", told or "nothing was checked", class_=f"{tone}-text"),
                class_="card",
            )
        )
    return element("div", cards, class_="grid levels")


def _facts(stored: Stored) -> Html:
    manifest = stored.manifest
    facts = {
        "Voice": f"{stored.voice}, {'baked' if manifest.baked_key else 'not baked'}",
        "Target": stored.target,
        "Precision": ", ".join(f"{stage} {entry.precision}" for stage, entry in manifest.stages.items()),
        "Digest": manifest.digest,
    }
    return element(
        "div",
        [
            element("div", element("b", name), element("code" if name == "Digest" else "span", text), class_="card")
            for name, text in facts.items()
        ],
        class_="grid",
    )


def _nearest(report: Report) -> Html:
    """The checks that use up most of their limits."""
    shares = [(share, check) for check in report.checks if (share := used(check)) is not None]
    shares.sort(key=lambda item: -item[0])
    rows = [
        element(
            "li",
            margin_bar(share),
            f"{percent(share)} · {check.stage} {check.metric} = {interval(check)}, "
            f"limit {SIGNS[check.direction]} {number(check.limit)}, against {check.against}",
        )
        for share, check in shares[:_NEAREST]
    ]
    return element("section", element("h2", "Most of a limit used"), element("ul", rows)) if rows else Html("")


def _own(report: Report) -> Html:
    """How far the sound is from the source's, beside how far another noise seed takes the source from itself."""
    stage = next((name for name in HEARD[::-1] if any(_ruled(check, name) for check in report.checks)), None)
    if stage is None:
        return Html("")
    rows = [
        element(
            "li",
            own_bar(check.value or 0.0, check.limit, check.baseline or 0.0),
            f"{check.metric} = {interval(check)}"
            + (f", limit {number(check.limit)}" if check.limit is not None else ", no limit")
            + f", another seed {number(check.baseline)}; against {check.against}",
        )
        for check in report.checks
        if _ruled(check, stage)
    ]
    about = (
        "The source draws noise for every sentence, and two seeds of it are the same speech. The bar is this artifact, "
        "the line its limit, the dotted line another seed of the source."
    )
    title = element("h2", "Beside the voice's own variation")
    return element("section", title, element("p", about, class_="about"), element("ul", rows))


def _ruled(check: Check, stage: str) -> bool:
    known = check.metric in _RULED and check.value is not None and check.baseline is not None
    return known and check.stage == stage


def _open_questions(report: Report) -> Html:
    """What did not run and why."""
    idle = not_run(report)
    if not idle:
        return Html("")
    rows = [
        element("li", element("b", f"{len(names)} because {reason}: ", class_="not_run-text"), ", ".join(names))
        for reason, names in idle.items()
    ]
    return element("section", element("h2", "Not run, so not proven"), element("ul", rows))


def _sounds(here: Here) -> Html:
    if here.problem:
        return element("section", element("h2", "Sound"), element("p", here.problem, class_="problem"))
    if not here.sounds:
        return Html("")
    where = f" It is {here.elsewhere}, not what the artifact was made for." if here.elsewhere else ""
    return element(
        "section",
        element("h2", "Sound"),
        element("p", f"Computed on the machine that made this page.{where}", class_="about"),
        scales(),
        [sound_card(sound) for sound in here.sounds],
    )


def _errors(report: Report) -> Html:
    """The largest error of each stage, whatever it was compared with."""
    worst: dict[str, Check] = {}
    for check in report.checks:
        if check.metric == "max_error" and check.value is not None:
            known = worst.get(check.stage)
            if known is None or check.value > (known.value or 0.0):
                worst[check.stage] = check
    if not worst:
        return Html("")
    rows = [
        (stage, check.value or 0.0, check.limit, check.status, number(check.value)) for stage, check in worst.items()
    ]
    return element(
        "section",
        element("h2", "Error of each stage"),
        element("p", f"{METRICS['max_error'].meaning}; the red line is the limit. Logarithmic.", class_="about"),
        log_bars(rows, title="Error of each stage"),
    )


def _decisions(stored: Stored) -> Html:
    """What quantising each group of layers costs, and what was returned to float for it."""
    parts: list[Html] = []
    for stage, entry in stored.manifest.stages.items():
        decided = entry.decisions
        if decided is None:
            continue
        total = sum(group.cost for group in decided.groups) or 1
        rows = [
            (
                f"{plain(group.name)} ({group.layers})",
                group.alone,
                1.0,
                "float" if group.precision == "float" else "kind-int8",
                f"{number(group.alone)} → {plain(group.precision)}",
            )
            for group in decided.groups
        ]
        back = [group for group in decided.groups if group.precision == "float"]
        told = (
            f"Returned to float: {', '.join(group.name for group in back)}, "
            f"{sum(group.cost for group in back) / total:.0%} of the multiplications. "
            if back
            else "Nothing had to be returned to float. "
        )
        parts += [
            element("h3", f"{stage}: share of the sound gates used when one group alone is quantised"),
            log_bars(rows, title=f"Sensitivity of {stage}"),
            element(
                "p",
                f"{told}All together use {percent(decided.reached)} of the gates; {percent(decided.allowed)} were "
                "allowed. In brackets: layers. The red line is the gate. Logarithmic.",
                class_="about",
            ),
        ]
    if not parts:
        parts = [
            element("p", "No precision of this artifact was decided by measuring groups of layers.", class_="about")
        ]
    return element("section", element("h2", "Sensitivity"), parts)


def _sizes(stored: Stored) -> Html:
    rows = weights(stored.manifest)
    kinds = members(stored.manifest)
    whole = sum(kinds.values()) or 1
    told = ", ".join(f"{kind} {megabytes(size)} ({size / whole:.0%})" for kind, size in kinds.items())
    chart = (
        size_bars(rows, title="Weights by stage and kind")
        if rows
        else element("p", "What its weights are stored as was not recorded when it was built.", class_="about")
    )
    return element(
        "section",
        element("h2", "Size"),
        element(
            "p", f"{megabytes(stored.size)} in all: {told}. Weights that stages share are stored once.", class_="about"
        ),
        chart,
    )


def _all_checks(title: str, report: Report) -> Html:
    levels = sorted({check.level for check in report.checks})
    tables = [
        [
            element("h3", f"L{level} {LEVELS.get(level, '')}"),
            _table([check for check in report.checks if check.level == level]),
        ]
        for level in levels
    ]
    if not tables:
        return element("section", element("h2", title), element("p", "There are none.", class_="problem"))
    return element("section", element("h2", title), tables)


def _table(checks: Sequence[Check]) -> Html:
    head = [element("th", name, class_="number" if name in _NUMERIC else None) for name in _COLUMNS]
    ordered = sorted(checks, key=lambda check: check.status != "fail")
    return element(
        "table",
        element("thead", element("tr", head)),
        element("tbody", [_check_row(check) for check in ordered]),
        class_="checks",
    )


def _check_row(check: Check) -> Html:
    share = used(check)
    told = f"{SIGNS[check.direction]} {number(check.limit)}" if check.limit is not None else "-"
    reason = element("span", check.reason, class_="reason") if check.reason else None
    cells = {
        "Stage": check.stage,
        "Metric": check.metric,
        "Value": interval(check),
        "Limit": told,
        "Used": [margin_bar(share), percent(share)],
        "Baseline": number(check.baseline),
        "n": str(check.n),
        "Against": check.against,
        "Status": [element("span", WORDS[check.status], class_=f"{check.status}-text"), reason],
    }

    def kind(name: str) -> str | None:
        words = ["number"] if name in _NUMERIC else []
        words += ["wide"] if name == "Status" and check.reason else []
        words += ["empty"] if cells[name] == "-" or (name == "Used" and share is None) else []
        return " ".join(words) or None

    row = [element("td", cells[name], class_=kind(name), data_label=name) for name in _COLUMNS]
    return element("tr", row, class_=check.status)


def _here(here: Here) -> Html:
    if not here.report.checks:
        return Html("")
    machine = "; ".join(f"{name} {text}" for name, text in here.report.environment.items())
    return element(
        "div",
        _all_checks("Measured for this page, on this machine", here.report),
        element("p", machine, class_="about"),
    )


def _glossary(report: Report, here: Here) -> Html:
    known = {check.metric for check in (*report.checks, *here.report.checks)}
    rows = [(name, METRICS[name].meaning) for name in METRICS if name in known]
    terms = [[element("dt", name), element("dd", meaning)] for name, meaning in rows]
    rule = (
        "The share of its limit that a check uses up: the way from the best value to this one, beside the way to the "
        "limit (for signal to noise, of amplitudes). Where there is an interval, its worse bound counts."
    )
    return element(
        "section",
        element("h2", "What the numbers mean"),
        element("dl", element("dt", "Used"), element("dd", rule), terms),
    )


def _details(stored: Stored) -> Html:
    manifest = stored.manifest
    terms = [("source", manifest.source), ("voice's key", manifest.baked_key or "none")]
    terms += sorted(manifest.tools.items())
    stages = [(name, f"{entry.backend}: {'; '.join(entry.notes)}") for name, entry in manifest.stages.items()]
    return element(
        "section",
        element("h2", "How it was made"),
        element("dl", [[element("dt", name), element("dd", text)] for name, text in (*stages, *terms)]),
    )
