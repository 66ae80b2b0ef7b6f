"""`make crosscheck-onnx2tf`: python -m gsvexport.crosscheck --python .venv-onnx2tf/bin/python [--source DIR]."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from gsvexport.crosscheck.onnx2tf import markdown, ours, subject, theirs
from gsvexport.errors import GsvError


def main() -> int:
    """Convert one vocoder in three ways and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", type=Path, required=True, help="the interpreter that onnx2tf is installed for")
    parser.add_argument("--source", type=Path, help="an exported source; default: that of the demo voice")
    parser.add_argument("--seconds", type=float, default=900, help="that one run of onnx2tf may take")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as name:
            work = Path(name)
            source = options.source or _demo(work / "source")
            _say("running the source")
            one = subject(source)
            results = [ours(one, work)]
            for prepared in (True, False):
                _say(f"onnx2tf, {'our 2-D graph' if prepared else 'the graph of the source'}")
                results.append(theirs(one, options.python.absolute(), work, prepared=prepared, seconds=options.seconds))
    except GsvError as error:
        sys.stderr.write(f"crosscheck: {error}\n")
        return error.exit_code
    sys.stdout.write(markdown(results))
    return 0


def _demo(folder: Path) -> Path:
    from gsvexport.compiler.inputs import export_source

    export_source(None, folder, progress=_say)
    return folder


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
