"""The distinct builds behind all targets and tiers: what is lowered alike is one build.

python tests/distinct.py [VOICE] [-o DIR] [--build]     a table; with --build of what each build measured
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gsvexport.backends.onnxruntime.recipes import saturates
from gsvexport.compiler.inputs import open_voice
from gsvexport.compiler.plan import Subject, make_plan
from gsvexport.errors import GateFailed, GsvError, TargetError
from gsvexport.target.target import read_targets, target_names

TIERS = ("broadcast", "mobile", "saas", "t2s-int4")
SHOWN = ("sound_share", "pesq_mean", "pesq", "f0_cents", "voicing_error", "rms_change_db", "silence_change")


def distinct(subject: Subject) -> dict[str, list[str]]:
    """What makes each build → the targets, with tiers, that have it; the plainest name first."""
    found: dict[str, list[str]] = {}
    for name in [f"{one}{tier}" for tier in ("", *(f"+{tier}" for tier in TIERS)) for one in target_names()]:
        try:
            [target] = read_targets([name])
            plan = make_plan(target, subject)
        except TargetError:  # a tier that the device's backend has no form of
            continue
        parts = [
            [backend, step.params["stages"], step.params["gates"], _matters(backend, step.params["device"])]
            for backend, step in plan.lowerings.items()
        ]
        found.setdefault(json.dumps([parts, plan.step("verify").params["gates"]], sort_keys=True), []).append(name)
    return found


def _matters(backend: str, device: dict[str, Any]) -> Any:
    """What of a device changes the graphs: whether its 8-bit products saturate, lengths, and the memory of a TPU."""
    if backend == "onnxruntime":
        return saturates(device["features"])
    return device["limits"] if backend == "tensorrt" else (device.get("tpu") or {}).get("sram_mb")


def measured(voice: Path | None, names: Sequence[str], out: Path) -> str:
    """Build the first of `names` and tell in one row what came out."""
    from gsvexport.artifact import container
    from gsvexport.compiler.build import build

    name, same = names[0], ", ".join(names[1:]) or "-"
    try:
        [path] = build(voice, [name], out, force=True)
    except GateFailed as error:
        return f"| {name} | **refused** | | {'; '.join(error.problems)} | {same} |"
    except GsvError as error:
        return f"| {name} | **exit {error.exit_code}** | | {error.what} | {same} |"
    integers = [
        f"{stage}: {', '.join(group.name for group in entry.decisions.groups if group.precision != 'float') or 'none'}"
        for stage, entry in container.read_manifest(path).stages.items()
        if entry.decisions
    ]
    checks = json.loads((container.unpacked(path) / "report.json").read_text(encoding="utf-8"))["checks"]
    told = []
    for metric in SHOWN:
        rows = [one for one in checks if (one["stage"], one["metric"]) == ("pipeline", metric)]
        if rows := [one for one in rows if one["value"] is not None]:
            worst = (max if rows[0]["direction"] == "max" else min)(rows, key=lambda one: one["value"])
            told.append(f"{metric} {worst['value']:g} ({worst['limit']:g})")
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    return f"| {name} | {size} | {'; '.join(integers) or '-'} | {', '.join(told)} | {same} |"


def main(arguments: Sequence[str]) -> None:
    out = Path(arguments[arguments.index("-o") + 1]) if "-o" in arguments else Path("dist/distinct")
    voice = Path(arguments[0]) if arguments and not arguments[0].startswith("-") else None
    say("| build | size | on integers | worst of the whole pipeline (limit) | the same build |\n|---|---|---|---|---|")
    for names in distinct(open_voice(voice).subject).values():
        same = ", ".join(names[1:]) or "-"
        say(measured(voice, names, out) if "--build" in arguments else f"| {names[0]} | | | | {same} |")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
