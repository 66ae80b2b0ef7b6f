import json
import os
import signal
import subprocess
import sys
import time
import wave

import pytest
from building import ROOT, gsvexport, start

from gsvexport import cli
from gsvexport.artifact import container
from gsvexport.demo import demo_voice, sentences


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def demo(cache):
    done = gsvexport(cache, "--target", "x86-64", "-o", cache / "dist")
    assert done.returncode == 0, done.stderr
    assert "source: building the graphs" in done.stderr
    return cache / "dist" / "demo-x86-64.gsv"


def phones(number=0):
    return " ".join(map(str, sentences()[number].phones))


def test_help_teaches_and_comes_at_once(cache):
    start_time = time.monotonic()
    done = gsvexport(cache, "--help")
    assert time.monotonic() - start_time < 1.5  # the process start included
    assert done.returncode == 0
    for word in ("Examples:", "Exit codes:", "--target NAME [VOICE]", *cli_commands()):
        assert word in done.stdout
    assert gsvexport(cache).stdout == done.stdout


def cli_commands():
    from gsvexport.cli.commands import cli as group

    return list(group.commands)


def test_only_commands_that_work_are_listed(cache):
    assert cli_commands() == [
        "build",
        "init",
        "slim",
        "targets",
        "plan",
        "source",
        "verify",
        "finalize",
        "inspect",
        "compare",
        "listen",
        "say",
        "phrases",
        "serve",
        "bench",
        "cache",
        "doctor",
        "bake",
        "unpack",
        "release",
        "key",
        "sign",
        "publish",
        "withdraw",
        "pull",
        "gc",
        "onboard",
    ]
    for name in cli_commands():
        done = gsvexport(cache, name, "--help")
        assert done.returncode == 0
        assert "Usage: gsvexport" in done.stdout


def test_help_imports_nothing_heavy(cache):
    code = "import sys; from gsvexport import cli; cli.run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"numpy", "onnx", "onnxruntime", "torch"} & set(done.stderr.split())


def test_the_version_is_told(cache):
    assert gsvexport(cache, "--version").stdout.startswith("gsvexport ")


def test_the_demo_voice_speaks(demo, cache, tmp_path):
    done = gsvexport(cache, "say", demo, "--phones", phones(), "-o", tmp_path / "a.wav", "--seed", 1)
    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert sound.getframerate() == 32000
        assert 1 < sound.getnframes() / 32000 < 6
    again = gsvexport(cache, "say", demo, "--phones", phones(), "-o", tmp_path / "b.wav", "--seed", 1)
    assert again.returncode == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_demo_voice_says_a_text(demo, cache, tmp_path):
    done = gsvexport(cache, "say", demo, "Good morning. It is 7:30.", "-o", tmp_path / "a.wav", "--threads", 1)
    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert 1.5 < sound.getnframes() / 32000 < 8


def test_say_takes_names_of_phones_and_settings(demo, cache, tmp_path):
    options = ("--greedy", "--no-prompt", "--speed", 1.2, "--noise-scale", 0, "--max-tokens", 30, "--threads", 1)
    done = gsvexport(cache, "say", demo, "--phones", "G UH1 D D EY1 .", "-o", tmp_path / "a.wav", *options)
    assert done.returncode == 0, done.stderr
    assert "at 32000 Hz" in done.stdout


def test_say_names_what_ran_away_and_still_speaks(demo, cache, tmp_path):
    for more in ((), ("--stream",), ("--retry",)):
        options = ("-o", tmp_path / "a.wav", "--max-tokens", 12, "--threads", 1, "--force", *more)
        done = gsvexport(cache, "say", demo, "--phones", phones(), *options)
        assert done.returncode == 0, done.stderr
        assert "warning: it did not end by itself: the limit of 12 codes cut it off" in done.stderr
        assert "warning" not in done.stdout
    done = gsvexport(cache, "say", demo, "--phones", phones(), *options, "--stream")
    assert done.returncode == 2
    assert "--ahead 0" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["Hello \u4f60"], 2, "cjk unified ideograph-4f60"),
        (["..."], 2, "no sound"),
        (["--phones", "HH AH9"], 2, "unknown phone 'AH9'; did you mean AH"),
        (["--phones", "5 9999"], 2, "9999"),
        (["--phones", " "], 2, "nothing to say"),
        (["Hello", "--phones", "HH"], 2, "give one of them"),
        (["--phones", "HH", "--speed", "0"], 2, "speed"),
        (["--phones", "HH", "--top-k", "-3"], 2, "top_k"),
        (["--phones", "HH", "--threads", "0"], 2, "--threads"),
    ],
)
def test_what_say_cannot_do_is_one_message_and_no_file(demo, cache, tmp_path, arguments, code, says):
    done = gsvexport(cache, "say", demo, "-o", tmp_path / "a.wav", *arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.wav").exists()


def test_an_existing_wav_is_not_replaced_unasked(demo, cache, tmp_path):
    (tmp_path / "a.wav").write_text("mine")
    done = gsvexport(cache, "say", demo, "--phones", "HH", "-o", tmp_path / "a.wav")
    assert done.returncode == 2
    assert (tmp_path / "a.wav").read_text() == "mine"


def test_verify_shows_a_table_or_json(demo, cache):
    done = gsvexport(cache, "verify", demo)
    assert done.returncode == 0, done.stderr
    assert "vocoder" in done.stdout
    assert "passed" in done.stdout
    report = json.loads(gsvexport(cache, "verify", demo, "--json", "-q").stdout)
    assert report["passed"] is True


def test_verify_compares_with_a_source_when_it_is_given(demo, cache, tmp_path):
    assert gsvexport(cache, "source", "-o", tmp_path / "source", "-q").returncode == 0
    assert (tmp_path / "source" / "NOTICE").is_file()
    done = gsvexport(cache, "verify", demo, "--source", tmp_path / "source", "-q")
    assert done.returncode == 0, done.stderr
    assert "free_run" in done.stdout
    again = gsvexport(cache, "source", "-o", tmp_path / "source")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_page_is_made_and_a_made_up_panel_judges_it(demo, cache, tmp_path):
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    made = gsvexport(cache, "listen", demo, "--reference", demo, "--count", 5, "-o", page, "-q")
    assert made.returncode == 0, made.stderr
    assert "MB" in made.stdout
    key = json.loads((tmp_path / "page.html.key.json").read_text())
    of = [key["conditions"][one["condition"]]["role"] for one in key["sounds"]]
    assert key["conditions"][3]["digest"] == container.read_manifest(demo).digest
    for good, code in ((True, 0), (False, 5)):
        mos = {"reference": 5, "anchor": 1, "artifact": 5 if good else 3}
        for rater in range(12):
            value = {
                "kind": "gsvexport-listening-results",
                "schema": 1,
                "test": key["test"],
                "rater": f"made-up-{rater}",
                "seconds": 1,
                "mushra": [[[one, 20 * mos[of[one]]] for one in scale["rated"]] for scale in key["mushra"]],
                "mos": [[one, mos[of[one]]] for one in key["mos"]],
                "abx": [{"trial": number, "x": "a", "answer": "b"} for number in range(len(key["abx"]))],
            }
            (tmp_path / f"r{rater}.json").write_text(json.dumps(value))
        done = gsvexport(cache, "listen", "--results", *sorted(tmp_path.glob("r*.json")), "-o", scores, "--force")
        assert done.returncode == code, done.stderr
        assert "12 raters count" in done.stdout
        shown = gsvexport(cache, "inspect", demo, "--heard", scores)
        assert "judged on human scores: 60 pairs" in shown.stdout, shown.stderr
        compared = gsvexport(cache, "compare", demo, demo, "--heard", scores)
        assert compared.returncode == code
        assert "human scores" in compared.stdout
    verified = gsvexport(cache, "verify", demo, "--heard", scores, "-q")
    assert verified.returncode == 5
    assert "mos_fall" in verified.stdout
    assert gsvexport(cache, "listen", demo, "-o", tmp_path / "other.html").returncode == 2
    assert gsvexport(cache, "listen", demo, demo, "--reference", demo, "-o", tmp_path / "o.html").returncode == 2


def test_inspect_tells_what_is_inside(demo, cache):
    done = gsvexport(cache, "inspect", demo)
    assert done.returncode == 0, done.stderr
    for word in ("demo (v2, baked)", "onnxruntime", "fp32", "weights", "passed", container.read_manifest(demo).digest):
        assert word in done.stdout
    assert json.loads(gsvexport(cache, "inspect", demo, "--json").stdout)["target"]["name"] == "x86-64"


def test_the_notice_of_the_demo_voice_is_in_its_artifact(demo):
    assert b"Carnegie Mellon University" in container.read_member(demo, "NOTICE")


def test_a_damaged_artifact_is_refused_by_every_command(demo, cache, tmp_path):
    data = bytearray(demo.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "damaged.gsv"
    path.write_bytes(data)
    for arguments in (("verify", path), ("say", path, "--phones", "HH", "-o", tmp_path / "a.wav")):
        done = gsvexport(cache if arguments[0] == "verify" else tmp_path / "new", *arguments)
        assert done.returncode == 6, done.stderr
        assert "damaged" in done.stderr or "Bad CRC" in done.stderr
    path.write_bytes(data[:1000])
    for arguments in (("verify", path), ("inspect", path), ("say", path, "--phones", "HH", "-o", tmp_path / "a.wav")):
        assert gsvexport(cache, *arguments).returncode == 6


def test_targets_lists_devices_and_shows_one(cache):
    done = gsvexport(cache, "targets")
    assert "x86-64" in done.stdout
    assert "builds" in done.stdout
    page = gsvexport(cache, "targets", "x86-64").stdout
    assert "avx2" in page
    assert "1. source" in page
    wrong = gsvexport(cache, "targets", "x8664")
    assert wrong.returncode == 4
    assert "did you mean 'x86-64'" in wrong.stderr


def test_a_device_without_a_backend_is_shown_but_not_built(cache, tmp_path):
    board = tmp_path / "board.toml"
    board.write_text('extends = "raspberry-pi-4"\ntitle = "A board"\n[placement.vocoder]\nbackend = "hailo"\n')
    page = gsvexport(cache, "targets", board).stdout
    assert "not buildable yet: no backend 'hailo' in this release" in page
    assert "device.bandwidth_gbs" in page
    assert "raspberry-pi-4.toml:7" in page
    done = gsvexport(cache, "--target", board, "-o", tmp_path / "out")
    assert done.returncode == 4
    assert "board.toml:4: no backend 'hailo' in this release" in done.stderr
    assert not (tmp_path / "out").exists()


def test_plan_says_why_for_the_voice_that_is_asked_for(cache):
    done = gsvexport(cache, "plan", "--target", "raspberry-pi-4", "--explain")
    assert done.returncode == 0, done.stderr
    for word in (
        "demo (v2, baked) for raspberry-pi-4",
        "5 GB/s (recall, raspberry-pi-4.toml:7)",
        "of 400 phones",
        "fits",
    ):
        assert word in done.stdout


def test_plan_tells_and_does_nothing(cache, tmp_path):
    done = gsvexport(tmp_path / "empty", "plan", "--target", "x86-64", "--keys")
    assert done.returncode == 0, done.stderr
    assert "demo (v2, baked) for x86-64" in done.stdout
    assert not (tmp_path / "empty" / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--target", "x86_64"], 4, "did you mean 'x86-64'"),
        (["--target", "x86-64", "/nowhere"], 2, "there is no voice at /nowhere"),
        (["verfy", "x"], 2, "there is no command 'verfy'; did you mean 'verify'?"),
        (["nowhere"], 2, "there is no command 'nowhere', and no voice there"),
        (["--targte", "x86-64"], 2, "No such option"),
        (["inspect", "/nowhere.gsv"], 6, "does not exist"),
    ],
)
def test_wrong_arguments_are_one_message_with_an_exit_code(cache, arguments, code, says):
    done = gsvexport(cache, *arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_defect_asks_for_a_report_and_shows_the_place_only_on_request(monkeypatch, capsys):
    def broken(*_):
        raise KeyError("surprise")

    monkeypatch.setattr("gsvexport.cli.targets.target_list", broken)
    assert cli.run(["targets"]) == 70
    message = capsys.readouterr().err
    assert "a defect in gsvexport: KeyError: 'surprise'" in message
    assert "GSVEXPORT_DEBUG=1" in message
    assert "Traceback" not in message
    monkeypatch.setenv("GSVEXPORT_DEBUG", "1")
    assert cli.run(["targets"]) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_termination_cleans_up_however_often_it_is_asked_for(tmp_path, number, code):
    process = start(tmp_path / "cache", "--target", "x86-64", "-o", tmp_path / "out")
    for line in process.stderr:
        if "baking the reference" in line:
            while process.poll() is None:
                process.send_signal(number)
                time.sleep(0.001)
            break
    process.communicate(timeout=60)
    assert process.returncode == code
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache" / "store").glob("*.partial"))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT to die by")
def test_an_interrupted_eval_is_an_exit_code_too(tmp_path):
    """Python notes that one was interrupted, and kills itself in the end although the interrupt was caught.

    Any thread may take that signal; here is a second one.
    """
    done = stopped_in(
        tmp_path,
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "def stop():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "commands.cli.main = lambda *args, **more: eval('stop()')\n",
    )
    assert done.returncode == 130, done.stderr
    assert "interrupted; nothing unfinished was left behind" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_what_fails_because_it_was_stopped_was_stopped(tmp_path, number, code):
    done = stopped_in(
        tmp_path,
        "from gsvexport.errors import VoiceError\n"
        "def work(*args, **more):\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    finally:\n"
        "        raise VoiceError('the file is closed')\n"
        "commands.cli.main = work\n",
    )
    assert done.returncode == code, done.stderr
    assert "the file is closed" not in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stop_that_got_lost_in_a_finalizer_stops(tmp_path, number, code):
    done = stopped_in(
        tmp_path,
        "import time\n"
        "class Stopped:\n"
        "    def __del__(self):\n"
        f"        signal.raise_signal({int(number)})\n"
        "def work(*args, **more):\n"
        "    Stopped()\n"
        "    for _ in range(3000):\n"
        "        time.sleep(0.01)\n"
        "commands.cli.main = work\n",
    )
    assert done.returncode == code, done.stderr
    assert "ignored" not in done.stderr


def stopped_in(folder, work):
    """What becomes of a process whose command is replaced by `work`."""
    (folder / "interrupted.py").write_text(
        f"import signal\nfrom gsvexport.cli import commands, main\n{work}main(['targets'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, "-m", "interrupted"], env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_cache_is_shown_and_pruned(tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path))
    demo_voice()
    from gsvexport.compiler.store import Store

    Store().obtain("0" * 64, lambda work: (work / "file").write_bytes(bytes(3_000_000)) and None, "three megabytes")
    (tmp_path / "unpacked" / "x").mkdir(parents=True)
    (tmp_path / "unpacked" / "x" / "file").write_bytes(bytes(2_000_000))
    shown = gsvexport(tmp_path, "cache").stdout
    assert "three megabytes" in shown
    assert "2.0 MB of it unpacked artifacts" in shown
    assert gsvexport(tmp_path, "cache", "--prune", "--older-than", 1).stdout.startswith("0.0 MB freed")
    assert gsvexport(tmp_path, "cache", "--prune").stdout.startswith("5.0 MB freed")
    assert "no finished steps" in gsvexport(tmp_path, "cache").stdout
