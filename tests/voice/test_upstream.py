"""What is found in a folder of GPT-SoVITS, and what is not looked at."""

import os

import pytest
import trained

from gsvexport.errors import InputError
from gsvexport.voice import upstream
from gsvexport.voice.upstream import look, networks, pair, recordings, suggested


def touch(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def weights(folder, gpt=(), sovits=()):
    for name in gpt:
        touch(folder / name)
    for name in sovits:
        touch(folder / name)
    return look(folder)


def test_the_newest_pair_is_found_by_number_not_by_letter(tmp_path):
    found = weights(
        tmp_path,
        ["GPT_weights_v2/alice-e5.ckpt", "GPT_weights_v2/alice-e10.ckpt", "GPT_weights_v2/bob-e99.ckpt"],
        [
            "SoVITS_weights_v2/alice_e8_s96.pth",
            "SoVITS_weights_v2/alice_e8_s1000.pth",
            "SoVITS_weights_v2/alice_e4_s5000.pth",
        ],
    )
    gpt, sovits = pair(found, "alice")
    assert (gpt.path.name, sovits.path.name) == ("alice-e10.ckpt", "alice_e8_s1000.pth")
    assert (gpt.version, gpt.epoch, sovits.step) == ("v2", 10, 1000)
    assert pair(found, "alice", gpt_epoch=5, sovits_epoch=4)[0].path.name == "alice-e5.ckpt"
    assert upstream.epochs(found.gpt, gpt) == [5, 10]
    assert found.names() == ["alice"]
    with pytest.raises(InputError, match="no gpt file of epoch 7") as failure:
        pair(found, "alice", gpt_epoch=7)
    assert failure.value.limit == "epochs 5, 10"


@pytest.mark.parametrize(
    ("version", "root"),
    [("v1", ""), *((name, f"_{name}") for name in ("v2", "v2Pro", "v2ProPlus", "v3", "v4"))],
)
def test_every_version_has_its_folder(tmp_path, version, root):
    rank = "_l32" if version in ("v3", "v4") else ""
    found = weights(tmp_path, [f"GPT_weights{root}/a-e1.ckpt"], [f"SoVITS_weights{root}/a_e1_s9{rank}.pth"])
    gpt, sovits = pair(found, "a")
    assert gpt.version == sovits.version == version
    assert (sovits.epoch, sovits.step) == (1, 9)


@pytest.mark.parametrize("name", ["alice-e15", "a_e1_s2", "爱莉希雅2.0", "two words", "a'b\"c", "-x", "a.ckpt"])
def test_names_of_voices_may_look_like_anything(tmp_path, name):
    found = weights(tmp_path, [f"GPT_weights/{name}-e3.ckpt"], [f"SoVITS_weights/{name}_e2_s8.pth"])
    assert found.names() == [name]
    assert pair(found, name)[0].epoch == 3


def test_a_renamed_file_counts_where_no_other_does(tmp_path):
    found = weights(
        tmp_path, ["GPT_weights/alice.ckpt"], ["SoVITS_weights/alice.pth", "SoVITS_weights/alice_e2_s8.pth"]
    )
    assert [one.path.name for one in pair(found, "alice")] == ["alice.ckpt", "alice_e2_s8.pth"]


def test_two_versions_are_not_guessed_between(tmp_path):
    files = [(f"GPT_weights_{v}/alice-e1.ckpt", f"SoVITS_weights_{v}/alice_e1_s1.pth") for v in ("v2", "v4")]
    found = weights(tmp_path, [one for one, _ in files], [one for _, one in files])
    assert found.versions("alice") == ["v2", "v4"]
    with pytest.raises(InputError, match="2 versions: v2, v4") as failure:
        pair(found, "alice")
    assert failure.value.fix == "say which: --version v4"
    assert pair(found, "alice", "v2")[1].version == "v2"
    with pytest.raises(InputError, match="no pair of a GPT and a SoVITS file of v1"):
        pair(found, "alice", "v1")


def test_halves_of_two_versions_are_no_pair(tmp_path):
    found = weights(tmp_path, ["GPT_weights_v3/alice-e1.ckpt"], ["SoVITS_weights_v4/alice_e1_s1_l32.pth"])
    assert found.names() == ["alice"]
    with pytest.raises(InputError, match="no pair") as failure:
        pair(found, "alice")
    assert "GPT_weights_v3/alice-e1.ckpt, SoVITS_weights_v4/alice_e1_s1_l32.pth" in failure.value.problems[0]


def test_an_unknown_name_is_answered_with_the_near_ones(tmp_path):
    found = weights(tmp_path, ["GPT_weights/alice-e1.ckpt"], ["SoVITS_weights/alice_e1_s1.pth"])
    with pytest.raises(InputError, match="did you mean 'alice'"):
        pair(found, "alcie")


def test_another_folder_is_told_from_one_of_gpt_sovits(tmp_path):
    with pytest.raises(InputError, match="no folder of GPT-SoVITS") as failure:
        look(tmp_path)
    assert "webui.py" in failure.value.fix


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    folder, elsewhere = tmp_path / "g", tmp_path / "elsewhere"
    touch(elsewhere / "alice-e1.ckpt")
    touch(elsewhere / "alice_e1_s1.pth")
    touch(folder / "GPT_weights" / "own-e1.ckpt")
    (folder / "GPT_weights" / "alice-e1.ckpt").symlink_to(elsewhere / "alice-e1.ckpt")
    (folder / "GPT_weights" / "same-e1.ckpt").symlink_to("own-e1.ckpt")
    (folder / "SoVITS_weights").symlink_to(elsewhere)
    found = look(folder)
    assert [one.name for one in found.gpt] == ["own", "same"]  # a link that stays inside is a file like any other
    assert found.sovits == ()
    assert len(found.passed) == 2
    assert all("leads out of" in told for told in found.passed)


def test_what_is_no_file_is_passed_over(tmp_path):
    touch(tmp_path / "GPT_weights" / "alice-e1.ckpt")
    (tmp_path / "GPT_weights" / "folder-e1.ckpt").mkdir()
    os.mkfifo(tmp_path / "GPT_weights" / "pipe-e1.ckpt")
    (tmp_path / "GPT_weights" / "nowhere-e1.ckpt").symlink_to("gone")
    found = look(tmp_path)
    assert [one.name for one in found.gpt] == ["alice"]
    assert {told.rpartition("/")[2] for told in found.passed} == {
        "folder-e1.ckpt is no regular file",
        "pipe-e1.ckpt is no regular file",
    }


def test_a_folder_of_endless_entries_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(upstream, "_MOST_ENTRIES", 3)
    for number in range(4):
        touch(tmp_path / "GPT_weights" / f"a-e{number}.ckpt")
    with pytest.raises(InputError, match="more than 3 entries"):
        look(tmp_path)


@pytest.mark.parametrize(
    ("phones", "language"),
    [
        ("HH AH0 L OW1 .", "en"),
        ("N . T", "en"),
        ("n i2 h ao3 ,", "zh"),
        ("n i2 AH0 .", "zh"),
        ("E2 .", "zh"),
        ("k o N n i ch i w a", "ja"),
        ("Yn Yei5 Yh You2", "yue"),
        ("ㅇ ㅏ ㄴ", "ko"),
        (". , SP2", None),
    ],
)
def test_phones_tell_a_language(tmp_path, phones, language):
    trained.lay_logs(tmp_path, sentences={"a.wav": ("what it says", 0.5)}, phones=phones)
    assert recordings(tmp_path, "alice")[0][0].language == language


def test_a_list_beside_the_recordings_has_the_text_as_it_was_written(tmp_path):
    trained.lay_logs(tmp_path, sentences={"a.wav": ("in nineteen ninety", 0.5), "b.wav": ("two", 0.5)})
    (tmp_path / "logs" / "alice" / "all.list").write_text(
        "D:\\voices\\a.wav|alice|EN|In 1990!\n/home/me/c.wav|alice|EN|not there\nbroken line\n", encoding="utf-8"
    )
    found, passed = recordings(tmp_path, "alice")
    assert [(one.path.name, one.text, one.language) for one in found] == [
        ("a.wav", "In 1990!", "en"),
        ("b.wav", "two", "en"),
    ]
    assert passed == []


@pytest.mark.parametrize("place", ["logs/alice/x.list", "output/asr_opt/slicer_opt.list"])
@pytest.mark.parametrize(("told", "language"), [("JP", "ja"), ("ja", "ja"), ("ZH", "zh"), ("YUE", "yue"), ("RU", None)])
def test_a_list_alone_serves_as_well(tmp_path, place, told, language):
    trained.lay_logs(tmp_path, sentences={"a.wav": ("x", 0.2)}, table=False)
    touch(tmp_path / place, f"a.wav|alice|{told}|こんにちは|あ\n".encode())
    (found,) = recordings(tmp_path, "alice")[0]
    assert (found.text, found.language) == ("こんにちは|あ", language)


@pytest.mark.parametrize(
    "wav",
    ["../../../secret.wav", "/etc/passwd", "..", ".", "", "a\\..\\..\\b.wav", "x" * 300, "nul\0.wav", "5-wav32k/a.wav"],
)
def test_a_table_names_nothing_outside_of_its_recordings(tmp_path, wav):
    trained.sound(tmp_path / "secret.wav", 4)
    trained.lay_logs(tmp_path, sentences={"a.wav": ("fine", 0.2)})
    with open(tmp_path / "logs" / "alice" / "2-name2text.txt", "a", encoding="utf-8") as table:
        table.write(f"{wav}\t{trained.ENGLISH}\tNone\twrong\n")
    assert [one.text for one in recordings(tmp_path, "alice")[0]] == ["fine"]


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "..\\x", "/etc"])
def test_a_voice_is_one_part_of_a_path(tmp_path, name):
    trained.lay_logs(tmp_path)
    assert recordings(tmp_path / "logs", name) == ([], [])


def test_texts_that_nobody_would_read_out_are_passed_over(tmp_path):
    trained.lay_logs(
        tmp_path, sentences={"a.wav": ("fine", 0.2), "b.wav": ("\x1b[2Jgone", 0.2), "c.wav": ("x" * 501, 0.2)}
    )
    assert [one.text for one in recordings(tmp_path, "alice")[0]] == ["fine"]


def test_tables_and_recordings_that_are_none_are_told_of(tmp_path):
    place = tmp_path / "logs" / "alice"
    trained.lay_logs(tmp_path, sentences={"a.wav": ("one", 0.2), "b.wav": ("two", 0.2), "c.wav": ("three", 0.2)})
    (place / "5-wav32k" / "b.wav").unlink()
    os.mkfifo(place / "5-wav32k" / "b.wav")
    (place / "5-wav32k" / "c.wav").unlink()
    (place / "5-wav32k" / "c.wav").symlink_to("/etc/passwd")
    found, passed = recordings(tmp_path, "alice")
    assert [one.text for one in found] == ["one"]
    assert len(passed) == 2
    with open(place / "2-name2text.txt", "r+b") as table:
        table.truncate(1 << 40)  # a terabyte that takes no room
    found, passed = recordings(tmp_path, "alice")
    assert found == []
    assert "at most 33554432 are read" in passed[0]


def test_a_recording_is_suggested_that_can_be_spoken_like(tmp_path):
    trained.lay_logs(tmp_path)
    place = tmp_path / "logs" / "alice" / "5-wav32k"
    with open(place.parent / "2-name2text.txt", "a", encoding="utf-8") as table:
        for wav in ("loud.wav", "silent.wav", "none.wav"):
            table.write(f"{wav}\t{trained.ENGLISH}\tNone\tHello.\n")
    trained.sound(place / "silent.wav", 6, level=1e-4)
    touch(place / "none.wav", b"RIFF" + bytes(6 * 64_000))
    import numpy as np
    import soundfile

    soundfile.write(place / "loud.wav", np.clip(np.sin(np.arange(6 * 32000) / 30) * 4, -1, 1), 32000)
    found = recordings(tmp_path, "alice")[0]
    assert len(found) == 6
    assert [one.path.name for one in suggested(found, 5)] == ["b.wav", "a.wav"]


def test_networks_are_found_where_upstream_puts_them(tmp_path):
    for name in (*upstream.NETWORKS.values(), *upstream.VOCODERS.values(), *upstream.BASES.values()):
        touch(tmp_path / (name if name.endswith((".pth", ".ckpt")) else f"{name}/config.json"))
    found, passed = networks(tmp_path, "v4")
    assert {key: str(path.relative_to(tmp_path)) for key, path in found.items()} == {
        "hubert": "chinese-hubert-base",
        "bert": "chinese-roberta-wwm-ext-large",
        "speaker": "sv/pretrained_eres2netv2w24s4ep4.ckpt",
        "vocoder": "gsv-v4-pretrained/vocoder.pth",
        "base": "gsv-v4-pretrained/s2Gv4.pth",
    }
    assert networks(tmp_path, "v2")[0].keys() == {"hubert", "bert", "speaker"}
    assert passed == []
    (tmp_path / "chinese-hubert-base" / "pytorch_model.bin").symlink_to("/etc/passwd")
    found, passed = networks(tmp_path, "v4")
    assert "hubert" not in found
    assert "leads out of" in passed[0]
