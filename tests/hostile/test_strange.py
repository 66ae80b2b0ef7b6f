"""Over the corpus of strange artifacts no command ends with 70, hangs, or prints what steers a terminal."""

import collections
import os
import resource
import shutil

from strange import BYTES, artifacts, edits, sources

from gsvexport import cli

# 1 in so many of all changes; `make fuzz` makes 1 in 3 and gives each to every command.
STRIDE = int(os.environ.get("GSVEXPORT_FUZZ_STRIDE", "307"))
DEFECT = 70


def commands(path, out, subject):
    yield ["inspect", str(path)]
    yield ["say", str(path), "--phones", "AH0 B IH0", "--max-tokens", "3", "-o", str(out / "o.wav"), "--force"]
    yield ["compare", str(path), str(subject.artifact)]
    yield ["unpack", str(path), "-o", str(out / "o"), "--force"]
    yield ["publish", str(path), str(out / "repository")]
    yield ["verify", str(path), "-q"]


def run(arguments, capsys, wrong, title):
    code = cli.run(arguments)
    shown = capsys.readouterr()
    text = (shown.out + shown.err).replace("\n", "")
    if code == DEFECT or not text.isprintable():
        wrong.append((title, arguments[0], code, shown.err[-500:]))
    return code


def test_strange_artifacts(subject, tmp_path, capsys, record_property):
    wrong, codes = [], collections.Counter()
    for number, (title, path) in enumerate(artifacts(subject, tmp_path, STRIDE)):
        every = list(commands(path, tmp_path, subject))
        # Verification takes seconds where the change does no harm, and packing half of one: each artifact gets one of
        # the commands, and each command each kind of change in one of the files.
        for arguments in every if STRIDE < 10 else [every[5] if number % 16 == 0 else every[number % 5]]:
            codes[run(arguments, capsys, wrong, title)] += 1
    shutil.rmtree(tmp_path)
    record_property("runs", f"strange artifacts: {sum(codes.values())} runs, exit codes {dict(codes)}")
    assert not wrong, wrong[:10]
    assert codes[6] > 10


def test_strange_sources(subject, tmp_path, capsys, record_property):
    wrong, codes = [], collections.Counter()
    for number, (title, path) in enumerate(sources(subject, tmp_path, STRIDE)):
        out = str(tmp_path / "o")
        every = (
            ["plan", "--target", "x86-64", "--explain", str(path)],
            ["bake", str(path), "--reference", str(subject.voice / "reference.wav"), "-o", out],
            ["say", str(path), "--phones", "AH0 B", "--max-tokens", "2", "-o", str(tmp_path / "o.wav"), "--force"],
        )
        for arguments in every if STRIDE < 10 else [every[number % 3]]:
            codes[run(arguments, capsys, wrong, title)] += 1
            shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(tmp_path)
    record_property("runs", f"strange sources: {sum(codes.values())} runs, exit codes {dict(codes)}")
    assert not wrong, wrong[:10]


def test_no_run_took_much_memory():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # kB


def test_the_corpus_is_what_it_says(subject):
    for stride, least in ((1, 500), (7, 80)):
        changes = [what for what, _ in edits((subject.files / "model.json").read_bytes(), stride)]
        assert len({*changes}) == len(changes) > least
        assert {*BYTES} <= {*changes}
