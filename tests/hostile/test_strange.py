"""Over the corpus of strange artifacts no command ends with 70, hangs, or prints what steers a terminal."""

import collections
import json
import os
import resource
import shutil

import pytest
from strange import BYTES, artifacts, edits, sources

from gsvexport import cli
from gsvexport.artifact.manifest import MANIFEST, Manifest
from gsvexport.errors import GsvError
from gsvexport.files import canonical_json
from gsvexport.model import read_model
from gsvexport.untrusted import reading
from gsvexport.verify.report import Report

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


def canonical(data):
    """As a build writes it, where it can be: what is in another form is refused for that alone."""
    try:
        return canonical_json(json.loads(data)).encode()
    except (ValueError, RecursionError):
        return data


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (MANIFEST, lambda folder: Manifest.from_bytes((folder / MANIFEST).read_bytes(), MANIFEST).to_json()),
        ("model.json", read_model),
        ("report.json", lambda folder: Report.from_json(reading.read_json(folder / "report.json")).to_json()),
    ],
)
def test_every_single_change_is_read_or_refused(subject, tmp_path, name, read):
    value, refused, wrong = json.loads((subject.files / name).read_text()), 0, []
    if name == MANIFEST:
        kept = {entry["file"] for entry in value["stages"].values()}
        value["members"] = {file: entry for file, entry in value["members"].items() if file in kept}
        assert value["weights"]
    for what, data in edits(json.dumps(value).encode(), 1):
        (tmp_path / name).write_bytes(canonical(data))
        try:
            read(tmp_path)
        except (GsvError, reading.Refused):
            refused += 1
        except Exception as error:
            wrong.append((what, repr(error)[:200]))
    assert not wrong, wrong[:10]
    assert refused > 200


def test_no_run_took_much_memory():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # kB


def test_the_corpus_is_what_it_says(subject):
    for stride, least in ((1, 500), (7, 80)):
        changes = [what for what, _ in edits((subject.files / "model.json").read_bytes(), stride)]
        assert len({*changes}) == len(changes) > least
        assert {*BYTES} <= {*changes}
