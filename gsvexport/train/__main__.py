"""Train a demo voice: `python -m gsvexport.train --work FOLDER`. Every part continues where it was stopped.

`--voice real` (the default) learns the GPT of the voice that the package of the extra "demo-voice" holds the rest of;
`--voice small` that of the one that travels in the wheel. Both go on from what was shipped. With `--from-nothing` they
begin anew, the small one with all of its networks. Parts that need each other come in order; `--only` runs one
of them, so that the small voice's "vocoder", "encoder" and "gpt" can be trained at the same time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path

from gsvexport.errors import EnvironmentProblem, GsvError
from gsvexport.train import real, small
from gsvexport.train.job import Job

VOICES = {"real": real, "small": small}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gsvexport.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for corpus, checkpoints and voice")
    parser.add_argument("--voice", choices=VOICES, default="real", help="which voice")
    parser.add_argument("--from-nothing", action="store_true", help="do not go on from what was shipped")
    parser.add_argument("--only", help="run one part; all those before it have to be done")
    parser.add_argument("--device", default="cpu", help="torch device, such as cpu or cuda")
    parser.add_argument("--steps-scale", type=float, default=1.0, help="share of the full number of steps")
    parser.add_argument("--texts", type=int, help=f"texts to train on ({real.TEXTS}, small: {small.TEXTS})")
    parser.add_argument("--acoustic", type=int, default=small.ACOUSTIC, help="small: those of them with audio")
    parser.add_argument("--quick", action="store_true", help="a smoke run: 250 texts, a thousandth of the steps")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that make the corpus")
    parser.add_argument("--out", type=Path, help="the archive (default: VOICE-voice.tar.xz in the work folder)")
    given = parser.parse_args()
    recipe = VOICES[given.voice]
    parts = recipe.FROM_NOTHING if given.from_nothing else recipe.ON
    if given.only not in (None, *parts):
        parser.error(f"--only {given.only}: the {given.voice} voice has {', '.join(parts)}")
    texts, scale = (250, 0.001) if given.quick else (given.texts or recipe.TEXTS, given.steps_scale)
    out = given.out or given.work / f"{given.voice}-voice.tar.xz"
    job = Job(given.work, given.device, scale, texts, given.acoustic, given.workers, out, _say, given.from_nothing)
    try:
        _require_packages(recipe.PACKAGES)
        for part in [given.only] if given.only else parts:
            parts[part](job)
    except GsvError as error:
        print(f"gsvexport.train: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _say(line: str) -> None:
    print(time.strftime("%H:%M:%S"), line, flush=True)  # noqa: T201


def _require_packages(needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"training needs {', '.join(missing)}",
            found="not installed",
            fix="pip install 'gsvexport[train,demo-voice]'",
        )


if __name__ == "__main__":
    sys.exit(main())
