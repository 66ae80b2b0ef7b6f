"""Vela misbehaving: `python vela_double.py HOW LOG ARGUMENT...`, with the arguments of `python -m ethosu.vela`.

It does what the real one does not do on demand: hang, crash, fail, write nothing, or, having asked the real one, leave
another file or an empty table.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(how, log, *arguments):
    Path(log).write_text("\n".join(arguments))
    if how == "hang":
        time.sleep(600)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        sys.stderr.write("Error: Invalid tflite file: it has no operators\n")
        return 1
    if how == "nothing":
        return 0
    code = subprocess.run([sys.executable, "-m", "ethosu.vela", *arguments], check=False).returncode
    out, model = Path(arguments[arguments.index("--output-dir") + 1]), Path(arguments[-1])
    if how == "other":  # what it was given, as if everything had stayed on the processor
        shutil.copyfile(model, out / f"{model.stem}_vela.tflite")
    if how == "silent":
        (out / f"{model.stem}_per-layer.csv").write_text("")
    return code


sys.exit(main(*sys.argv[1:]))
