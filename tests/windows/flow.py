"""Every command that a voice goes through, one after the other in this process: `python flow.py VOICE WORK`."""

import shutil
import sys
from pathlib import Path

from gsvexport.cli import run
from gsvexport.cli.echo import readable


def main(voice, work):
    readable()
    out, repository = work / "out", work / "repository"
    (artifact,) = [out / "synthetic-x86-64.gsv"]
    build = ["build", voice, "--target", "x86-64", "-o", out]
    files = [
        voice / "gpt.ckpt",
        voice / "sovits.pth",
        "--reference",
        voice / "reference.wav",
        "--text",
        "Good morning.",
    ]
    commands = [
        ["init", *files, "--copy", "-o", work / "made"],  # without upstream's networks, so it is told what is missing
        ["doctor"],
        build,
        [*build, "--force"],
        ["inspect", artifact],
        ["verify", artifact],
        ["say", artifact, "-o", work / "a.wav", "--phones", "3 4 5 6", "--max-tokens", "8"],
        ["say", artifact, "-o", work / "a.wav", "--phones", "3 4 5 6", "--max-tokens", "8", "--force"],
        ["key", "new", "maker"],
        ["copy", artifact, work / "unsigned.gsv"],
        ["sign", artifact, "--key", "maker"],
        ["publish", artifact, repository],
        ["sign", artifact, "--key", "maker"],
        ["publish", artifact, repository],
        ["pull", repository, "synthetic", "--target", "x86-64", "-o", work / "pulled.gsv"],
        ["say", work / "pulled.gsv", "-o", work / "b.wav", "--phones", "3 4 5 6", "--max-tokens", "8"],
        ["unpack", artifact, "-o", work / "files"],
        ["unpack", artifact, "-o", work / "files", "--force"],
        ["cache"],
    ]
    for command in commands:
        sys.stdout.flush()
        if command[0] == "copy":  # as it was built, without a signature
            shutil.copyfile(*command[1:])
            continue
        code = run([str(word) for word in command])
        sys.stdout.write(f"[{code}] {' '.join(map(str, command))}\n")
        if code not in ((0, 3) if command[0] == "init" else (0,)):
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*map(Path, sys.argv[1:])))
