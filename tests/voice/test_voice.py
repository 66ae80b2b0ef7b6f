from __future__ import annotations

import json
import os
import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch_files as tf
from conformance import conformance

from gsvexport.errors import VoiceError
from gsvexport.runtime.audio import write_wav
from gsvexport.synthetic import write_voice
from gsvexport.voice.version import config_version
from gsvexport.voice.voice import read_voice

VOICE = {"name": "alice", "language": "en", "gpt": "gpt.ckpt", "sovits": "sovits.pth"}
REFERENCE = {"audio": "ref.wav", "text": "hello", "phones": ["HH", 12, "."], "prompt_codes": "codes.npy"}


def toml(**tables):
    lines = []
    for table, values in tables.items():
        lines.append(f"[{table}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not ...]
    return "\n".join(lines) + "\n"


def sound(seconds, rate=32000):
    return np.sin(np.arange(int(seconds * rate)) * 0.05).astype(np.float32) * 0.5


@pytest.fixture
def make(tmp_path):
    """A folder with a voice and everything that a reference may name; keyword tables change `voice.toml`."""

    def build(version="v2", *, voice=None, reference=..., **tables) -> Path:
        folder = conformance(version).folder
        for name in ("gpt.ckpt", "sovits.pth"):
            if not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(folder / name)
        write_wav(tmp_path / "ref.wav", sound(4), 32000, force=True)
        np.save(tmp_path / "codes.npy", np.arange(20))
        np.save(tmp_path / "sv.npy", np.ones((1, 20480), np.float32))
        if reference is not ...:
            tables["reference"] = reference
        (tmp_path / "voice.toml").write_text(toml(voice=VOICE | (voice or {}), **tables), encoding="utf-8")
        return tmp_path

    return build


def problems(folder):
    with pytest.raises(VoiceError) as caught:
        read_voice(folder)
    assert str(folder / "voice.toml") in caught.value.what
    assert caught.value.problems
    return caught.value.problems


def problem(folder):
    found = problems(folder)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus"])
def test_a_voice_with_a_precomputed_reference(make, version):
    speaker = {"speaker": "sv.npy"} if "Pro" in version else {}
    folder = make(version, reference=REFERENCE | speaker)
    for path in (folder, folder / "voice.toml", str(folder)):
        voice = read_voice(path)
        assert (voice.name, voice.language, voice.version) == ("alice", "en", version)
        assert voice.acoustics.version == version
        assert voice.path == folder / "voice.toml"
    reference = voice.reference
    assert reference.audio == (folder / "ref.wav",)
    assert (reference.text, reference.language) == ("hello", "en")
    assert reference.phones[1:] == (12, 3)
    assert reference.prompt_codes.dtype == np.int64
    np.testing.assert_array_equal(reference.prompt_codes, np.arange(20))
    assert [array.shape for array in reference.speaker] == ([(20480,)] if speaker else [])
    assert voice.notes == ()


def test_a_voice_needs_no_reference(make):
    assert read_voice(make()).reference is None


def test_a_synthetic_voice_is_one(tmp_path):
    assert read_voice(write_voice(tmp_path, "v2Pro")).version == "v2Pro"


def test_several_recordings_each_with_a_speaker(make):
    reference = REFERENCE | {"audio": ["ref.wav", "ref.wav"], "speaker": ["sv.npy", "sv.npy"], "language": "ja"}
    found = read_voice(make("v2Pro", reference=reference)).reference
    assert len(found.audio) == len(found.speaker) == 2
    assert found.language == "ja"


def test_without_text_phones_and_codes_the_voice_is_prompt_free(make):
    voice = read_voice(make(reference={"audio": "ref.wav"}))
    assert voice.reference.phones is None
    assert voice.reference.prompt_codes is None
    assert any("prompt-free" in note for note in voice.notes)


def test_provenance_identifies_the_weights_and_no_machine(make):
    voice = read_voice(make(reference=REFERENCE))
    text = json.dumps(voice.provenance)
    assert voice.provenance["gpt"]["info"] == "GPT-e15"
    assert voice.provenance["sovits"] == {
        "sha256": voice.sovits.sha256,
        "size": voice.sovits.size,
        "header": "PK",
        "info": "8epoch_1234iteration",
    }
    assert not any(mark in text for mark in ("/", "\\\\", "logs", "conformance"))


def test_a_path_in_the_info_is_left_out(make):
    folder = make()
    whole = (folder / "gpt.ckpt").read_bytes()
    (folder / "gpt.ckpt").unlink()
    with zipfile.ZipFile(conformance("v2").folder / "gpt.ckpt") as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        before = archive.read(name)
    after = before.replace(b"GPT-e15", b"/home/a")
    assert before != after
    crc = [zlib.crc32(data).to_bytes(4, "little") for data in (before, after)]
    (folder / "gpt.ckpt").write_bytes(whole.replace(before, after).replace(*crc))
    assert read_voice(folder).provenance["gpt"]["info"] == ""


@pytest.mark.parametrize(("seconds", "told"), [(0.8, True), (2.9, True), (3.1, False), (9.9, False), (10.5, True)])
def test_an_unusual_length_is_a_note_and_no_error(make, seconds, told):
    folder = make(reference=REFERENCE)
    write_wav(folder / "ref.wav", sound(seconds), 32000, force=True)
    notes = read_voice(folder).notes
    assert any("3 to 10 s" in note for note in notes) is told


# --- voice.toml itself


def test_every_problem_of_the_toml_is_listed_with_its_line(make):
    folder = make(
        voice={"lanuage": "en", "language": "klingon", "gpt": "absent.ckpt", "name": "../alice"},
        reference={"audio": ["nothing.wav"], "promt_codes": "codes.npy", "phones": [], "text": " "},
        referense={},
    )
    found = problems(folder)
    lines = (folder / "voice.toml").read_text().splitlines()
    told = {text.partition(": ")[2]: int(text.split(":")[1]) for text in found}
    expected = {
        "lanuage": "did you mean 'language'",
        "language": "not 'klingon'",
        "gpt": "absent.ckpt",
        "name": "'../alice'",
        "audio": "nothing.wav",
        "promt_codes": "did you mean 'prompt_codes'",
        "phones": "list of phone ids",
        "text": "prompt-free",
        "[referense]": "did you mean 'reference'",
    }
    for key, said in expected.items():
        text = next(text for text in told if said in text)
        assert lines[told[text] - 1].startswith(key), (key, text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ...}, "lacks 'name'"),
        ({"gpt": ...}, "lacks 'gpt'"),
        ({"language": ...}, "lacks 'language'"),
        ({"name": 3}, "takes a string"),
        ({"gpt": "."}, "a directory"),
        ({"gpt": "a" * 5000}, "not there"),
        ({"gpt": "a\0b"}, "not there"),
        ({"gpt": ""}, "takes the name of a file"),
        ({"name": "a" * 65}, "64"),
        ({"name": ""}, "1 to 64"),
        ({"name": ".."}, "1 to 64"),
        ({"name": "a b"}, "1 to 64"),
        ({"version": "v5"}, "one of v1, v2"),
        ({"base": "s2Gv4.pth"}, "not there"),
        ({"base": "gpt.ckpt"}, "is no LoRA, so it takes no base"),
        ({"version": "v4"}, "the tensors are those of v2"),
    ],
)
def test_a_wrong_voice_table_is_refused(make, change, said):
    assert any(said in text for text in problems(make(voice=change)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"audio": ...}, "needs 'audio'"),
        ({"audio": []}, "needs 'audio'"),
        ({"audio": ""}, "takes the name of a file"),
        ({"audio": 3}, "takes the name of a file"),
        ({"audio": "."}, "a directory"),
        ({"text": ""}, "leave it out"),
        ({"phones": "HH"}, "list of phone ids"),
        ({"phones": [True]}, "list of phone ids"),
        ({"phones": [1.5]}, "list of phone ids"),
        ({"phones": [10**100]}, "list of phone ids"),
        ({"language": "xx"}, "one of zh"),
        ({"prompt_codes": ["codes.npy"]}, "takes the name of a file"),
        ({"speaker": "absent.npy"}, "not there"),
    ],
)
def test_a_wrong_reference_table_is_refused(make, change, said):
    assert any(said in text for text in problems(make(reference=REFERENCE | change)))


def test_what_pretrained_names_has_to_be_there(make):
    names = {"hubert": "hubert/", "bert": "ref.wav", "speaker": "sv.ckpt"}
    found = problems(make(reference=REFERENCE, pretrained=names))
    assert [text.partition(": ")[2].split(" names")[0] for text in found] == ["'speaker'", "'hubert'", "'bert'"]
    assert "did you mean 'hubert'" in problem(make(pretrained={"huber": "x"}))


@pytest.mark.parametrize(
    "text",
    ["", "[voice", "\xff", "voice = 3\n", "[[voice]]\nname = 'x'\n", "a = " + "[" * 100_000, "a = " + "9" * 5000],
)
def test_what_is_no_voice_toml_is_refused(tmp_path, text):
    (tmp_path / "voice.toml").write_text(text, encoding="latin-1")
    with pytest.raises(VoiceError) as caught:
        read_voice(tmp_path)
    assert str(tmp_path / "voice.toml") in caught.value.what


def test_an_absent_voice_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent.toml"):
        with pytest.raises(VoiceError, match="no voice at"):
            read_voice(path)


# --- the files it names


def test_swapped_files_are_told_once_for_each(make):
    found = problems(make(voice={"gpt": "sovits.pth", "sovits": "gpt.ckpt"}))
    assert len(found) == 2
    assert all("gpt and sovits are swapped" in text for text in found)


def test_problems_of_both_files_and_of_the_reference_come_together(make):
    folder = make(reference=REFERENCE | {"phones": ["Q9"]})
    for name in ("gpt.ckpt", "sovits.pth"):
        (folder / name).unlink()
    (folder / "gpt.ckpt").write_bytes(b"no voice")
    marker = folder / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    tf.write(folder / "sovits.pth", pickle.dumps(OrderedDict(weight=Evil(), config={}), 2))
    np.save(folder / "codes.npy", np.array([1.5]))
    found = problems(folder)
    for said in ("gpt.ckpt is not a torch zip", "sovits.pth: the pickle asks for", "prompt codes int64"):
        assert any(said in text for text in found), (said, found)
    assert not marker.exists()


def test_a_gpt_file_of_v1_does_not_fit_a_newer_sovits_file(make):
    folder = make(voice={"gpt": str(conformance("v1").folder / "gpt.ckpt")})
    assert "knows 512 phones" in problem(folder)


def test_a_newer_gpt_file_with_a_sovits_file_of_v1_is_worth_a_note(make):
    folder = make("v1", voice={"gpt": str(conformance("v2").folder / "gpt.ckpt")})
    assert any("probably not one voice" in note for note in read_voice(folder).notes)


def test_how_japanese_was_written_for_a_voice_of_v1(make):
    def table(version, **voice):
        return read_voice(make(version, voice=voice)).acoustics.symbols

    assert table("v1") == "v1"  # it speaks English
    assert table("v1", language="ja", front_end="2024-01") == "v1"
    assert table("v1", language="ja", front_end="2024-08") == "v1-2024-08"
    assert config_version({"model": {"version": "v1"}}) == "v1"
    assert config_version({"model": {}, "data": {}}) is None
    assert "front_end" in problem(make("v1", voice={"front_end": "2025"}))


def test_a_version_that_contradicts_the_tensors_is_refused(make):
    assert "the tensors are those of v2" in problem(make(voice={"version": "v2Pro"}))
    assert read_voice(make(voice={"version": "v2"})).version == "v2"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(" = ", "\t=\t").encode(),
    ],
    ids=["byte-order-mark", "crlf", "tabs"],
)
def test_a_toml_may_come_from_any_editor(make, change):
    folder = make(reference=REFERENCE)
    text = (folder / "voice.toml").read_text(encoding="utf-8")
    (folder / "voice.toml").write_bytes(change(text.replace("hello", "Hällo, 你好 🎤")))
    assert read_voice(folder).reference.text == "Hällo, 你好 🎤"


def test_only_the_toml_can_tell_the_pro_versions_apart_against_the_header(make):
    assert read_voice(make("v2Pro", voice={"version": "v2ProPlus"})).version == "v2ProPlus"


# --- the reference


@pytest.mark.parametrize(
    ("samples", "said"),
    [(0, "holds no sound"), (1, "too short"), (1279, "too short")],
)
def test_an_empty_or_tiny_reference_is_refused(make, samples, said):
    folder = make(reference=REFERENCE)
    write_wav(folder / "ref.wav", np.full(samples, 0.5, np.float32), 32000, force=True)
    assert said in problem(folder)


def test_every_refusal_says_what_to_do(make):
    folder = make(reference=REFERENCE | {"phones": [732]})
    with pytest.raises(VoiceError) as caught:
        read_voice(folder)
    assert caught.value.fix == "correct voice.toml, or the files that it names"


def test_a_reference_that_is_no_sound_is_refused(make):
    folder = make(reference=REFERENCE)
    (folder / "ref.wav").write_bytes(b"")
    assert "not a sound file" in problem(folder)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ({"text": "hello"}, ["no prompt_codes"]),
        ({"phones": [1]}, ["no prompt_codes"]),
        ({"prompt_codes": "codes.npy"}, ["no text and no phones"]),
        ({"phones": [1, 732], "prompt_codes": "codes.npy"}, ["phone id 732 is not between 0 and 731"]),
        ({"phones": [1, -1], "prompt_codes": "codes.npy"}, ["phone id -1"]),
        ({"phones": ["HH", "H1"], "prompt_codes": "codes.npy"}, ["unknown phone 'H1'"]),
        ({"phones": [1] * 4000, "prompt_codes": "codes.npy"}, ["4000 phones"]),
    ],
)
def test_a_prompt_that_is_not_whole_is_refused(make, reference, said):
    found = problems(make(reference={"audio": "ref.wav"} | reference))
    assert len(found) == len(said)
    assert all(part in text for part, text in zip(said, found, strict=True))


def test_a_phone_of_v2_in_a_v1_voice_is_out_of_range(make):
    assert "table v1: phone id 400" in problem(make("v1", reference=REFERENCE | {"phones": [400]}))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([0, 1024]), "outside 0..1023: [1024]"),
        (np.array([-1, 5]), "outside 0..1023: [-1]"),
        (np.array([], np.int64), "int64 [0]"),
        (np.zeros((2, 3), np.int64), "int64 [2, 3]"),
        (np.zeros(4000, np.int64), "int64 [4000]"),
        (np.array([1.0]), "float64 [1]"),
        (np.array([2**63], np.uint64), "outside 0..1023"),
        (np.array(3), "int64 []"),
        (np.array(["a"]), "<U1"),
    ],
)
def test_prompt_codes_that_are_none_are_refused(make, array, said):
    folder = make(reference=REFERENCE)
    np.save(folder / "codes.npy", array)
    assert said in problem(folder)


@pytest.mark.parametrize("shape", [(1, 20), (1, 1, 20), (20, 1)])
def test_prompt_codes_may_have_batch_axes(make, shape):
    folder = make(reference=REFERENCE)
    np.save(folder / "codes.npy", np.arange(20, dtype=np.int32).reshape(shape))
    assert read_voice(folder).reference.prompt_codes.tolist() == list(range(20))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no array",
        pickle.dumps([1, 2]),
        b"PK\x03\x04" + bytes(50),
        b"\x93NUMPY\x01\x00\x10\x00{'descr': nonsense",
        b"\x93NUMPY\x01\x00\x56\x00"
        + b"{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(85)
        + b"\n",
        bytes(2 << 20),
    ],
)
def test_files_that_are_no_arrays_are_refused(make, data):
    folder = make(reference=REFERENCE)
    (folder / "codes.npy").write_bytes(data)
    assert "codes.npy" in problem(folder)


def test_an_array_of_objects_is_not_unpickled(make):
    folder = make(reference=REFERENCE)
    marker = folder / "marker"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    np.save(folder / "codes.npy", np.array([Evil()]), allow_pickle=True)
    assert "codes.npy" in problem(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.ones(20479, np.float32), "[20479]"),
        (np.ones((2, 20480), np.float32), "[2, 20480]"),
        (np.ones(20480, np.int64), "int64"),
        (np.full(20480, np.nan, np.float32), "20480 NaN or infinite"),
        (np.full(20480, 1e300), "20480 NaN or infinite"),
    ],
)
def test_a_wrong_speaker_embedding_is_refused(make, array, said):
    folder = make("v2Pro", reference=REFERENCE | {"speaker": "sv.npy"})
    np.save(folder / "sv.npy", array)
    assert said in problem(folder)


def test_pro_versions_need_a_speaker_for_each_recording(make):
    assert 'needs speaker = "sv.npy"' in problem(make("v2Pro", reference=REFERENCE))
    two = REFERENCE | {"audio": ["ref.wav", "ref.wav"], "speaker": "sv.npy"}
    assert "2 reference recordings, but 1 speaker file" in problem(make("v2Pro", reference=two))


def test_a_speaker_where_none_is_taken_is_worth_a_note(make):
    voice = read_voice(make(reference=REFERENCE | {"speaker": "sv.npy"}))
    assert voice.reference.speaker == ()
    assert any("ignored" in note for note in voice.notes)
