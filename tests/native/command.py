"""`gsvsay` as the tests call it."""

import os
import subprocess
from pathlib import Path

# Read by a build with AddressSanitizer alone: what `gsvsay` loses is an error, whatever Python does.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1"}


def run(native, *words, **how):
    line = [str(native.gsvsay), *map(str, words)]
    return subprocess.run(line, capture_output=True, timeout=120, check=False, env=ENVIRONMENT, **how)


def compiled(native, source, program):
    """A C program, in the strictest C11, linked to the library."""
    flags = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-std=c11"]
    include = Path(__file__).resolve().parents[2] / "native/include"
    link = [f"-L{native.build}", "-lgsv", f"-Wl,-rpath,{native.build}", f"-Wl,-rpath-link,{native.build}"]
    line = ["gcc", *flags, f"-I{include}", source, "-o", program, *link, "-Wl,--allow-shlib-undefined"]
    subprocess.run(line, check=True)
    return program


def text(done):
    return done.stderr.decode()
