"""Lessons from a user's own recordings: their codes, said by the teacher."""

import numpy as np
import pytest
import soundfile

from gsvexport.cli import run
from gsvexport.compiler.source import write_source
from gsvexport.errors import InputError
from gsvexport.runtime.pipeline import load
from gsvexport.signal.cloning import prompt_codes
from gsvexport.slim import teacher as slim_teacher
from gsvexport.slim.recipe import Data
from gsvexport.slim.recordings import read_list
from gsvexport.synthetic import write_voice
from gsvexport.synthetic.pretrained import write_pretrained
from gsvexport.voice.profile import read_profile
from gsvexport.voice.voice import read_voice

DATA = Data(texts=1, codes=1, held_out=1, longest=40)


@pytest.fixture(scope="module")
def hearing(tmp_path_factory):
    """A voice with a HuBERT."""
    voice = write_voice(tmp_path_factory.mktemp("voice") / "alice", eos_gain=6.0)
    files = write_pretrained(voice, ("hubert",))
    with (voice / "voice.toml").open("a") as stream:
        stream.write(f'\n[pretrained]\nhubert = "{files["hubert"]}"\n')
    return voice


@pytest.fixture(scope="module")
def source(hearing, tmp_path_factory):
    return write_source(read_voice(hearing), tmp_path_factory.mktemp("source") / "source")


@pytest.fixture
def listed(tmp_path):
    """A list of recordings: three that can be used, and three that cannot."""
    random = np.random.default_rng(0)
    for name, seconds in (("one", 3.2), ("two", 4.0), ("three", 1.5), ("short", 0.4), ("long", 21.0)):
        soundfile.write(tmp_path / f"{name}.wav", random.normal(0, 0.1, round(seconds * 16000)), 16000)
    path = tmp_path / "train.list"
    texts = "Good evening to you.", "A quiet house.", "No, not now."
    lines = [f"{name}.wav|alice|EN|{text}" for name, text in zip(("one", "two", "three"), texts, strict=True)]
    lines += ["short.wav|alice|en|Hello there.", "", "long.wav|alice|en|Hello there.", "none.wav|alice|en|Hello."]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_what_is_heard_is_learned_and_made_once(source, listed, tmp_path, monkeypatch):
    said = []

    def make(recorded):
        return slim_teacher.make(source.path, source.digest, DATA, (), tmp_path / "data", said.append, recorded)

    without = make(())
    lesson = make(read_list(listed))
    told = [one for one in said if "left out" in one]
    assert [f"line {number}" in one for number, one in zip((4, 6, 7), told, strict=True)] == [True] * 3
    assert "0.40 s" in told[0]
    assert "too long" in told[1]
    more = lesson.train[len(without.train) :]
    assert [one.name[:6] for one in more] == ["r00000", "r00001", "r00002"]
    samples, rate = soundfile.read(listed.parent / "one.wav")
    with load(source.path) as voice:
        codes = prompt_codes(voice.run, samples, rate)[0]
    assert len(codes) > 80
    np.testing.assert_array_equal(more[0].codes, codes[:80])  # 3.2 s; what follows is HuBERT's silence
    assert more[0].audio.shape == (more[0].latent.shape[1] * 640,)
    assert more[0].latent.shape[1] == 160  # a recording has its own pace
    assert without.whole != lesson.whole
    monkeypatch.setattr(slim_teacher, "_speak", lambda *_: pytest.fail("made again"))
    assert make(read_list(listed)).whole == lesson.whole
    monkeypatch.undo()
    soundfile.write(listed.parent / "one.wav", samples[::-1], rate)
    other = make(read_list(listed)).train[len(without.train)]
    assert (other.codes != more[0].codes).any()


def test_an_utterance_without_the_prompt_has_none(source, listed, tmp_path):
    listed.write_text("one.wav|a|en|Good evening.\n" * 4, encoding="utf-8")
    lesson = slim_teacher.make(source.path, source.digest, DATA, (), tmp_path / "data", str, read_list(listed))
    assert [len(one.prompt) > 0 for one in lesson.train[-4:]] == [True, True, True, False]


def test_wrong_lists_are_refused(source, teacher, listed, tmp_path):
    with pytest.raises(InputError, match=r"none\.list"):
        read_list(tmp_path / "none.list")
    path = tmp_path / "wrong.list"
    path.write_text("one.wav|alice|en\n|alice|en|Hello.\none.wav|a|en|Yes | no.\n", encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_list(path)
    assert [problem[:7] for problem in error.value.problems] == ["line 1:", "line 2:"]
    path.write_text("no\n" * 1000, encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_list(path)
    assert error.value.problems[-1] == "and 980 lines more"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(InputError, match="no list of recordings"):
        read_list(path)
    path.write_text("short.wav|a|en|Hello there.\none.wav|a|xx|Hello.\none.wav|a|en|" + "word " * 40, encoding="utf-8")
    with pytest.raises(InputError, match="none of the recordings"):
        slim_teacher.make(source.path, source.digest, DATA, (), tmp_path / "data", str, read_list(path))
    deaf = write_source(read_voice(teacher), tmp_path / "deaf")
    with pytest.raises(InputError, match="has no HuBERT"):
        slim_teacher.make(deaf.path, deaf.digest, DATA, (), tmp_path / "data", str, read_list(listed))


def test_the_command_takes_a_list(hearing, listed, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    mine = tmp_path / "mine.toml"
    mine.write_text("[sovits]\nchannels = 0.5\n[data]\ntexts = 1\nheld_out = 1\n[train]\nvocoder_steps = 1\n")
    listed.write_text("three.wav|alice|en|No, not now.\n", encoding="utf-8")
    command = ["slim", str(hearing), "--recipe", str(mine), "--work", str(tmp_path / "work")]
    assert run([*command, "-o", str(tmp_path / "with"), "--recordings", str(listed)]) == 0
    assert len(list(tmp_path.glob("work/data/*/r00000-*.npz"))) == 1
    assert run([*command, "-o", str(tmp_path / "without")]) == 0
    data = [read_profile(tmp_path / name).slim.data for name in ("with", "without")]
    assert data[0] != data[1]
    (tmp_path / "empty.list").write_text("")
    assert run([*command, "-o", str(tmp_path / "no"), "--recordings", str(tmp_path / "empty.list")]) == 2
    assert "PATH|SPEAKER|LANGUAGE|TEXT" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_lines_end_where_editors_end_them(tmp_path):
    path = tmp_path / "train.list"
    path.write_bytes("\ufeffa b.wav|x|JP|one\u2028two\x0cthree\r\n\r\n/c.wav|x|zh|a|b\r".encode())
    found = [(one.place[-6:], str(one.path), one.language, one.text) for one in read_list(path)]
    assert found == [
        ("line 1", str(tmp_path / "a b.wav"), "ja", "one\u2028two\x0cthree"),
        ("line 3", "/c.wav", "zh", "a|b"),
    ]


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (lambda noise: np.stack([noise, -noise], axis=1), "silent"),
        (lambda noise: noise * 1e30, "beyond full scale"),
        (lambda noise: np.clip(noise * 20, -1, 1), "clipped"),
    ],
)
def test_a_sound_that_teaches_nothing_is_left_out(source, tmp_path, sound, words):
    noise = np.random.default_rng(0).normal(0, 0.1, 40_000)
    soundfile.write(tmp_path / "a.wav", sound(noise), 16000, subtype="FLOAT")
    (tmp_path / "a.list").write_text("a.wav|x|en|Hello there.")
    with pytest.raises(InputError) as error:
        slim_teacher.make(source.path, source.digest, DATA, (), tmp_path, str, read_list(tmp_path / "a.list"))
    assert words in str(error.value)
