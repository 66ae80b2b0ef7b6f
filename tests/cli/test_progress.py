"""What a command shows of its work: to a person at a terminal, to a pipe, and to another program."""

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from building import command, gsvexport
from building import start as started

from gsvexport.cli.demo import ending
from gsvexport.cli.display import Display, Lines, Objects, is_live
from gsvexport.cli.durations import Durations, merge
from gsvexport.cli.echo import echo
from gsvexport.cli.live import OneLine, Rich, State, clock, fitted, width
from gsvexport.cli.progress import shows_progress
from gsvexport.progress import Step, counted, heard, line, note, recognised, step, within
from gsvexport.synthetic import write_voice
from gsvexport.verify.report import Report

pty = pytest.importorskip("pty", reason="no pseudo-terminals here")
fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
STEERS = "\x1b[2J\x1b]0;title\x07\u202eevil [bold]not markup[/bold] :smile:"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "own-cache"))
    monkeypatch.delenv("CI", raising=False)


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    return write_voice(tmp_path_factory.mktemp("voice") / "synthetic")


@pytest.fixture(scope="module")
def built(voice, tmp_path_factory):
    """(cache, standard error) of a build in a pipe."""
    base = tmp_path_factory.mktemp("built")
    done = gsvexport(base / "cache", "--target", "x86-64", voice, "-o", base / "out")
    assert done.returncode == 0, done.stderr
    return base / "cache", done.stderr


# Words and how far


def test_a_step_is_a_text_and_stays_one_with_a_name_before_it():
    told = []
    say = within("alice", told.append)
    say("packing")
    say(counted("calibrating: 3 of 9 (en:1)", "calibrating", 3, 9))
    say(note("warning: odd"))
    assert told == ["alice: packing", "alice: calibrating: 3 of 9 (en:1)", "alice: warning: odd"]
    assert [one.phase for one in told] == ["alice: packing", "alice: calibrating", ""]
    assert (told[1].done, told[1].total) == (2, 9)


def test_what_another_process_says_is_heard_and_nothing_else():
    said = [Step("a: 2 of 3", "a", 1, 3), Step("", "b", 5, 10), note("warning"), step("packing")]
    for one in said:
        again = heard(line(one, 1.5))
        assert (again, again.phase, again.done, again.total) == (one, one.phase, one.done, one.total)
    good = json.loads(line("packing", 0.25))
    assert good == {"phase": "packing", "done": None, "total": None, "seconds": 0.25, "message": "packing"}
    for wrong in (
        "gsvexport: an error",
        "{}",
        '{"phase": ' + "[" * 9000,
        json.dumps({**good, "phase": 3}),
        json.dumps({**good, "message": None}),
        json.dumps({**good, "more": 1}),
        json.dumps({**good, "message": "x" * 20_000}),
    ):
        assert heard(wrong) is None
    assert heard('{"phase": "p", "done": NaN, "total": -1, "seconds": 0, "message": "m"}').done is None


def test_words_of_a_device_are_understood():
    told = []
    say = recognised(told.append)
    for text in (
        "step.plan: building for 20 s",
        "step.plan: building for 30 s",
        "step.plan: Building engine: 3 of 9",
        "golden vector a of step",
        "golden vector b of step",
        "measuring",
    ):
        say(text)
    assert [step(one).phase for one in told] == [
        "step.plan: building",
        "step.plan: building",
        "step.plan: Building engine",
        "golden vector",
        "golden vector",
        "measuring",
    ]
    assert (told[2].done, told[2].total) == (2, 9)


# A pipe


def test_a_pipe_gets_a_line_a_phase(built):
    lines = built[1].splitlines()
    assert all(re.fullmatch(r" *\d+\.\d s  .+", one) for one in lines)
    assert len(lines) < 20
    assert len([one for one in lines if "own variation" in one]) == 1
    assert len([one for one in lines if "comparing with golden vectors" in one]) == 1
    assert [one for one in lines if "source: building the graphs" in one]


def test_verbose_says_everything_and_quiet_nothing(built, tmp_path):
    artifact = next(built[0].parent.glob("out/*.gsv"))
    every = gsvexport(built[0], "verify", artifact, "-v").stderr
    assert every.count("comparing with golden vectors") == 4
    assert gsvexport(built[0], "verify", artifact, "-q").stderr == ""
    wrong = gsvexport(built[0], "verify", artifact, "-q", "-v")
    assert wrong.returncode == 2
    assert "exclude one another" in wrong.stderr


def test_a_program_gets_an_object_a_line_and_the_error_in_words(built, tmp_path):
    artifact = next(built[0].parent.glob("out/*.gsv"))
    done = gsvexport(built[0], "verify", artifact, "--json-progress")
    values = [json.loads(one) for one in done.stderr.splitlines()]
    assert all(list(one) == ["phase", "done", "total", "seconds", "message"] for one in values)
    golden = [one for one in values if one["phase"] == "comparing with golden vectors"]
    assert [one["done"] for one in golden] == [0, 1, 2, 3]
    assert {one["total"] for one in golden} == {4}
    assert [one["seconds"] for one in values] == sorted(one["seconds"] for one in values)
    (signed,) = [one for one in values if one["phase"] is None]
    assert signed["message"].endswith("is not signed")
    failed = gsvexport(built[0], "verify", tmp_path / "absent.gsv", "--json-progress")
    assert failed.returncode != 0
    assert [heard(one) for one in failed.stderr.splitlines()][-1] is None


def test_a_long_phase_is_told_of_again(monkeypatch):
    stream, now = io.StringIO(), [1000.0]
    monkeypatch.setattr("gsvexport.cli.display.time.monotonic", lambda: now[0])
    lines = Lines(stream, every=False)
    for number in range(1, 131):
        lines.tell(counted(f"calibrating: {number} of 130", "calibrating", number, 130))
        now[0] += 1
    assert [one[11:] for one in stream.getvalue().splitlines()] == [f"calibrating: {n} of 130" for n in (1, 61, 121)]


@pytest.mark.parametrize("make", [lambda s: Lines(s, every=True), Objects])
def test_nobody_who_listens_is_no_error(make):
    with open(os.devnull, "w") as stream:
        pass
    make(stream).tell(step("packing"))
    with open("/dev/full", "w") as full:
        with pytest.raises(OSError, match="No space"):
            full.write("x")
            full.flush()
        make(full).tell(step("packing"))
        full.write = lambda _: None  # or closing it fails, too
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


# A terminal


class Terminal(io.StringIO):
    """A terminal of rich's, 60 columns wide."""

    def isatty(self):
        return True


def screen(text, columns=80, rows=40):
    """What a terminal shows after `text`, in lines; knows what rich and our own line write, and refuses the rest."""
    cells, row, column = [[" "] * columns for _ in range(rows)], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
        elif part.startswith("\x1b["):
            count, kind = part[2:-1], part[-1]
            if kind == "A":
                row = max(row - int(count or 1), 0)
            elif kind == "K":
                start = 0 if count == "2" else column
                cells[row][start:] = [" "] * (columns - start)
            else:
                assert kind in "mhl", f"an escape that was not meant: {part!r}"
        else:
            for one in part:
                assert one.isprintable(), ascii(one)
                if column == columns:
                    row, column = row + 1, 0
                cells[row][column], column = one, column + 1
    return [line for one in cells if (line := "".join(one).rstrip())]


def shown_by(kind, stream, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    return kind(stream, State(Durations(["test"])))


def drawn(shown):
    """Draw now, which rich does by itself eight times a second."""
    if isinstance(shown, Rich):
        shown._live.refresh()


@pytest.mark.parametrize("kind", [Rich, OneLine])
def test_the_display_shows_what_runs_and_how_far_and_is_gone_at_the_end(kind, tmp_path, monkeypatch):
    stream = Terminal()
    shown = shown_by(kind, stream, tmp_path, monkeypatch)
    display = Display(shown)
    with display:
        display("reading")
        display(counted("calibrating: 3 of 9", "calibrating", 3, 9))
        drawn(shown)
        during = screen(stream.getvalue(), 60)
        display(note("warning: odd"))
        display(Step("", "compressing", 1_500_000, 3_000_000, unit="B"))
        drawn(shown)
        moved = screen(stream.getvalue(), 60)
    assert "calibrating  3 of 9" in during[0]
    assert re.search(r"\b0:\d\d\b", "".join(during))
    assert moved[0] == "warning: odd"
    assert "compressing  1.5 of 3.0 MB" in moved[1]
    assert screen(stream.getvalue(), 60) == ["warning: odd"]
    assert ("\x1b[?25h" in stream.getvalue()) == ("\x1b[?25l" in stream.getvalue())
    display("a thread that comes late")
    assert screen(stream.getvalue(), 60) == ["warning: odd"]


@pytest.mark.parametrize("kind", [Rich, OneLine])
def test_names_out_of_files_steer_nothing_and_are_no_markup(kind, tmp_path, monkeypatch):
    stream = Terminal()
    shown = shown_by(kind, stream, tmp_path, monkeypatch)
    with Display(shown) as display:
        display(note(STEERS))
        display(counted(STEERS, STEERS, 1, 2))
        drawn(shown)
        text = stream.getvalue()
    lines = screen(text, 60)  # refuses what is not meant
    assert "[bold]not markup[/bold]" in "".join(lines)
    assert ":smile:" in "".join(lines)
    assert "\\x1b[2J" in "".join(lines)


@pytest.mark.parametrize("columns", [40, 20])
@pytest.mark.parametrize("kind", [Rich, OneLine])
def test_a_narrow_terminal_keeps_the_count(kind, columns, tmp_path, monkeypatch):
    stream = Terminal()
    shown = shown_by(kind, stream, tmp_path, monkeypatch)
    monkeypatch.setenv("COLUMNS", str(columns))
    if kind is Rich:
        shown._console.width = columns
    with Display(shown) as display:
        display(counted("…", "raspberry-pi-5: comparing 中文名字 with the vectors", 12, 36))
        drawn(shown)
        lines = screen(stream.getvalue(), columns)
    assert len(lines) <= 2
    if columns == 40:
        assert "12 of 36" in lines[0]
    assert all(width(one) <= columns for one in lines)


def test_the_line_fits_the_terminal_that_it_goes_to_and_not_another_one(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
    with open(other, "w") as stream:
        shown = OneLine(stream, State(Durations(["test"])))
        shown.tell(counted("", "comparing " + "with " * 20, 2, 4))
        said = os.read(main, 1000).decode()
    os.close(main)
    assert 20 < width(said) < 30


def test_text_is_cut_by_the_columns_it_takes():
    assert (width("中a"), width("e\u0301")) == (3, 1)
    assert fitted("abcdef", 6) == "abcdef"
    assert fitted("abcdefg", 6) == "abc..."
    assert fitted("中中中中", 7) == "中中..."
    assert fitted("abcdefg", 2) == ".."
    assert [clock(one) for one in (0, 59.6, 3725)] == ["0:00", "1:00", "1:02:05"]


@pytest.mark.parametrize("kind", [Rich, OneLine])
def test_many_threads_may_speak_at_once(kind, tmp_path, monkeypatch):
    stream = Terminal()
    with Display(shown_by(kind, stream, tmp_path, monkeypatch)) as display:

        def work(lane):
            for number in range(1, 30):
                display(counted("", "building", number, 30).within(lane, lane=lane))
            display(note(f"{lane}: done", lane=lane))

        threads = [threading.Thread(target=work, args=(f"voice {n}",)) for n in range(12)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert sorted(screen(stream.getvalue(), 60)) == sorted(f"voice {n}: done" for n in range(12))


def test_a_result_is_printed_below_nothing(tmp_path, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")

    @click.command()
    @shows_progress
    def work(progress):
        progress("working")
        echo("the result")
        progress(note("next: verify"))

    work.main([], standalone_mode=False)
    assert "working" in stream.getvalue()
    assert screen(stream.getvalue()) == ["the result", "next: verify"]


@pytest.mark.parametrize(
    ("variables", "live"),
    [({}, True), ({"CI": "true"}, False), ({"CI": "false"}, True), ({"TERM": "dumb"}, False)],
)
def test_a_display_is_for_a_terminal_that_somebody_watches(monkeypatch, variables, live):
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_live(Terminal()) == live
    assert not is_live(io.StringIO())
    assert not is_live(None)


def in_a_terminal(cache, *arguments, until=None, env=None):
    """Exit code and all that is shown where standard error is a terminal; interrupted once `until` is shown."""
    words, environment = command(cache, *arguments)
    main, other = pty.openpty()
    environment |= {"TERM": "xterm", "COLUMNS": "80", **(env or {})}
    environment.pop("CI", None)
    process = subprocess.Popen(words, env=environment, stdout=other, stderr=other, stdin=subprocess.DEVNULL)
    os.close(other)
    shown = b""
    while True:
        try:
            piece = os.read(main, 1 << 16)
        except OSError:  # Linux: all of the other side is closed
            break
        shown += piece
        if not piece:
            break
        if until is not None and until.encode() in shown:
            process.send_signal(signal.SIGINT)
            until = None
    os.close(main)
    return process.wait(60), shown.decode()


def test_an_interrupted_command_leaves_a_clean_terminal(voice, tmp_path):
    code, shown = in_a_terminal(tmp_path / "cache", "--target", "x86-64", voice, "-o", tmp_path, until="golden vectors")
    assert code == 130
    assert screen(shown) == ["gsvexport: interrupted; nothing unfinished was left behind"]
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert not (tmp_path / "cache" / "durations.json").exists()


def test_an_error_and_a_result_leave_a_clean_terminal_and_the_time_is_kept(built, tmp_path):
    artifact = next(built[0].parent.glob("out/*.gsv"))
    code, shown = in_a_terminal(built[0], "inspect", artifact, "--html", tmp_path / "page.html")
    assert code == 0
    assert screen(shown, 200) == [one for one in screen(shown, 200) if one.startswith(f"{tmp_path}/page.html")] != []
    kept = Durations([])._key
    assert kept not in (built[0] / "durations.json").read_text()
    assert "listening" in (built[0] / "durations.json").read_text()
    code, shown = in_a_terminal(built[0], "inspect", artifact, "--html", tmp_path / "page.html")
    assert code == 2
    assert "exists already" in screen(shown, 200)[0]


def test_a_demo_ends_with_what_it_made_and_proved_and_how_to_hear_it(built, tmp_path):
    artifact = next(built[0].parent.glob("out/*.gsv"))
    report = json.loads(gsvexport(built[0], "verify", artifact, "--json", "-q").stdout)
    count = [one["status"] for one in report["checks"]].count("pass")
    told = Report.from_json(report)
    last = ending(artifact, told, Path("my wav.wav"), Path("page.html"), "Hello.", {"aplay": 1, "ffplay": 1}.get)
    assert f"here:     {count} checks passed, 0 failed" in last
    assert last.splitlines()[1].startswith(f"made    {artifact}  ")
    assert last.splitlines()[-2:] == [
        "hear    aplay 'my wav.wav'",
        "look    page.html, in a browser: every check, spectrograms, players",
    ]
    silent = ending(artifact, told, Path("a.wav"), Path("page.html"), "Hello.", lambda _: None)
    assert "open a.wav in any player" in silent


# How long it takes


def test_what_is_left_is_what_the_last_run_took(tmp_path):
    first = Durations(["build", "x"])
    assert first.left("a", 1, None) is None
    first.keep({"a": 1.0, "b": 10.0, "c": 4.0})
    known = Durations(["build", "x"])
    assert known.left("a", 0.25, None) == pytest.approx(0.75 + 14)
    assert known.left("b", 20, None) == pytest.approx(4)
    assert known.left("b", 3, 0.25) == pytest.approx(9 + 4)  # what is counted tells more than the last time
    assert known.left("new", 3, 0.25) is None
    assert Durations(["build", "y"]).recorded == {}


def test_what_came_from_the_cache_is_not_forgotten():
    assert list(merge({"a": 1, "b": 2, "d": 3}, {"b": 5, "c": 1, "d": 2}).items()) == [
        ("a", 1),
        ("b", 5),
        ("c", 1),
        ("d", 2),
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"commands": 3}', '{"commands": [["k", [["a", -1]]]]}', "\0" * 3000])
def test_a_damaged_record_is_no_record(tmp_path, text):
    path = tmp_path / "own-cache" / "durations.json"
    path.parent.mkdir()
    path.write_text(text)
    known = Durations(["build"])
    assert known.recorded == {}
    known.keep({"a": 1.0})
    assert Durations(["build"]).recorded == {"a": 1.0}


def test_only_so_many_commands_are_remembered(tmp_path):
    for number in range(70):
        Durations([str(number)]).keep({"a": number})
    assert Durations(["5"]).recorded == {}
    assert Durations(["69"]).recorded == {"a": 69.0}


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "file"))
    known = Durations(["build"])
    known.keep({"a": 1.0})
    assert Durations(["build"]).recorded == {}


def test_a_terminated_build_in_a_pipe_still_ends_with_its_code(voice, tmp_path):
    process = started(tmp_path / "cache", "--target", "x86-64", voice, "-o", tmp_path, "--json-progress")
    for text in process.stderr:
        if heard(text.rstrip("\n")) is not None:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert process.returncode == 143
