"""A voice in the making: languages, what is missing, and the voice.toml that is written."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gsvexport.errors import InputError
from gsvexport.voice.draft import Draft, download, in_language, language_of, missing
from gsvexport.voice.written import toml, write, written_path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WEIGHTS = (Path("a.ckpt"), Path("a.pth"))


def draft(version="v2", lora=False, **more):
    return Draft("alice", *WEIGHTS, version, lora, **more)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Good morning.", "en"),
        ("你好，今天天气很好。", "zh"),
        ("今天我们去 Starbucks coffee house.", "zh"),
        ("おはようございます。", "ja"),
        ("これはABCのテストです", "ja"),
        ("안녕하세요, hello.", "ko"),
        ("1, 2, 3!", None),
        ("", None),
    ],
)
def test_a_script_tells_a_language(text, language):
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "recorded", "asked", "voice", "spoken"),
    [
        ("Hello.", None, None, "en", None),
        ("Hello.", None, "zh", "zh", "en"),
        ("你好", None, "yue", "yue", None),  # Cantonese is written in the same characters
        ("東京", None, "ja", "ja", None),
        ("你好", None, "ko", "ko", "zh"),
        ("你好", "yue", None, "yue", None),
        ("東京", "ja", "en", "en", "ja"),
        ("7", None, None, None, None),
        ("7", None, "en", "en", None),
        (None, None, "ja", "ja", None),
        (None, None, None, None, None),
    ],
)
def test_what_was_recorded_and_what_is_asked_for_decide(text, recorded, asked, voice, spoken):
    found = in_language(draft(text=text), asked, recorded)
    assert (found.language, found.spoken) == (voice, spoken)


PROMPTED = {"language": "en", "audio": (Path("r.wav"),), "text": "Hello."}
HUBERT = {"hubert": Path("h")}


@pytest.mark.parametrize(
    ("one", "options"),
    [
        (draft(), ["--reference", "--text", "--language", "--hubert"]),
        (draft(language="en"), ["--reference", "--text", "--hubert"]),
        (draft(**PROMPTED), ["--hubert"]),
        (draft(**PROMPTED, **HUBERT), []),
        (draft(language="en", audio=(Path("r.wav"),)), []),  # a voice without a prompt is one
        (draft("v2Pro", **PROMPTED, **HUBERT), ["--speaker"]),
        (draft("v2ProPlus", language="en", audio=(Path("r.wav"),)), ["--speaker"]),
        (draft("v2Pro", **PROMPTED, **HUBERT, speaker=Path("s")), []),
        (draft("v3", **PROMPTED, **HUBERT), ["--vocoder"]),
        (draft("v4", lora=True, **PROMPTED), ["--base", "--vocoder", "--hubert"]),
        (
            draft("v4", lora=True, language="en", audio=(Path("r"),), **HUBERT, base=Path("b"), vocoder=Path("v")),
            ["--text"],
        ),
    ],
)
def test_all_that_is_missing_is_told_at_once(one, options):
    assert [need.option.split()[0] for need in missing(one)] == options


def test_one_command_gets_what_is_missing_of_upstreams_networks():
    needs = missing(draft("v4", lora=True, **PROMPTED))
    assert download(needs, Path("there")) == [
        *("hf", "download", "lj1995/GPT-SoVITS"),
        *("--include", "gsv-v4-pretrained/s2Gv4.pth", "--include", "gsv-v4-pretrained/vocoder.pth"),
        *("--include", "chinese-hubert-base/*", "--local-dir", "there"),
    ]
    assert download(missing(draft("v3", **PROMPTED, **HUBERT)), Path("p"))[4] == (
        "models--nvidia--bigvgan_v2_24khz_100band_256x/*"
    )
    assert download(missing(draft(language="en", **HUBERT)), Path("p")) is None


@pytest.mark.parametrize(
    "text",
    [
        'He said "no".',
        "back\\slash",
        "tab\there",
        "del\x7f",
        "quote'",
        "a\nb",
        "\x1b[2J",
        "爱 é 🎙",
        "# no comment",
        "'''",
    ],
)
def test_a_text_comes_back_from_toml_as_it_was(tmp_path, text):
    one = draft(language="en", text=text, audio=(tmp_path / f"{text[:3]}.wav".replace("/", ""),), **HUBERT)
    found = tomllib.loads(toml(one, tmp_path / "v"))
    assert found["reference"]["text"] == text
    assert found["reference"]["audio"] == f"../{one.audio[0].name}"
    assert found["voice"] == {
        **{"name": "alice", "language": "en", "version": "v2"},
        **dict(zip(("gpt", "sovits"), (written_path(path, tmp_path / "v") for path in WEIGHTS), strict=True)),
    }


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4"])
@pytest.mark.parametrize("text", [None, "Hello."])
@pytest.mark.parametrize("audio", [(), (Path("a.wav"),), (Path("a.wav"), Path("b.wav"))])
def test_what_is_missing_stands_in_a_comment(tmp_path, version, text, audio):
    lora = version in ("v3", "v4")
    one = draft(version, lora=lora, text=text, audio=audio)
    found = toml(one, tmp_path)
    values = tomllib.loads(found)
    assert "reference" in values if audio else "reference" not in values
    assert values["pretrained"] == {}
    told = sum("# missing" in line.replace("     ", " ") for line in found.splitlines())
    needs = missing(one)
    assert told == len(needs)
    assert isinstance(values.get("reference", {}).get("audio", ""), str if len(audio) < 2 else list)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    one = draft(language="en", audio=(Path(os.fsdecode(b"\xff.wav")),), text="Hello.")
    with pytest.raises(InputError, match=r"\\udcff.wav.* is no text"):
        toml(one, tmp_path)


def test_paths_are_relative_where_both_can_be_moved_together(tmp_path):
    voice = tmp_path / "project" / "voices" / "alice"
    for place, expected in (
        (voice / "ref.wav", "ref.wav"),
        (voice / "sub" / "ref.wav", "sub/ref.wav"),
        (tmp_path / "project" / "ref.wav", "../../ref.wav"),
        (tmp_path / "GPT-SoVITS" / "x" / "a.ckpt", "../../../GPT-SoVITS/x/a.ckpt"),
        (tmp_path.parent / "a.ckpt", str(tmp_path.parent.resolve() / "a.ckpt")),  # four up
        (Path("/elsewhere/a.ckpt"), "/elsewhere/a.ckpt"),
    ):
        assert written_path(place, voice) == expected
    assert written_path(Path("/a.ckpt"), Path("/v")) == "/a.ckpt"  # what they share is the whole machine


def test_relative_paths_are_those_of_where_a_link_leads(tmp_path):
    real = tmp_path / "disk" / "deep" / "alice"
    real.mkdir(parents=True)
    (tmp_path / "voices").symlink_to(real.parent)
    (tmp_path / "ref.wav").touch()
    found = written_path(tmp_path / "ref.wav", tmp_path / "voices" / "alice")
    assert (tmp_path / "voices" / "alice" / found).is_file()
    assert found == "../../../ref.wav"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def own(tmp_path):
    for name in ("in/a.ckpt", "in/a.pth", "in/r.WAV", "in/evil.w\n"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    audio = (tmp_path / "in" / "r.WAV", tmp_path / "in" / "evil.w\n")
    return replace(
        draft(language="en", text="Hello."), gpt=tmp_path / "in/a.ckpt", sovits=tmp_path / "in/a.pth", audio=audio
    )


def test_copies_have_plain_names_and_networks_stay(tmp_path, own):
    out = tmp_path / "v"
    hubert = tmp_path / "in"
    written = write(replace(own, hubert=hubert), out, copy=True)
    assert files(out).keys() == {"voice.toml", "gpt.ckpt", "sovits.pth", "reference.wav", "reference-2.wav"}
    assert (out / "reference-2.wav").read_bytes() == b"in/evil.w\n"
    assert written.hubert == hubert
    values = tomllib.loads((out / "voice.toml").read_text(encoding="utf-8"))
    assert values["voice"]["gpt"] == "gpt.ckpt"
    assert values["reference"]["audio"] == ["reference.wav", "reference-2.wav"]
    assert values["pretrained"]["hubert"] == "../in"


def test_what_lies_in_the_folder_already_is_not_copied(tmp_path, own):
    write(own, tmp_path / "in", copy=True)
    assert tomllib.loads((tmp_path / "in" / "voice.toml").read_text(encoding="utf-8"))["voice"]["gpt"] == "a.ckpt"
    assert len(files(tmp_path / "in")) == 5


@pytest.mark.parametrize("name", ["voice.toml", "gpt.ckpt", "reference.wav"])
def test_nothing_is_replaced_without_force_and_all_of_it_or_nothing_appears(tmp_path, own, name):
    out = tmp_path / "v"
    out.mkdir()
    (out / name).write_bytes(b"mine")
    (out / "other").write_bytes(b"mine, too")
    with pytest.raises(InputError, match="exists already"):
        write(own, out, copy=True)
    assert files(out) == {name: b"mine", "other": b"mine, too"}
    write(own, out, copy=True, force=True)
    assert files(out)[name] != b"mine"
    assert files(out)["other"] == b"mine, too"


def test_a_copy_that_fails_leaves_nothing(tmp_path, own):
    own.audio[1].unlink()
    os.mkfifo(own.audio[1])
    with pytest.raises(InputError, match="pipe"):
        write(own, tmp_path / "v", copy=True)
    assert not (tmp_path / "v").exists()
    own.audio[1].unlink()
    with open(own.audio[1], "wb") as huge:
        huge.truncate(1 << 40)
    with pytest.raises(InputError, match="too large to be copied"):
        write(own, tmp_path / "v", copy=True)
    assert not (tmp_path / "v").exists()


def test_an_interruption_leaves_nothing(tmp_path, own, monkeypatch):
    monkeypatch.setattr("gsvexport.voice.written._copy", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(own, tmp_path / "v", copy=True)
    assert not (tmp_path / "v").exists()


def test_a_file_is_no_folder(tmp_path, own):
    (tmp_path / "v").write_bytes(b"mine")
    with pytest.raises(InputError, match="is a file"):
        write(own, tmp_path / "v", force=True)
    assert (tmp_path / "v").read_bytes() == b"mine"
