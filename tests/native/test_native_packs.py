"""Phrase packs in the native runtime: what Python says, byte for byte."""

import subprocess
from pathlib import Path

import pytest
from command import ENVIRONMENT, compiled, run, text

from gsvexport.phrases.making import make_pack
from gsvexport.phrases.pack import read_pack
from gsvexport.runtime.audio import write_wav
from gsvexport.text.symbols import phone_ids

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pack(voice, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    (folder / "car.toml").write_text(
        "[phrases.hello]\ntext = 'Hello there.'\n"
        "[phrases.turn]\ntext = 'In {metres} metres, turn {side}.'\n"
        "slots.metres = { from = 100, to = 300, step = 100 }\nslots.side = ['left', 'right']\n"
        "[phrases.turn-left]\ntext = 'In {metres} metres, turn left.'\nslots.metres = ['250']\n"
        "[phrases.time]\ntext = 'It is {hour}:{minute}.'\nslots.hour = ['12', '13']\nslots.minute = ['00', '10']\n"
    )
    make_pack(folder / "car.toml", voice, folder / "car.gsvp", render=True)
    return folder / "car.gsvp"


@pytest.mark.parametrize(
    ("phrase", "values"),
    [
        ("turn", {"metres": "300", "side": "left"}),
        ("time", {"hour": "13", "minute": "00"}),  # kept whole
        ("hello", {}),
    ],
)
def test_a_phrase_of_a_pack_is_what_python_says(native, voice, pack, spoken, phrase, values, tmp_path):
    slots = [word for name, value in values.items() for word in ("--slot", f"{name}={value}")]
    done = run(native, voice, "--pack", pack, "--phrase", phrase, *slots, "--seed", 3, "-o", tmp_path / "a.wav")
    assert done.returncode == 0, text(done)
    ids = phone_ids(read_pack(pack).phrase(phrase).phones(values), "v2")
    wanted = spoken[1].synthesize(phones=ids, seed=3)
    write_wav(tmp_path / "b.wav", wanted.samples, wanted.rate)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_what_was_spoken_ahead_of_time_is_played(native, voice, pack, spoken, tmp_path):
    """With another way of speaking asked for, it is spoken; damaged sound is told."""
    if "GSV_FLAC" not in (native.build / "build.ninja").read_text():
        pytest.skip("the native runtime was built without libFLAC here")
    done = run(native, voice, "--pack", pack, "--phrase", "hello", "--raw", "-")
    ids = phone_ids(read_pack(pack).phrase("hello").phones({}), "v2")
    assert done.stdout == spoken[1].synthesize(phones=ids).pcm().tobytes()
    assert done.stdout != run(native, voice, "--pack", pack, "--phrase", "hello", "--seed", 1, "--raw", "-").stdout
    data = bytearray(pack.read_bytes())
    data[-5] ^= 1
    (tmp_path / "bad.gsvp").write_bytes(data)
    done = run(native, voice, "--pack", tmp_path / "bad.gsvp", "--phrase", "hello", "--raw", "-")
    assert done.returncode == 2
    assert "sound is damaged" in text(done)


def test_faults_of_phrases_are_told(native, voice, pack, tmp_path):
    listed = run(native, voice, "--pack", pack)
    assert (listed.returncode, listed.stdout) == (0, b"hello\ntime\nturn\nturn-left\n")
    to = ("-o", tmp_path / "a.wav")
    done = run(native, voice, "--pack", pack, "--phrase", "turn", "--slot", "metres=150", "--slot", "up=1", *to)
    assert done.returncode == 2
    for words in ("no slot 'up'", "'metres' cannot be '150'; it can be 100, 200, 300", "slot 'side' has no value"):
        assert words in text(done)
    assert "no phrase 'stop'" in text(run(native, voice, "--pack", pack, "--phrase", "stop", *to))
    assert "is no phrase pack" in text(run(native, voice, "--pack", voice / "model.json", "--phrase", "stop", *to))
    (tmp_path / "cut.gsvp").write_bytes(pack.read_bytes()[:200])
    assert "cut short" in text(run(native, voice, "--pack", tmp_path / "cut.gsvp", "--phrase", "stop", *to))
    (tmp_path / "v1.gsvp").write_bytes(pack.read_bytes().replace(b'"symbols":"v2"', b'"symbols":"v1"'))
    assert "phone table v1; this one has v2" in text(
        run(native, voice, "--pack", tmp_path / "v1.gsvp", "--phrase", "turn", *to)
    )
    assert not (tmp_path / "a.wav").exists()


def test_the_program_of_the_page_speaks(native, voice, pack, tmp_path):
    """docs/embedded.md, as it stands there."""
    page = (ROOT / "docs/embedded.md").read_text()
    (tmp_path / "car.c").write_text(page.split("```c\n")[1].split("```")[0])
    (tmp_path / "alice").symlink_to(voice)
    (tmp_path / "car.gsvp").symlink_to(pack)
    program = compiled(native, tmp_path / "car.c", tmp_path / "car")
    done = subprocess.run([program], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    words = ("--pack", pack, "--phrase", "turn-left", "--slot", "metres=250", "--threads", 1, "--raw", "-")
    assert done.stdout == run(native, voice, *words).stdout
    assert done.stdout


def test_readers_refuse_damaged_files_and_do_nothing_else(native, voice, pack):
    """Every reader, on its seeds as they are and damaged; libFuzzer has the same target (make native-fuzz)."""
    seeds = [*(ROOT / "native/test/seeds").iterdir(), voice / "step.onnx", voice / "baked/ge.npy", pack]
    done = subprocess.run([native.fuzz, "4000", "1", *seeds], capture_output=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == b"4000 inputs\n"
