"""`gsvsay` as the tests call it."""

import subprocess


def run(native, *words, **how):
    line = [str(native.gsvsay), *map(str, words)]
    return subprocess.run(line, capture_output=True, timeout=120, check=False, **how)


def text(done):
    return done.stderr.decode()
