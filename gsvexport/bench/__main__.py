"""`python -m gsvexport.bench` makes a full-size synthetic v2 voice, compiles it, and measures artifact and source.

How long compiling takes and how much memory it needs is measured, too: nothing comes from the user's cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from gsvexport.bench import bench
from gsvexport.bench.child import call
from gsvexport.errors import GsvError

_MADE = ("voice", "source", "cache", "dist")  # in the output folder; made anew each time


def main() -> None:
    """Parse the arguments, and leave with an error's own exit code."""
    parser = argparse.ArgumentParser(prog="python -m gsvexport.bench", description=__doc__)
    parser.add_argument("--target", default="x86-64-vnni")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("-o", "--out", type=Path, default=Path("dist/bench"), help="folder for what is made")
    chosen = parser.parse_args()
    try:
        print(_measured(chosen.out, chosen.target, chosen.size, chosen.threads, chosen.runs), end="")  # noqa: T201
    except GsvError as error:
        print(f"gsvexport: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)


def _measured(out: Path, target: str, size: str, threads: int, runs: int) -> str:
    from gsvexport.synthetic import write_voice

    for name in _MADE:
        shutil.rmtree(out / name, ignore_errors=True)
    os.environ["GSVEXPORT_CACHE"] = str(out / "cache")
    begin = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begin:7.1f} s  {text}", file=sys.stderr, flush=True)  # noqa: T201

    say(f"making a {size} synthetic voice")
    write_voice(out / "voice", "v2", size)
    lines = []
    source, dist = str(out / "source"), str(out / "dist")
    for title, name, arguments in (
        ("write the source", "source", {"voice": str(out / "voice"), "out": source}),
        (f"compile it for {target}", "build", {"voice": source, "target": target, "out": dist}),
    ):
        say(title)
        done = call(f"gsvexport.bench.compiling:{name}", threads=threads, **arguments)
        peak = "unknown" if done["peak_mb"] is None else f"{done['peak_mb']:.0f} MB"
        spent = f"{done['seconds']:.1f} s ({done['processor_seconds']:.1f} s of processors)"
        lines.append(f"{title}: {spent}, peak resident memory {peak}\n")
    found = bench(Path(done["path"]), Path(source), threads=threads, runs=runs, progress=say)
    return found.table() + "\n" + "".join(lines)


if __name__ == "__main__":
    main()
