"""`gsvexport init`, with a folder as upstream's training leaves it, and in strange ones."""

import os
import pickle
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
import zipfile

import pytest
import trained
from building import ROOT
from conformance import conformance

from gsvexport import cli
from gsvexport.voice import upstream
from gsvexport.voice.voice import read_voice

VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4")


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """A folder of GPT-SoVITS for a version, made once and never written to."""
    made = {}

    def make(version):
        if version not in made:
            made[version] = trained.lay_out(tmp_path_factory.mktemp(version) / "GPT-SoVITS", version)
        return made[version]

    return make


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command in a pipe, in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    for place in ("cli.init", "cli.ask"):
        monkeypatch.setattr(f"gsvexport.{place}.terminal", lambda: False)

    def call(*arguments):
        code = cli.run(["init", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def copied(laid, version, tmp_path):
    """A folder of one's own, of links to files: nothing is read twice and nothing is spoilt."""
    target = tmp_path / "GPT-SoVITS"
    shutil.copytree(laid(version), target, copy_function=os.link)
    return target


@pytest.mark.parametrize("version", VERSIONS)
def test_a_trained_voice_is_found_whole(run, laid, tmp_path, version):
    folder = laid(version)
    code, out, err = run("--from", folder, "alice")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "  gsvexport --target x86-64-int8 voices/alice"
    assert "(epoch 15 of 5, 15)" in out
    assert "(epoch 8 of 4, 8)" in out
    assert "b.wav  (6.5 s, " in out
    voice = read_voice(tmp_path / "voices" / "alice")
    assert (voice.name, voice.language, voice.version) == ("alice", "en", version)
    assert voice.gpt.path.name == "alice-e15.ckpt"
    assert voice.sovits.path.name.startswith("alice_e8_s96")
    assert voice.reference.text == "It is a long way home."
    assert f"({len(voice.reference.phones)} phones)" in out
    assert voice.notes == ()


@pytest.mark.parametrize("version", ["v2", "v2Pro", "v4"])
def test_two_files_and_a_recording_are_enough(run, laid, tmp_path, version):
    folder = laid(version)
    gpt = folder / trained.weights("GPT", version) / "alice-e5.ckpt"
    sovits = next((folder / trained.weights("SoVITS", version)).glob("alice_e4*"))
    reference = trained.sound(tmp_path / "ref.wav", 4)
    code, out, _ = run(
        *(gpt, sovits, "--reference", reference, "--text", "Good morning.", "-o", tmp_path / "voices" / "bob"),
        *("--pretrained", folder / upstream.PRETRAINED),
    )
    assert code == 0
    assert out.splitlines()[-1] == f"  gsvexport --target x86-64-int8 {tmp_path}/voices/bob"
    voice = read_voice(tmp_path / "voices" / "bob")
    assert (voice.name, voice.version, voice.reference.text) == ("bob", version, "Good morning.")
    assert 'audio = "../../ref.wav"' in (tmp_path / "voices" / "bob" / "voice.toml").read_text()


MISSING = [
    *((version, "chinese-hubert-base", "HuBERT") for version in ("v1", "v4")),
    ("v2Pro", "sv/pretrained_eres2netv2w24s4ep4.ckpt", "speaker network"),
    *((version, upstream.VOCODERS[version], "vocoder") for version in ("v3", "v4")),
    *((version, upstream.BASES[version], "base of this LoRA") for version in ("v3", "v4")),
]


@pytest.mark.parametrize(("version", "name", "told"), MISSING)
def test_a_missing_network_comes_with_the_command_that_gets_it(run, laid, tmp_path, version, name, told):
    folder = copied(laid, version, tmp_path)
    place = folder / upstream.PRETRAINED / name
    is_file = place.is_file()
    place.rename(tmp_path / "aside")
    code, _, err = run("--from", "GPT-SoVITS", "alice")
    assert code == 3
    assert "voices/alice/voice.toml is written, but cannot be built yet" in err
    assert len(re.findall("^  - ", err, re.MULTILINE)) == 1
    assert f"missing: {told}" in err.replace("the ", "")
    getting, again, build = [line.removeprefix("  fix:").strip() for line in err.splitlines()[-3:]]
    words = shlex.split(getting)
    assert words[:4] == ["hf", "download", "lj1995/GPT-SoVITS", "--include"]
    assert words[4].removesuffix("/*" if not is_file else "") == name
    assert f"--local-dir GPT-SoVITS/{upstream.PRETRAINED} " in getting
    assert again == "gsvexport init alice --from GPT-SoVITS --force"
    assert build == "gsvexport --target x86-64-int8 voices/alice"
    assert "# missing" in (tmp_path / "voices/alice/voice.toml").read_text()
    (tmp_path / "aside").rename(place)  # it was got
    code, _, err = run(*shlex.split(again)[2:])
    assert (code, err) == (0, "")
    assert "# missing" not in (tmp_path / "voices/alice/voice.toml").read_text()
    assert read_voice(tmp_path / "voices" / "alice").version == version


def test_everything_that_is_missing_or_wrong_is_told_at_once(run, tmp_path):
    trained.lay_weights(tmp_path / "g", "v4")
    reference = trained.sound(tmp_path / "r.wav", 1.5)
    code, _, err = run("--from", "g", "alice", "--reference", reference)
    assert code == 3
    assert [line[4:40] for line in err.splitlines() if line.startswith("  - ")] == [
        "missing: the base of this LoRA, upst",
        "missing: the vocoder that upstream o",
        "missing: what is said in the recordi",
        "missing: the voice's language: zh, y",
        "missing: HuBERT, which makes prompt ",
    ]
    assert '--text "…" --language en --force' in err
    code, _, err = run("--from", "g", "alice", "--reference", reference, "--text", "Hello.", "--force")
    assert "lasts 1.50 s; prompt codes are made of 3 to 10 s" in err
    assert "missing: HuBERT" in err
    code, _, err = run("--from", "g", "alice", "--force")
    assert "missing: a recording" in err
    assert "--reference FILE.wav" in err


@pytest.mark.parametrize(
    ("seconds", "level", "text", "told"),
    [
        (1.5, 0.3, "Hello.", "lasts 1.50 s"),
        (12.0, 0.3, "Hello.", "lasts 12.00 s"),
        (61.0, 0.3, "Hello.", "too long for a reference"),
        (4.0, 1e-4, "Hello.", "is silent"),
        (4.0, 0.3, "안녕", "python-mecab-ko|ko"),
    ],
)
def test_a_recording_that_a_build_would_refuse_is_refused(run, laid, tmp_path, monkeypatch, seconds, level, text, told):
    monkeypatch.setitem(sys.modules, "mecab", None)
    reference = trained.sound(tmp_path / "r.wav", seconds, level)
    code, _, err = run("--from", laid("v2"), "alice", "--reference", reference, "--text", text)
    assert code == 3
    assert re.search(told, err)
    assert err.splitlines()[-1].strip().removeprefix("fix:   ") == "gsvexport --target x86-64-int8 voices/alice"


def test_a_recording_without_its_text_makes_a_voice_without_a_prompt(run, laid, tmp_path):
    reference = trained.sound(tmp_path / "r.wav", 12)
    code, out, _ = run("--from", laid("v2"), "alice", "--reference", reference, "--language", "ja")
    assert code == 0
    assert "prompt-free" in out
    assert "lasts 12.0 s" in out
    assert read_voice(tmp_path / "voices" / "alice").language == "ja"


def test_a_recording_that_it_was_trained_with_brings_its_text(run, laid):
    folder = laid("v2")
    code, out, _ = run("--from", folder, "alice", "--reference", folder / "logs/alice/5-wav32k/a.wav")
    assert code == 0
    assert "Hello there." in out


@pytest.mark.parametrize(
    ("phones", "text", "language"),
    [
        ("n i2 h ao3", "你好，今天天气很好。", "zh"),
        ("Yn Yei5", "你好，今日天氣好好。", "yue"),
        ("k o N n i", "今日は良い天気です。", "ja"),
    ],
)
def test_its_language_is_that_of_its_phones(run, tmp_path, phones, text, language):
    trained.lay_weights(tmp_path / "g", "v2")
    trained.lay_logs(tmp_path / "g", sentences={"a.wav": (text, 5.0)}, phones=phones)
    trained.lay_networks(tmp_path / "g" / upstream.PRETRAINED, "v2", bert=language == "zh")
    code, _, err = run("--from", "g", "alice")
    assert (code, err) == (0, "")
    voice = read_voice(tmp_path / "voices" / "alice")
    assert (voice.language, voice.reference.language) == (language, language)
    assert ("bert" in voice.pretrained.stages) == (language == "zh")
    assert run("--from", "g", "alice", "--language", "en", "-o", "other")[0] == 0
    assert read_voice(tmp_path / "other").language == "en"
    assert read_voice(tmp_path / "other").reference.language == language


def test_mandarin_without_bert_is_told_of(run, tmp_path, laid):
    reference = trained.sound(tmp_path / "r.wav", 4)
    code, out, _ = run("--from", laid("v2"), "alice", "--reference", reference, "--text", "你好。")
    assert code == 0
    assert "note: without BERT" in out


def test_a_voice_of_two_versions_is_asked_about_in_words(run, laid, tmp_path):
    folder = copied(laid, "v2", tmp_path)
    trained.lay_weights(folder, "v1")
    code, _, err = run("--from", folder, "alice")
    assert code == 2
    assert "2 versions: v1, v2" in err
    assert run("--from", folder, "alice", "--version", "v1")[0] == 0
    assert read_voice(tmp_path / "voices" / "alice").version == "v1"


def test_without_a_name_the_only_voice_is_taken_and_others_are_listed(run, laid, tmp_path):
    folder = copied(laid, "v2", tmp_path)
    assert run("--from", folder)[0] == 0
    trained.lay_weights(folder, "v2", "bob")
    code, _, err = run("--from", folder, "-o", "v")
    assert code == 2
    assert "limit: alice, bob" in err


def test_where_nothing_in_a_file_tells_v3_from_v4_its_folder_does_or_its_owner(run, tmp_path, monkeypatch):
    monkeypatch.setattr("gsvexport.voice.version._config_versions", lambda _: [])
    data = conformance("v4").folder
    shutil.copy(data / "base.pth", tmp_path / "alice_e1_s1.pth")  # whole, without a header, of no known model
    arguments = (data / "gpt.ckpt", tmp_path / "alice_e1_s1.pth", "-o", "v")
    code, _, err = run(*arguments)
    assert code == 3
    assert "say which: --version v3, or --version v4" in err
    assert not (tmp_path / "v").exists()
    assert "missing: the vocoder that upstream offers for v4" in run(*arguments, "--version", "v4")[2]
    code, _, err = run(*arguments, "--version", "v2", "--force")
    assert code == 3
    assert "say which: --version v3, or --version v4" in err
    folder = tmp_path / "g" / "SoVITS_weights_v3"
    folder.mkdir(parents=True)
    (tmp_path / "alice_e1_s1.pth").rename(folder / "alice_e1_s1.pth")
    (tmp_path / "g" / "GPT_weights_v3").mkdir()
    shutil.copy(data / "gpt.ckpt", tmp_path / "g" / "GPT_weights_v3" / "alice-e1.ckpt")
    assert "offers for v3" in run("--from", "g", "alice")[2]


def test_a_version_that_the_files_are_not_of_is_refused(run, tmp_path):
    data = conformance("v2").folder
    code, _, err = run(data / "gpt.ckpt", data / "sovits.pth", "--version", "v1", "-o", "v")
    assert code == 3
    assert "--version says v1, but the tensors are those of v2" in err
    assert "leave --version out" in err
    assert not (tmp_path / "v").exists()


def test_files_of_two_voices_are_no_voice(run, tmp_path):
    code, _, err = run(conformance("v1").folder / "gpt.ckpt", conformance("v2").folder / "sovits.pth", "-o", "v")
    assert code == 3
    assert "a GPT file of v1 with a SoVITS file of v2" in err
    assert not (tmp_path / "v").exists()


def test_swapped_files_are_told_of_with_the_right_command(run):
    data = conformance("v2").folder
    code, _, err = run(data / "sovits.pth", data / "gpt.ckpt")
    assert code == 2
    assert f"gsvexport init {data}/gpt.ckpt {data}/sovits.pth" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "a voice is made of two files, and 0 were given"),
        (("a.ckpt",), "and 1 was given"),
        (("a.ckpt", "b.pth"), "there is no file at a.ckpt"),
        (("--from", "nowhere", "x"), "there is no folder at nowhere"),
        (("--from", ".", "x"), "no folder of GPT-SoVITS"),
        (("--from", ".", "x", "y"), "takes one NAME"),
        (("a.ckpt", "b.pth", "--gpt-epoch", "3"), "an epoch is chosen in a folder"),
        (("a.ckpt", "b.pth", "--reference", "no.wav"), "there is no file at no.wav"),
        (("a.ckpt", "b.pth", "--text", " "), "it is empty"),
        (("a.ckpt", "b.pth", "--language", "fr"), "'fr' is not one of"),
    ],
)
def test_wrong_arguments_are_told_of(run, arguments, told):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_networks_for_other_versions_are_refused(run, laid, tmp_path):
    (tmp_path / "x").touch()
    for option in ("base", "vocoder", "speaker"):
        code, _, err = run("--from", laid("v2"), "alice", f"--{option}", "x")
        assert code == 2
        assert f"leave out --{option}" in err


def test_a_name_that_files_cannot_have_is_asked_for(run, laid, tmp_path):
    folder = copied(laid, "v2", tmp_path)
    for kind, ending in (("GPT", "-e1.ckpt"), ("SoVITS", "_e1_s1.pth")):
        place = folder / trained.weights(kind, "v2")
        shutil.copy(next(place.iterdir()), place / f"爱莉{ending}")
    (folder / "logs" / "alice").rename(folder / "logs" / "爱莉")
    code, _, err = run("--from", folder, "爱莉")
    assert code == 2
    assert "--name" in err
    assert run("--from", folder, "爱莉", "--name", "elysia")[0] == 0
    assert read_voice(tmp_path / "voices" / "elysia").name == "elysia"


def test_a_voice_that_exists_is_not_replaced_and_nothing_is_read_first(run, laid, tmp_path, monkeypatch):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "voice.toml").write_text("mine")
    monkeypatch.setattr("gsvexport.voice.draft.read_checkpoint", lambda _: pytest.fail("read"))
    code, _, err = run("--from", laid("v2"), "alice", "-o", "v")
    assert code == 2
    assert "--force" in err
    assert (tmp_path / "v" / "voice.toml").read_text() == "mine"


def test_copies_make_a_folder_that_can_be_moved(run, laid, tmp_path):
    folder = copied(laid, "v2Pro", tmp_path)
    assert run("--from", folder, "alice", "--copy", "-o", "v")[0] == 0
    assert {path.name for path in (tmp_path / "v").iterdir()} == {
        "voice.toml",
        "gpt.ckpt",
        "sovits.pth",
        "reference.wav",
    }
    before = read_voice(tmp_path / "v")
    shutil.rmtree(folder / "logs")
    shutil.rmtree(folder / "GPT_weights_v2Pro")
    (tmp_path / "v").rename(tmp_path / "w")  # beside: the networks are where they were
    after = read_voice(tmp_path / "w")
    assert after.provenance == before.provenance


class Evil:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_nothing_in_a_file_is_run(run, tmp_path):
    shutil.copy(conformance("v2").folder / "gpt.ckpt", tmp_path / "a.ckpt")
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Evil(f"touch {tmp_path}/pwned"), "config": {}}, 2))
    code, _, err = run("a.ckpt", "a.pth", "-o", "v")
    assert code == 3
    assert "it can run code" in err
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "v").exists()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["pipe", "folder", "huge", "empty", "device", "text"])
def test_files_that_are_none_are_refused_at_once(run, tmp_path, what):
    path = tmp_path / "b.pth"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "huge":
        with open(path, "wb") as stream:
            stream.write(b"PK\x03\x04")
            stream.truncate(1 << 42)
    elif what == "device":
        path = "/dev/zero"
    else:
        path.write_text("" if what == "empty" else "no weights")
    code, out, err = run(conformance("v2").folder / "gpt.ckpt", path, "-o", "v")
    assert code == 3
    assert str(path) in err
    assert not (tmp_path / "v").exists()
    assert out == ""


def test_names_cannot_steer_the_terminal(run, tmp_path):
    name = "al\x1b[2Jice\n"
    trained.lay_weights(tmp_path / "g", "v2", name)
    trained.lay_logs(tmp_path / "g", name)
    code, out, err = run("--from", "g", name, "--name", "alice")
    assert code == 3  # there is no HuBERT
    assert "\x1b" not in out + err
    assert "al\\x1b[2Jice" in out
    run("--from", "g", name, "--name", "alice", "--force", "--pretrained", "p")
    trained.lay_networks(tmp_path / "p", "v2")
    assert run("--from", "g", name, "--name", "alice", "--force", "--pretrained", "p")[0] == 0
    assert read_voice(tmp_path / "voices" / "alice").gpt.path.name == f"{name}-e15.ckpt"


def test_links_out_of_the_folder_are_told_of_and_not_read(run, laid, tmp_path):
    folder = copied(laid, "v2", tmp_path)
    network = folder / upstream.PRETRAINED / "chinese-hubert-base"
    network.rename(tmp_path / "hubert")
    network.symlink_to(tmp_path / "hubert")
    code, out, _ = run("--from", folder, "alice")
    assert code == 3
    assert "chinese-hubert-base is a link that leads out of" in out
    assert run("--from", folder, "alice", "--force", "--hubert", "hubert")[0] == 0  # named, it is followed


def test_the_artifact_of_a_voice_that_was_begun_so_can_be_built(run, laid, tmp_path):
    from gsvexport.compiler.inputs import open_voice

    run("--from", laid("v2"), "alice")
    assert open_voice(tmp_path / "voices" / "alice").subject.baked


def test_its_help_teaches(capsys):
    assert cli.run(["init", "--help"]) == 0
    told = capsys.readouterr().out
    for words in ("Examples:", "--from GPT-SoVITS/ alice", "Nothing is downloaded", "Exit code 0"):
        assert words in told


def environment(tmp_path):
    return {**os.environ, "GSVEXPORT_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT), "TERM": "dumb"}


def test_in_a_pipe_nothing_is_asked_and_nothing_is_read(tmp_path, laid):
    """Standard input stays open and empty: whoever read it would wait for ever."""
    folder = copied(laid, "v2", tmp_path)
    shutil.rmtree(folder / "logs")
    command = [sys.executable, "-m", "gsvexport", "init", "--from", str(folder), "alice"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.read()
        err = process.stderr.read()
        assert process.wait(60) == 3
    assert b"missing: a recording" in err
    assert b"missing: what is said" in err
    assert b"gsvexport --target" in err.splitlines()[-1]


def typed(tmp_path, arguments, answers, seconds=60):
    """Runs the command on a terminal; each answer is typed once its question is there. Returns (exit code, screen)."""
    process, master = pytest.importorskip("pty").fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "gsvexport", "init", *arguments], environment(tmp_path))
    screen, left, end = b"", list(answers), time.monotonic() + seconds
    while time.monotonic() < end:
        ready, _, _ = select.select([master], [], [], 0.5)
        if ready:
            try:
                data = os.read(master, 4096)
            except OSError:
                break
            if not data:
                break
            screen += data
        if left and left[0][0].encode() in screen:
            os.write(master, left.pop(0)[1].encode() + b"\n")
    os.close(master)
    assert not left, screen.decode()
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), screen.decode()


def test_on_a_terminal_what_is_missing_is_asked_for(tmp_path, laid):
    folder = copied(laid, "v2", tmp_path)
    trained.lay_weights(folder, "v2", "bob")
    trained.lay_weights(folder, "v1", "bob")
    trained.sound(tmp_path / "my ref.wav", 4)
    code, screen = typed(
        tmp_path,
        ["--from", str(folder)],
        [
            ("Which voice? [1]", "7"),
            ("a number from 1 to 2", "2"),
            ("Which one? [1]", "2"),
            ("Enter for none)", "nowhere.wav"),
            ("there is no file at nowhere.wav", "my ref.wav"),
            ("What is said in it", "Good morning."),
        ],
    )
    assert code == 0, screen
    voice = read_voice(tmp_path / "voices" / "bob")
    assert (voice.version, voice.reference.text, voice.language) == ("v2", "Good morning.", "en")


def test_on_a_terminal_a_recording_is_chosen(tmp_path, laid):
    code, screen = typed(
        tmp_path, ["--from", str(laid("v2")), "alice"], [("Which recording shall it speak like? [1]", "2")]
    )
    assert code == 0, screen
    assert "6.5 s  It is a long way home." in screen
    assert read_voice(tmp_path / "voices" / "alice").reference.text == "Hello there."


def test_ctrl_c_at_a_question_leaves_nothing(tmp_path, laid):
    code, screen = typed(tmp_path, ["--from", str(laid("v2")), "alice"], [("Which recording", "\x03")])
    assert code == 130, screen
    assert not (tmp_path / "voices").exists()
