"""A release of tiny voices: whole, incremental, refused by a gate, interrupted."""

from __future__ import annotations

import hashlib
import json
import re
import signal

import pytest
from building import gsvexport, left, start

from gsvexport.files import TEMPORARY_PREFIX
from gsvexport.release.overview import overview
from gsvexport.synthetic import write_voice

RELEASE = ("release", "--compress", "fast")
FILES = [".release.lock", "SHA256SUMS", "alice-x86-64.gsv", "bob-x86-64.gsv", "overview.html", "release.json"]


def renamed(folder, name):
    toml = folder / "voice.toml"
    toml.write_text(re.sub('name = ".*"', f'name = "{name}"', toml.read_text(), count=1))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    for seed, name in enumerate(("alice", "bob")):
        renamed(write_voice(folder / name, seed=seed), name)
    return folder


@pytest.fixture(scope="module")
def released(base):
    done = gsvexport(base / "cache", *RELEASE, base / "alice", base / "bob", "-t", "x86-64", "-o", base / "out")
    assert done.returncode == 0, done.stderr
    return base / "out", done


def test_a_release_holds_every_artifact_with_its_sum(released):
    out, done = released
    assert left(out) == FILES
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert "alice for x86-64: done after" in done.stderr
    assert "alice-x86-64.gsv" in done.stdout


def test_the_index_says_what_each_is_and_how_its_verification_went(released):
    rows = json.loads((released[0] / "release.json").read_text())["artifacts"]
    assert [(row["voice"], row["target"], row["verdict"]) for row in rows] == [
        ("alice", "x86-64", "pass"),
        ("bob", "x86-64", "pass"),
    ]
    assert rows[0]["checks"]["pass"] > 10
    assert 0 <= rows[0]["nearest"][1] <= 1
    assert rows[0]["precisions"]["vocoder"] == "onnxruntime fp32"
    assert rows[0]["digest"] != rows[1]["digest"]


def test_the_overview_has_a_row_for_each(released):
    page = (released[0] / "overview.html").read_text()
    assert "PASSED: 2 of 2 artifacts passed" in page
    assert page.count('href="alice-x86-64.gsv"') == 1
    assert "not run here" in page


@pytest.mark.thorough
def test_what_is_measured_stands_on_the_page_until_it_is_not_measured(base, released, tmp_path):
    arguments = (*RELEASE, base / "alice", "-t", "x86-64", "-o", tmp_path / "out", "-q")
    assert gsvexport(base / "cache", *arguments, "--bench").returncode == 0
    figures = json.loads((tmp_path / "out" / "measured.json").read_text())["artifacts"]["alice-x86-64.gsv"]
    page = (tmp_path / "out" / "overview.html").read_text()
    assert f"{figures['rtf']:.3g}" in page
    assert "not run here" not in page
    assert gsvexport(base / "cache", *arguments).returncode == 0
    assert "measured.json" not in left(tmp_path / "out")


def test_a_second_release_changes_nothing(base, released):
    out, _ = released
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.gsv")}
    index = (out / "release.json").read_bytes()
    done = gsvexport(base / "cache", *RELEASE, base / "alice", base / "bob", "-t", "x86-64", "-o", out, "-q", "-j", 1)
    assert done.returncode == 0, done.stderr
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.glob("*.gsv")} == before
    assert (out / "release.json").read_bytes() == index
    assert left(out) == FILES


def test_a_missed_gate_leaves_the_release_as_it_was(base, released):
    out, _ = released
    strict = base / "strict.toml"
    strict.write_text('extends = "x86-64"\ntitle = "too strict"\n[gates.vocoder]\nsnr_db = 900\n')
    sums = (out / "SHA256SUMS").read_bytes()
    done = gsvexport(base / "cache", *RELEASE, base / "alice", "-t", "x86-64", "-t", strict, "-o", out, "-q")
    assert done.returncode == 5
    assert "1 of 2 artifacts failed" in done.stderr
    assert "alice for strict" in done.stderr
    assert "snr_db" in done.stderr
    assert (out / "SHA256SUMS").read_bytes() == sums
    assert left(out) == sorted([*FILES, "alice-strict.report.json"])
    page = (out / "overview.html").read_text()
    assert "FAILED: 1 of 2 artifacts passed" in page
    assert "those of the one before" in page
    again = gsvexport(base / "cache", *RELEASE, base / "alice", base / "bob", "-t", "x86-64", "-o", out, "-q")
    assert again.returncode == 0, again.stderr
    assert left(out) == FILES


@pytest.mark.thorough
def test_two_voices_of_one_name_are_refused(base, tmp_path):
    twin = renamed(write_voice(base / "twin", seed=1), "alice")
    done = gsvexport(base / "cache", *RELEASE, base / "alice", twin, "-t", "x86-64", "-o", tmp_path / "out", "-q")
    assert done.returncode == 2
    assert "alice-x86-64.gsv" in done.stderr
    assert left(tmp_path / "out") == [".release.lock"]


def test_an_error_that_is_no_gate_gives_its_own_exit_code(base, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "voice.toml").write_text("[voice]\n")
    done = gsvexport(
        base / "cache", *RELEASE, base / "alice", tmp_path / "broken", "-t", "x86-64", "-o", tmp_path / "out", "-q"
    )
    assert done.returncode == 3
    assert "broken for x86-64" in done.stderr
    assert "gpt" in done.stderr


def test_an_interrupted_release_leaves_nothing_and_a_killed_ones_leftovers_go(base, tmp_path):
    out = tmp_path / "out"
    (out / f"{TEMPORARY_PREFIX}release-dead").mkdir(parents=True)
    running = start(tmp_path / "cache", *RELEASE, base / "alice", "-t", "x86-64", "-o", out)
    for line in running.stderr:
        if "alice, " in line:
            break
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert left(out) == [".release.lock"]


def test_what_a_build_says_cannot_become_markup():
    page = overview((), [("<b>x</b> for y", 3, "<script>\nsecond line")], {})
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "second line" in page
