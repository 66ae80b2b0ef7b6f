"""Another program in the bench's table: the protocol, and every way of answering it wrongly."""

import json
import sys

import pytest

from gsvexport.bench import Figure, Subject, bench
from gsvexport.bench.against import asked, parsed
from gsvexport.compiler.inputs import export_source
from gsvexport.errors import BackendError, InputError
from gsvexport.synthetic import write_voice

REQUEST = {"threads": 1, "tokens": 4, "phones": 5, "prompt": 3, "audio_s": 0.16, "run": 0}


def program(tmp_path, body):
    script = tmp_path / "other.py"
    script.write_text(f"import json, sys\nrequest = json.loads(sys.stdin.readline())\n{body}\n", encoding="utf-8")
    return [sys.executable, str(script)]


def says(tmp_path, **answer):
    return program(tmp_path, f"print(json.dumps({answer!r}))")


def test_an_answer_becomes_figures_and_their_ratio(tmp_path):
    found = asked(says(tmp_path, sentence_s=2.0, audio_s=4.0, first_audio_s=0.5), REQUEST, 60)
    assert found == {"sentence_s": 2.0, "first_audio_s": 0.5, "rtf": 0.5}


def test_the_program_is_told_what_to_do(tmp_path):
    body = "print(json.dumps({'sentence_s': request['tokens'], 'audio_s': request['audio_s']}))"
    assert asked(program(tmp_path, body), REQUEST, 60)["rtf"] == pytest.approx(25)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("sys.exit('no voice')", "no voice"),
        ("print('hello')", "answered no JSON"),
        ("pass", "answered no JSON"),
        ("print('[1]')", "no table of figures"),
        ("print(json.dumps({'audio_s': 1}))", "sentence_s is missing"),
        ("print(json.dumps({'sentence_s': 0, 'audio_s': 1}))", "sentence_s is 0"),
        ('print(\'{"sentence_s": NaN, "audio_s": 1}\')', "has NaN"),
        ("print(json.dumps({'sentence_s': True, 'audio_s': 1}))", "sentence_s is True"),
        ("print(json.dumps({'sentence_s': 1, 'audio_s': 1, 'mos': 5}))", "'mos' is no figure"),
        ("print('[' * 100000)", "answered no JSON"),
    ],
)
def test_what_is_no_answer_is_refused_with_its_reason(tmp_path, body, says):
    with pytest.raises(BackendError, match=says):
        asked(program(tmp_path, body), REQUEST, 60)


def test_a_program_that_hangs_is_stopped(tmp_path):
    with pytest.raises(BackendError, match="gave no answer"):
        asked(program(tmp_path, "import time; time.sleep(60)"), REQUEST, 1)


@pytest.mark.parametrize("command", ["", "   ", "'open"])
def test_no_command_is_refused(command):
    with pytest.raises(InputError, match="--against"):
        parsed(command)


def test_a_program_that_is_not_there_is_named():
    with pytest.raises(InputError, match="no-such-program cannot be started"):
        asked(["no-such-program"], REQUEST, 1)


def test_it_stands_in_the_table_beside_the_voice(tmp_path, monkeypatch):
    monkeypatch.setattr("gsvexport.bench._limits", lambda threads, say: {"read_gbs": [1.0]})
    source = export_source(write_voice(tmp_path / "voice"), tmp_path / "source").path
    command = " ".join(says(tmp_path, sentence_s=1000.0, audio_s=1.0))
    found = bench(source, threads=1, runs=2, tokens=4, prompt=3, phones=5, against=command)
    voice, other = found.subjects
    assert (other.role, other.figures["rtf"].n) == ("against", 2)
    assert found.ratios["rtf"] == pytest.approx(1000 / voice.figures["rtf"].median)
    header = next(line for line in found.table().splitlines() if " median " in line)
    assert header.split()[-3:] == ["against", "range", "ratio"]
    assert command in json.dumps(found.to_json())


def test_a_figure_that_the_other_does_not_tell_leaves_its_place_empty():
    from gsvexport.bench import Bench

    one = Figure.of([1.0])
    machine = {"cpu": "x", "cores": 1, "features": [], "arch": "x", "load": 0}
    machine |= dict.fromkeys(("gsvexport", "onnxruntime", "numpy", "python"), "1")
    work = {"threads": 1, "runs": 1, "tokens": 4, "prompt": 3, "phones": 5, "audio_s": 1.0}
    subjects = (
        Subject("a", {"rtf": one, "step_ms": one}, {"disk_mb": 1.0}, {}),
        Subject("b", {"step_ms": one}, {}, {}),
        Subject("c", {"rtf": Figure.of([3.0])}, {}, {}, "against"),
    )
    lines = Bench("bench", machine, work, subjects, {}).table().splitlines()
    rtf = next(line for line in lines if line.startswith("RTF"))
    header = next(line for line in lines if " median " in line)
    assert rtf.index("3.00") + 4 == header.index("against") + len("against")
