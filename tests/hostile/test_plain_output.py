"""What commands do where the machine, the terminal or the arguments are not what they should be: one plain line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from artifacts import copied, repacked

from gsvexport import cli
from gsvexport.artifact import keys
from gsvexport.errors import EnvironmentProblem, InputError, printable
from gsvexport.files import atomic_directory, atomic_file

ROOT = Path(__file__).resolve().parent.parent.parent
ESCAPES = "\x1b[31m\x1b]0;title\x07\u202eevil\u2066\x00\x9b2J\r"
FULL = Path("/dev/full")


def gsvexport(*arguments, shell=None, **options):
    """The command line in a process of its own; `shell` puts it into a line of bash."""
    line = [sys.executable, "-m", "gsvexport", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if shell is not None:
        line = ["bash", "-c", shell, "bash", *line]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False, **options)


def test_nothing_that_steers_a_terminal_is_printable():
    assert printable("plain text, ä é 中 😀\nsecond line") == "plain text, ä é 中 😀\nsecond line"
    shown = printable(ESCAPES + "\udc80\u2028")
    assert shown.isprintable()
    assert "\\x1b[31m" in shown
    assert "\\u202e" in shown


@pytest.mark.parametrize("where", ["name", "key", "table"])
def test_a_voice_and_a_target_file_cannot_steer_a_terminal(tmp_path, capsys, where):
    text = {
        "name": '[voice]\nname = "\\u001b[31m\\u202e"\n',
        "key": '"\\u001b]0;x\\u0007" = 1\n',
        "table": '["\\u001b[2J"]\nx = 1\n',
    }[where]
    (tmp_path / "voice.toml").write_text(text)
    (tmp_path / "board.toml").write_text(text)
    for arguments in (["source", tmp_path, "-o", tmp_path / "o"], ["targets", tmp_path / "board.toml"]):
        assert cli.run([str(one) for one in arguments]) in (3, 4)
        shown = capsys.readouterr()
        assert (shown.out + shown.err).replace("\n", "").isprintable()


def test_an_artifact_cannot_steer_a_terminal(subject, tmp_path, capsys):
    files = copied(subject.files, tmp_path / "files")
    strange = repacked(files, tmp_path / "a.gsv", name=ESCAPES.replace("\x00", ""), tools={"gsvexport": "1\x1b[31m"})
    for arguments in (
        ["inspect", strange],
        ["inspect", strange, "--json"],
        ["verify", strange],
        ["publish", strange, tmp_path],
    ):
        cli.run([str(one) for one in arguments])
        shown = capsys.readouterr()
        assert (shown.out + shown.err).replace("\n", "").isprintable(), arguments


# The machine


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_standard_output_is_said():
    done = gsvexport(shell='"$@" targets > /dev/full')
    assert done.returncode == 7
    assert "the disk is full" in done.stderr


def test_a_closed_standard_output_is_said():
    done = gsvexport(shell='"$@" targets >&-')
    assert done.returncode in (0, 7), done.stderr
    assert "defect" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    done = gsvexport(shell='"$@" targets | head -c 10; exit ${PIPESTATUS[0]}')
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_in_place_of_a_file_is_named(subject, tmp_path):
    done = gsvexport("inspect", shell=f'"$@" <(cat {subject.artifact})')
    assert done.returncode == 6, done.stderr
    assert "is a pipe" in done.stderr
    os.mkfifo(tmp_path / "fifo")
    for command in (["inspect"], ["say", "x", "-o", "o.wav"], ["source", "-o", "o"], ["targets"]):
        file = tmp_path / ("fifo" if command[0] != "targets" else "fifo.toml")
        if not file.exists():
            os.mkfifo(file)
        done = gsvexport(command[0], file, *command[1:], cwd=tmp_path)
        assert done.returncode in (2, 3, 4, 6), (command, done.stderr)
        assert "defect" not in done.stderr


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
def test_a_device_in_place_of_a_file_is_refused(device, tmp_path, capsys):
    if not Path(device).exists():
        pytest.skip(f"no {device} here")
    for name in ("voice.toml", "board.toml", "a.gsv", "text"):
        (tmp_path / name).symlink_to(device)
    for arguments in (
        ["source", tmp_path / "voice.toml", "-o", tmp_path / "o"],
        ["plan", "--target", tmp_path / "board.toml"],
        ["inspect", tmp_path / "a.gsv"],
        ["say", tmp_path / "a.gsv", "--text-file", tmp_path / "text", "-o", tmp_path / "o.wav"],
    ):
        code = cli.run([str(one) for one in arguments])
        message = capsys.readouterr().err
        assert code in (2, 3, 4, 6), message
        assert "defect" not in message


def test_a_device_is_not_replaced(tmp_path):
    node = tmp_path / "node"
    os.mkfifo(node)
    for writing in (atomic_file, atomic_directory):
        with pytest.raises(InputError), writing(node, force=True):
            pass
        assert node.is_fifo()


def test_a_limit_on_the_size_of_files_is_said(subject, tmp_path):
    done = gsvexport("unpack", subject.artifact, "-o", tmp_path / "o", "-q", shell='ulimit -f 100; "$@"')
    assert done.returncode == 7, done.stderr
    assert "ulimit -f" in done.stderr
    assert not (tmp_path / "o").exists()


def test_memory_that_runs_out_is_said(capsys, monkeypatch):
    def greedy(*_):
        raise MemoryError

    monkeypatch.setattr("gsvexport.cli.targets.target_list", greedy)
    assert cli.run(["targets"]) == 7
    assert "memory ran out" in capsys.readouterr().err


def test_a_key_that_did_not_fit_on_the_disk_blocks_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path / "config"))
    real = os.fsync

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentProblem, match="full"):
        keys.new_key("release")
    assert not keys.private_file("release").exists()
    monkeypatch.setattr(os, "fsync", real)
    assert keys.new_key("release").name == "release"


# Arguments


def test_an_unknown_command_is_called_one(capsys):
    assert cli.run(["frobnicate"]) == 2
    message = capsys.readouterr().err
    assert "there is no command 'frobnicate'" in message
    assert "--target" not in message


@pytest.mark.parametrize("name", ["o.xyz", "o.m4a", "o.wav.exe"])
def test_an_ending_that_nothing_is_written_as_is_refused(subject, tmp_path, capsys, name):
    assert cli.run(["say", str(subject.artifact), "--phones", "AH0 B", "-o", str(tmp_path / name)]) == 2
    assert ".flac" in capsys.readouterr().err
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("ending", "magic"), [("wav", b"RIFF"), ("flac", b"fLaC"), ("ogg", b"OggS"), ("opus", b"OggS"), ("mp3", b"")]
)
def test_the_ending_decides(subject, tmp_path, ending, magic):
    soundfile = pytest.importorskip("soundfile")
    out = tmp_path / f"o.{ending}"
    arguments = ["say", str(subject.artifact), "--phones", "AH0 B IH0", "--max-tokens", "10", "-o", str(out)]
    code = cli.run(arguments)
    if code == 2 and ending in ("mp3", "opus"):
        pytest.skip(f"the libsndfile here writes no {ending}")
    assert code == 0
    data = out.read_bytes()
    assert data.startswith(magic)
    assert not data.startswith(b"RIFF") or ending == "wav"
    assert soundfile.info(str(out)).frames > 1000


def test_a_wav_is_not_saved_under_another_ending(tmp_path):
    import numpy as np

    from gsvexport.runtime.audio import Audio

    with pytest.raises(InputError, match="whatever its ending says"):
        Audio(np.zeros(10, np.float32), 32000).save(tmp_path / "a.mp3")


def test_text_comes_from_a_file_or_standard_input_and_says_what_it_is_not(subject, tmp_path, capsys):
    say = ["say", str(subject.artifact), "-o", str(tmp_path / "o.wav"), "--force"]
    (tmp_path / "latin1").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "utf16").write_bytes("Hello".encode("utf-16"))
    for name, cause in (("latin1", "byte 0xe9 in line 1"), ("utf16", "seems to be UTF-16"), ("absent", "No such file")):
        assert cli.run([*say, "--text-file", str(tmp_path / name)]) == 2
        assert cause in capsys.readouterr().err
    assert cli.run([*say, "caf\udce9"]) == 2
    assert "not UTF-8" in capsys.readouterr().err
    assert cli.run([*say, "a" * 10_001]) == 2
    assert "--text-file" in capsys.readouterr().err
    assert cli.run([*say, "x", "--text-file", "-"]) == 2


@pytest.mark.parametrize("threads", ["0", "257", "100000", "-1"])
def test_a_number_of_threads_is_bounded(subject, tmp_path, threads):
    assert cli.run(["say", str(subject.artifact), "x", "-o", str(tmp_path / "o.wav"), "--threads", threads]) == 2


def test_more_threads_than_cores_do_not_hang(subject, tmp_path):
    line = ["say", str(subject.artifact), "--phones", "AH0 B", "--max-tokens", "3", "--threads", "256"]
    assert cli.run([*line, "-o", str(tmp_path / "o.wav")]) == 0


def test_make_runs_nothing_that_stands_in_a_text(tmp_path):
    make = subprocess.run(
        ["make", "-n", "demo", f"TEXT=$(shell touch {tmp_path}/pwned)"], cwd=ROOT, capture_output=True, check=False
    )
    assert make.returncode in (0, 2)
    assert not (tmp_path / "pwned").exists()
