"""The native runtime beside the Python one: equal codes, equal sound, and faults that are told in words."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from command import ENVIRONMENT, compiled, run, text
from onnx import helper

from gsvexport.artifact.manifest import SIGNED
from gsvexport.backends.onnxruntime.exact import overflows
from gsvexport.runtime.audio import write_wav

ROOT = Path(__file__).resolve().parents[2]
SENTENCES = [list(range(10, 16)), list(range(40, 49)), [5, 700, 22, 97]]
PHONES = "HH AH0 L OW1 ."


def both(spoken, phones, seed, python=None, **how):
    """Codes and sound, native and Python."""
    own, other = spoken
    ids, heard = own.phones(" ".join(map(str, phones))), []
    own.say(ids, heard.append, seed=seed, max_tokens=30, **how)
    names = ("top_k", "top_p", "temperature", "repetition_penalty", "greedy")
    sampling = replace(other.sampling, seed=seed, **{name: how[name] for name in names if name in how})
    prompt = np.empty((1, 0), np.int64) if how.get("no_prompt") else None
    rest = {name: how[name] for name in ("speed", "noise_scale") if name in how}
    wanted = other.tokens(phones, prompt=prompt, sampling=sampling, max_tokens=30)
    assert own.tokens(ids, seed=seed, max_tokens=30, **how) == wanted.tolist()
    rest |= {"seed": seed, "sampling": sampling, "prompt": prompt, "max_tokens": 30}
    if "window" in how:
        rest |= {"window": how["window"], "ahead": how.get("ahead", 8) or None}
        pieces = [piece.samples for piece in other.stream(phones=phones, **rest)]
    else:
        pieces = [other.synthesize(phones=phones, **rest).samples]
    return [np.array(one, np.float32) for one in heard], pieces


@pytest.mark.parametrize("seed", [0, 2**63 + 5])
def test_codes_and_sound_are_those_of_python(spoken, seed):
    for phones in SENTENCES:
        (found,), (wanted,) = both(spoken, phones, seed)
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(
    "how",
    [
        {"top_p": 0.7, "temperature": 0.8, "top_k": 40},
        {"greedy": True, "repetition_penalty": 1.1, "noise_scale": 0.0, "speed": 1.3},
        {"no_prompt": 1, "noise_scale": 1.5, "speed": 0.75},
        {"window": 0.2},
        {"window": 0.1, "ahead": 3},
        {"window": 0.2, "ahead": 0},
    ],
)
def test_every_setting_means_what_it_means_in_python(spoken, how):
    found, wanted = both(spoken, SENTENCES[1], 4, **how)
    assert [one.size for one in found] == [one.size for one in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_sink_may_stop_and_a_voice_does_one_thing_at_a_time(spoken, binding):
    own, _ = spoken
    ids, said = own.phones(PHONES), []

    def stop(samples):
        with pytest.raises(RuntimeError, match="another call is using this voice"):
            own.tokens(ids)
        said.append(len(samples))
        return 1

    with pytest.raises(RuntimeError, match="status 130"):
        own.say(ids, stop, window=0.1, ahead=1, max_tokens=40)
    assert len(said) == 1
    own.say(ids, said.append, max_tokens=3)  # and it speaks on


def test_wrong_arguments_are_told_all_at_once(spoken):
    own, _ = spoken
    with pytest.raises(RuntimeError) as caught:
        own.say((own.phones("1")), lambda _: 0, speed=9, noise_scale=float("nan"), max_tokens=-1, temperature=200)
    for words in ("speed is 9", "noise_scale is nan", "max_tokens is -1", "temperature is 200", "status 2"):
        assert words in str(caught.value)
    with pytest.raises(RuntimeError, match=r"unknown phone 'XX'(.|\n)*phone id 5000"):
        own.phones("AH0 XX 5000")


def test_the_command_writes_the_bytes_that_python_writes(native, voice, tmp_path, spoken):
    out, raw = tmp_path / "a.wav", tmp_path / "a.raw"
    done = run(native, voice, "--phones", PHONES, "-o", out, "--seed", 7, "--max-tokens", 20)
    assert done.returncode == 0, text(done)
    _, other = spoken
    audio = other.synthesize(phones=list(spoken[0].phones(PHONES)), seed=7, max_tokens=20)
    write_wav(tmp_path / "b.wav", audio.samples, audio.rate)
    assert out.read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert "limit of 20 codes" in text(done)
    piped = run(native, voice, "--phones", PHONES, "--raw", "-", "--seed", 7, "--max-tokens", 20)
    assert piped.stdout == out.read_bytes()[44:]
    run(native, voice, "--phones", PHONES, "--raw", raw, "--stream", "--seed", 7, "--max-tokens", 20)
    assert raw.stat().st_size == len(piped.stdout)


def test_nothing_is_overwritten_and_nothing_is_left_behind(native, voice, tmp_path):
    out = tmp_path / "a.wav"
    out.write_text("mine")
    assert run(native, voice, "--phones", PHONES, "-o", out).returncode == 2
    assert out.read_text() == "mine"
    gone = run(native, voice, "--phones", PHONES, "-o", tmp_path / "no/a.wav", "--max-tokens", 3)
    assert gone.returncode == 7
    full = run(native, voice, "--phones", PHONES, "--raw", "/dev/full", "--force", "--max-tokens", 3)
    assert full.returncode == 7
    assert "No space left on device" in text(full)
    assert os.listdir(tmp_path) == ["a.wav"]


def test_a_full_disk_leaves_no_part_of_a_file(native, voice, tmp_path):
    """A limit on the size of files stands for the disk: the write fails in the middle."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = run(native, voice, "--phones", PHONES, "-o", tmp_path / "a.wav", "--max-tokens", 9, preexec_fn=limited)
    assert done.returncode == 7
    assert "cannot be written" in text(done)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_kill_in_the_middle_of_a_sentence_leaves_nothing(native, voice, tmp_path, which):
    line = [
        native.gsvsay,
        voice,
        "--phones",
        "1 2 3 4 5 6 7 8 9 " * 40,
        "-o",
        tmp_path / "a.wav",
        "--max-tokens",
        "3900",
        "--repetition-penalty",
        "0.01",  # so it says one code again and again, and never its end
    ]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as process:
        status = Path(f"/proc/{process.pid}/status")
        while not int(re.search(r"SigCgt:\s*(\w+)", status.read_text())[1], 16) & 1 << signal.SIGTERM - 1:
            time.sleep(0.01)  # it has not come to main yet
        time.sleep(0.3)
        process.send_signal(which)
        told = process.communicate(timeout=60)[1].decode()
    assert process.returncode == (-9 if which == signal.SIGKILL else 130)
    assert which == signal.SIGKILL or "interrupted" in told
    assert not os.listdir(tmp_path)


def test_without_memory_it_says_so(native, voice):
    """From an address space too small for ONNX Runtime to one that does: an error of the machine, or speech."""
    if native.sanitized:
        pytest.skip("a sanitizer wants all of the address space")
    codes = []
    for megabytes in (60, 130, 160, 2000):
        limit = lambda size=megabytes << 20: resource.setrlimit(resource.RLIMIT_AS, (size, size))  # noqa: E731
        done = run(native, voice, "--phones", PHONES, "--codes", "--threads", 1, "--max-tokens", 20, preexec_fn=limit)
        codes.append(done.returncode)
        assert done.returncode in (0, 7, 127), (megabytes, done.returncode, text(done))  # 127: ld.so cannot map
        assert done.returncode == 0 or "memory" in text(done) or "cannot" in text(done)
    assert codes[0] != 0
    assert codes[-1] == 0


def test_a_library_that_is_too_old_is_told(native, voice, tmp_path):
    (tmp_path / "old.c").write_text(
        "static const void *none(unsigned version) { return 0; }\n"
        'static const char *told(void) { return "1.0.0"; }\n'
        "static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = {none, told};\n"
        "const void *OrtGetApiBase(void) { return &base; }\n"
    )
    # The loader asks for a symbol of this version before anything of ours runs.
    (tmp_path / "old.map").write_text(f"VERS_{version('onnxruntime')} {{ global: OrtGetApiBase; }};\n")
    made = ["gcc", "-shared", "-fPIC", tmp_path / "old.c", "-o", tmp_path / "libonnxruntime.so.1"]
    subprocess.run([*made, "-Wl,-soname,libonnxruntime.so.1", f"-Wl,--version-script={tmp_path}/old.map"], check=True)
    line = [native.gsvsay, voice, "--info"]
    old = {**ENVIRONMENT, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(line, capture_output=True, timeout=60, check=False, env=old)
    assert done.returncode == 7, text(done)
    assert "libonnxruntime 1.0.0 is older than the header" in text(done)


def spoilt(path: Path, change):
    """Another file in the place of a linked one."""
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(change(data))


def test_damaged_artifacts_are_told_by_file(native, copied):
    spoilt(copied / "t2s.safetensors", lambda data: data[:-7])
    spoilt(copied / "model.json", lambda data: data.replace(b"1.35", b"1.36"))
    (copied / "baked/ge.npy").unlink()
    done = run(native, copied, "--info")
    assert done.returncode == 6
    for words in ("t2s.safetensors: its size", "model.json: has changed (SHA-256 differs)", "baked/ge.npy: missing"):
        assert words in text(done)


@pytest.mark.parametrize(
    ("member", "change", "code", "words"),
    [
        ("manifest.json", lambda value: value | {"schema": 9}, 6, "schema that this release does not know"),
        ("manifest.json", lambda value: value | {"members": {}}, 6, "lists no members"),
        ("model.json", lambda value: value | {"version": "v3"}, 3, "a v3 voice, which this runtime does not speak"),
        ("model.json", lambda value: value | {"version": "v4", "dims": {}}, 3, "limit: v1, v2, v2Pro, v2ProPlus"),
        ("model.json", lambda value: value | {"rate": -1, "hop": "many"}, 6, "hop is no whole number"),
        ("model.json", lambda value: value | {"files": {"prefill": "../x.onnx"}}, 6, "no name inside a folder"),
        ("model.json", lambda value: value | {"files": {"prefill": "prefill.onnx"}}, 3, "holds no stage 'step'"),
        ("model.json", lambda value: value | {"files": {**value["files"], "step": "acoustic.onnx"}}, 3, "a form that"),
        ("model.json", lambda value: value | {"baked": {"ge": "golden/golden.json"}}, 6, "is no .npy array"),
    ],
)
def test_what_is_no_artifact_for_it_is_refused_in_words(native, copied, member, change, code, words):
    spoilt(copied / member, lambda data: json.dumps(change(json.loads(data))).encode())
    if member != "manifest.json":
        made = json.loads((copied / "manifest.json").read_text())
        made["members"][member] |= {"size": (copied / member).stat().st_size}
        spoilt(copied / "manifest.json", lambda _: json.dumps(made).encode())
    done = run(native, copied, "--info", "--sizes-only")
    assert done.returncode == code, text(done)
    assert words in text(done)


def test_another_machines_artifact_wants_to_be_asked_for(native, copied):
    made = json.loads((copied / "manifest.json").read_text())
    made["target"]["device"]["arch"] = "riscv64"
    spoilt(copied / "manifest.json", lambda _: json.dumps(made).encode())
    done = run(native, copied, "--info")
    assert done.returncode == 6
    assert "it wants riscv64" in text(done)
    assert run(native, copied, "--info", "--any-machine").returncode == 0


def test_a_graph_that_this_processor_would_compute_wrongly_is_not_opened(native, copied):
    model = onnx.load(copied / "acoustic.onnx", load_external_data=False)
    helper.set_model_props(model, {SIGNED: "8"})
    spoilt(copied / "acoustic.onnx", lambda _: model.SerializeToString())
    made = json.loads((copied / "manifest.json").read_text())
    made["members"]["acoustic.onnx"]["size"] = (copied / "acoustic.onnx").stat().st_size
    spoilt(copied / "manifest.json", lambda _: json.dumps(made).encode())
    done = run(native, copied, "--info", "--sizes-only", "--any-machine")
    assert done.returncode == (6 if overflows() else 0), text(done)
    assert ("kernels for signed bytes overflow" in text(done)) == overflows()


def test_a_graph_that_wants_bytes_from_elsewhere_is_not_opened(native, copied):
    spoilt(copied / "step.onnx", lambda data: data.replace(b"t2s.safetensors", b"../2s.safetensor"[:15]))
    done = run(native, copied, "--info", "--sizes-only")
    assert done.returncode == 6
    assert "no name inside a folder" in text(done)


def test_verify_judges_by_the_artifacts_own_report(native, voice, copied):
    done = run(native, voice, "--verify")
    assert done.returncode == 0, text(done) + done.stdout.decode()
    lines = done.stdout.decode().splitlines()
    assert sum(line.endswith("pass") for line in lines) == 9
    assert lines[-1].startswith("not run here")
    report = json.loads((copied / "report.json").read_text())
    for check in report["checks"]:
        if (check["stage"], check["metric"]) == ("vocoder", "snr_db"):
            check["limit"] = 201
    spoilt(copied / "report.json", lambda _: json.dumps(report).encode())
    changed = run(native, copied, "--verify")
    assert changed.returncode == 6
    assert "report.json: " in text(changed)
    made = json.loads((copied / "manifest.json").read_text())
    made["report"]["size"] = (copied / "report.json").stat().st_size
    spoilt(copied / "manifest.json", lambda _: json.dumps(made).encode())
    missed = run(native, copied, "--verify", "--sizes-only")
    assert missed.returncode == 5
    assert "vocoder   snr_db" in text(missed)


def test_the_program_of_the_examples_is_plain_c(native, voice, tmp_path):
    program = compiled(native, ROOT / "examples/say.c", tmp_path / "say")
    done = subprocess.run([program, voice, PHONES], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(native, voice, "--phones", PHONES, "--stream", "--raw", "-").stdout
    wrong = subprocess.run([program, voice, "XX"], capture_output=True, check=False)
    assert wrong.returncode == 2
    assert b"unknown phone" in wrong.stderr


@pytest.mark.parametrize(("name", "compiler"), [("say.rs", "rustc"), ("say.go", "go")])
def test_the_examples_in_other_languages_speak(native, voice, tmp_path, name, compiler):
    if shutil.which(compiler) is None:
        pytest.skip(f"examples/{name} was not tested here: no {compiler}")
    program, flags = tmp_path / "say", f"-Wl,-rpath,{native.build} -Wl,--allow-shlib-undefined"
    (tmp_path / "gsv.pc").write_text(
        f"Name: gsv\nDescription: .\nVersion: 1\nCflags: -I{ROOT / 'native/include'}\n"
        f"Libs: -L{native.build} -lgsv {flags}\n"
    )
    lines = {
        "rustc": ["rustc", ROOT / "examples" / name, "-L", f"native={native.build}", "-l", "gsv", "-o", program],
        "go": ["go", "build", "-o", program, ROOT / "examples" / name],
    }
    lines["rustc"] += ["-C", f"link-args={flags}"]
    places = {"PKG_CONFIG_PATH": str(tmp_path), "CGO_LDFLAGS_ALLOW": ".*", "GOCACHE": str(tmp_path / "cache")}
    built = subprocess.run(
        lines[compiler], env={**os.environ, **places}, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program, voice, PHONES], capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run(native, voice, "--phones", PHONES, "--raw", "-").stdout
    wrong = subprocess.run([program, voice, "XX"], capture_output=True, check=False)
    assert wrong.returncode == 2
    assert b"unknown phone" in wrong.stderr


def test_the_manual_names_every_option(native):
    usage = run(native, "--help").stdout.decode()
    manual = (ROOT / "native/gsvsay.1").read_text().replace("\\-", "-")
    options = set(re.findall(r"--[a-z][a-z-]*", usage)) - {"--version", "--help"}
    assert len(options) > 20
    assert not [name for name in options if name not in manual]
    assert run(native, "--phones").returncode == 2
    assert run(native, shutil.which("true"), "--info").returncode == 2
