"""What a user gives that cannot work: one message with the finding, the limit and the next step, and an exit code."""

import json

import numpy as np
import pytest
from conformance import conformance

from gsvexport import cli
from gsvexport.voice.voice import read_voice

soundfile = pytest.importorskip("soundfile", reason="the extra `compile` is not installed")
RATE = 32000
BAD_TEXT, BAD_VOICE = 2, 3


def speech_like(seconds, rate=RATE, level=0.3):
    """A buzz of three harmonics with a syllable's rhythm; no sample lies on a plateau."""
    time = np.arange(int(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 131.3 * number * time) / number for number in (1, 2, 3))
    return level * buzz * (1 + np.sin(2 * np.pi * 3.7 * time)) / 4


@pytest.fixture
def voice(tmp_path):
    """Make a folder with a voice and a recording; keywords change its `[reference]`."""

    def make(samples=None, rate=RATE, subtype="PCM_16", **reference):
        folder = conformance("v2").folder
        for name in ("gpt.ckpt", "sovits.pth"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(folder / name)
        soundfile.write(tmp_path / "ref.wav", speech_like(4) if samples is None else samples, rate, subtype=subtype)
        np.save(tmp_path / "codes.npy", np.arange(20))
        values = {"audio": "ref.wav", "text": "Good morning.", "prompt_codes": "codes.npy"} | reference
        lines = ["[voice]", 'name = "v"', 'language = "en"', 'gpt = "gpt.ckpt"', 'sovits = "sovits.pth"', "[reference]"]
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        (tmp_path / "voice.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return make


def refused(capsys, *arguments):
    """The exit code and the message of a command that fails."""
    code = cli.run([str(argument) for argument in arguments])
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert "defect" not in message
    return code, message


def clipped(gain):
    """Speech that was recorded too loud, and made quieter afterwards."""
    samples = speech_like(4)
    return 0.5 * np.clip(gain * samples / np.abs(samples).max(), -1, 1)


@pytest.mark.parametrize(
    ("recording", "said", "step"),
    [
        ({"samples": np.zeros(4 * RATE)}, "all of them zero", "choose another reference"),
        ({"samples": speech_like(4, level=1e-3)}, "is silent: -", "choose another reference"),
        ({"samples": np.full(4 * RATE, 0.4)}, "is silent: -200 dB", "choose another reference"),
        ({"samples": clipped(3)}, "is clipped: ", "with less gain"),
        ({"samples": speech_like(0.2)}, "too short: 0.20 s, at least 0.5 s", "3 to 10 seconds"),
        ({"samples": speech_like(61)}, "too long", "3 to 10 seconds"),
        ({"samples": np.where(np.arange(4 * RATE) == 7, np.nan, 0.1), "subtype": "FLOAT"}, "NaN", "another reference"),
    ],
    ids=["zeros", "silent", "only an offset", "clipped", "0.2 s", "61 s", "NaN"],
)
def test_a_recording_that_no_voice_can_be_cloned_from(voice, capsys, recording, said, step, tmp_path):
    code, message = refused(capsys, "source", voice(**recording), "-o", tmp_path / "out")
    assert code == BAD_VOICE
    assert said in message
    assert step in message
    assert "ref.wav" in message
    assert not (tmp_path / "out").exists()


def test_what_is_no_sound_file(voice, capsys, tmp_path):
    folder = voice()
    (folder / "ref.wav").write_text("not a sound")
    code, message = refused(capsys, "source", folder, "-o", tmp_path / "out")
    assert code == BAD_VOICE
    assert "not a sound file" in message
    assert "convert it to WAV" in message


def test_a_slightly_clipped_recording_is_a_note_and_a_clean_one_is_none(voice):
    samples = clipped(1)
    assert read_voice(voice(samples)).notes == ()
    samples[1000:1300] = 0.5  # 0.23 %
    (note,) = read_voice(voice(samples)).notes
    assert "ref.wav is clipped: 0.23%" in note


@pytest.mark.parametrize(("seconds", "told"), [(0.6, True), (2.9, True), (3.0, False), (10.0, False), (30, True)])
def test_an_unusual_length_is_a_note_with_what_upstream_asks_for(voice, seconds, told):
    notes = read_voice(voice(speech_like(seconds))).notes
    assert [("3 to 10 s" in note) for note in notes] == [True] * told


@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [(8000, 1, "PCM_16"), (22050, 2, "PCM_24"), (44100, 6, "FLOAT"), (96000, 2, "DOUBLE")],
)
def test_any_rate_number_of_channels_and_format_is_taken(voice, rate, channels, subtype):
    samples = np.repeat(speech_like(3.5, rate)[:, None], channels, axis=1)
    found = read_voice(voice(samples, rate, subtype))
    assert found.notes == ()
    assert found.reference is not None


def test_prompt_codes_out_of_range(voice, capsys, tmp_path):
    folder = voice()
    np.save(folder / "codes.npy", np.array([0, 1024, -1]))
    code, message = refused(capsys, "source", folder, "-o", tmp_path / "out")
    assert code == BAD_VOICE
    assert "prompt codes outside 0..1023: [-1, 1024]" in message


def test_the_reference_text_is_read(voice):
    given = read_voice(voice(phones=["G", "UH1", "D", "M", "AO1", "R", "N", "IH0", "NG", "."])).reference
    assert read_voice(voice()).reference.phones == given.phones


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"text": "早上好"}, [r"'\u65e9' (cjk unified ideograph-65e9) at 1", "language 'en'"]),
        ({"text": "Good morning.", "language": "zh"}, ["'Good morning.' has no letter of that language"]),
        ({"text": "Good morning.", "language": "ja"}, ["'Good morning.' has no letter of that language"]),
        ({"text": "안녕", "language": "zh"}, [r"'\uc548' (hangul syllable an) at 1"]),
        ({"text": "Good morning.", "language": "ko"}, ["'Good morning.' has no letter of that language"]),
        ({"text": "..."}, ["no sound in it"]),
        ({"text": "早上好 ж", "language": "zh"}, ["'\\u0436' (cyrillic small letter zhe) at 5"]),
    ],
)
def test_a_reference_text_in_another_language_than_it_says(voice, capsys, tmp_path, reference, said):
    code, message = refused(capsys, "source", voice(**reference), "-o", tmp_path / "out")
    assert code == BAD_VOICE
    assert "set language in [reference]" in message
    assert all(part in message for part in said), message


def test_a_reference_in_another_language_than_the_voice_is_a_note(voice):
    found = read_voice(voice(text="早上好！", language="zh"))
    assert any("speaks 'zh', the voice 'en'" in note for note in found.notes)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """An exported source that can speak."""
    from gsvexport.runtime.audio import write_wav

    folder = tmp_path_factory.mktemp("speaking")
    data = conformance("v2")
    lines = ["[voice]", 'name = "v"', 'language = "en"', 'gpt = "gpt.ckpt"', 'sovits = "sovits.pth"', "[reference]"]
    for name in ("gpt.ckpt", "sovits.pth"):
        (folder / name).symlink_to(data.folder / name)
    write_wav(folder / "ref.wav", data.arrays["s2_a_ref_wav32k"][0], RATE)
    (folder / "voice.toml").write_text("\n".join([*lines, 'audio = "ref.wav"']) + "\n")
    assert cli.run(["source", str(folder), "-o", str(folder / "source"), "--quiet"]) == 0
    return folder / "source"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((""), ["no sound in it", "write at least one word"]),
        (("..."), ["no sound in it", "write at least one word"]),
        (
            ("\U0001f600\U0001f601"),
            ["'\\U0001f600' (grinning face) at 1", "grinning face with smiling eyes) at 2", "leave"],
        ),
        (("你好 ж"), ["ideograph-4f60) at 1", "ideograph-597d) at 2", "zhe) at 4", "--language"]),
        (
            ("hello", "--language", "tlh"),
            ["'tlh' cannot be turned into phones", "en, ja, ko, yue, zh, auto", "--phones"],
        ),
        (("--phones", "HH XX"), ["unknown phone 'XX'", "732 phones"]),
        (("--phones", "1 9999"), ["phone id 9999 is not between 0 and 731"]),
        (("hello", "--phones", "HH"), ["both a text and --phones"]),
    ],
)
def test_what_cannot_be_said(spoken, capsys, tmp_path, arguments, said):
    arguments = (arguments,) if isinstance(arguments, str) else arguments
    code, message = refused(capsys, "say", spoken, *arguments, "-o", tmp_path / "a.wav")
    assert code == BAD_TEXT
    assert all(part in message for part in said), message
    assert not (tmp_path / "a.wav").exists()


@pytest.mark.parametrize(
    ("language", "module", "extra"), [("yue", "ToJyutping", "yue"), ("ko", "mecab", "ko"), ("ja", "pyopenjtalk", "ja")]
)
def test_an_absent_extra_is_named_with_the_command_that_installs_it(
    spoken, capsys, tmp_path, monkeypatch, language, module, extra
):
    if module == "mecab":
        from gsvexport.text.ko import phonemes

        monkeypatch.setattr(phonemes, "_analyser", phonemes._analyser.__wrapped__)
    monkeypatch.setitem(__import__("sys").modules, module, None)
    text = "안녕" if language == "ko" else "日本"
    code, message = refused(capsys, "say", spoken, text, "--language", language, "-o", tmp_path / "a.wav")
    assert code == 7
    assert f"pip install 'gsvexport[{extra}]'" in message


def test_a_text_in_another_language_than_the_voices_is_said_when_it_is_named(spoken, capsys, tmp_path):
    arguments = [
        "say",
        str(spoken),
        "你好，world！",
        "--language",
        "zh",
        "-o",
        str(tmp_path / "a.wav"),
        "--max-tokens",
        "9",
    ]
    assert cli.run(arguments) == 0
    assert (tmp_path / "a.wav").exists()
