"""From a recording to a voice that a server has."""

import dataclasses
import re

import numpy as np
import pytest
import soundfile
from recordings import RATE, recorded, voiced

from gsvexport.artifact.keys import new_key
from gsvexport.cli import run as command
from gsvexport.errors import InputError
from gsvexport.registry.places import FolderPlace
from gsvexport.registry.publish import publish
from gsvexport.release import onboard
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.settings import Settings
from gsvexport.signal.excerpt import excerpts
from gsvexport.synthetic import write_voice
from gsvexport.synthetic.pretrained import write_pretrained

TEXT = "Hello there, how are you?"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A v2 voice with a HuBERT, and a recording of a sentence with something else before it."""
    work = tmp_path_factory.mktemp("onboard")
    folder = write_voice(work / "voice")
    (folder / "deaf.toml").write_text((folder / "voice.toml").read_text())
    names = write_pretrained(work / "networks", ("hubert",))
    with open(folder / "voice.toml", "a", encoding="utf-8") as file:
        file.write(f'\n[pretrained]\nhubert = "{work / "networks" / names["hubert"]}"\n')
    soundfile.write(work / "Carol 2.wav", recorded(0.5, voiced(3.4), 0.5), RATE)
    return work


@pytest.fixture
def run(work, monkeypatch, capsys):
    """One command in this process; its exit code, and what it wrote."""
    monkeypatch.setenv("GSVEXPORT_CACHE", str(work / "cache"))
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(work / "config"))

    def go(*arguments):
        code = command([str(one) for one in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return go


def test_what_cannot_end_well_is_refused_before_any_work(work, run, tmp_path, monkeypatch):
    monkeypatch.setattr(onboard, "build_opened", lambda *_, **__: pytest.fail("nothing is built"))
    recording = work / "Carol 2.wav"
    how = ("--base", work / "voice", "-t", "x86-64", "-o", tmp_path, "--publish")
    code, _, said = run("onboard", recording, *how, tmp_path / "there", "--text", TEXT)
    assert (code, "which key signs" in said) == (2, True)
    with monkeypatch.context() as other:
        other.setenv("GSVEXPORT_CONFIG", str(tmp_path / "config"))
        new_key("one")
        for wrong, says in (
            ((recording, *how, "https://voices.example.com"), "only be pulled from"),
            ((recording, *how, tmp_path / "there", "--name", "../x"), "no voice's name"),
            ((recording, *how, tmp_path / "there", "-t", "x86-64"), "each target once"),
            ((recording, *how, tmp_path / "there", "--key", "two"), "no private key"),
            ((recording, *how, tmp_path / "there", "--base", work / "voice" / "deaf.toml"), "has no HuBERT"),
        ):
            code, _, said = run("onboard", *wrong, "--text", TEXT)
            assert (code, says in said) == (2, True), said
        (tmp_path / "Carol-2-x86-64.gsv").touch()
        assert run("onboard", recording, *how, tmp_path / "there", "--text", TEXT)[0] == 2
        (tmp_path / "Carol-2-x86-64.gsv").unlink()
        soundfile.write(tmp_path / "hum.wav", np.full((RATE * 4, 1), 1e-4), RATE)
        code, _, said = run("onboard", tmp_path / "hum.wav", *how, tmp_path / "there", "--text", TEXT)
        assert (code, "too little speech" in said) == (3, True)
        other.setenv("GSVEXPORT_RECOGNISER", str(tmp_path / "none"))
        code, _, said = run("onboard", recording, *how, tmp_path / "there")
        assert code in (2, 7), said
    assert not (tmp_path / "there").exists()


def test_a_recording_becomes_a_voice_that_a_server_has(work, run, tmp_path, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CONFIG", str(tmp_path / "config"))
    new_key("release")
    place = FolderPlace(tmp_path / "voices")
    how = ("--base", work / "voice", "-t", "x86-64", "--publish", place.root, "-o", tmp_path)
    code, out, said = run("onboard", work / "Carol 2.wav", *how, "--text", TEXT)
    assert code == 0, said
    assert len(re.findall(r" reading \S+voice$", said, re.MULTILINE)) == 1  # its weights, once for all phases
    phases = re.findall(r"^(\w+) +([\d.]+) s  (.+)$", out, re.MULTILINE)
    assert [name for name, _, _ in phases] == ["choose", "text", "base", "bake", "verify", "sign", "publish", "live"]
    assert float(phases[-1][1]) == pytest.approx(sum(float(one) for _, one, _ in phases[:-1]), abs=0.5)
    looks = Gatherer(Settings(voices=(str(place.root),)))
    offer = looks.look().offers["Carol-2"]
    assert offer.trusted
    assert offer.verified.state == "passed"
    assert offer.manifest.name == offer.model.name == "Carol-2"
    assert publish([tmp_path / "Carol-2-x86-64.gsv"], place)[0].new is False


def test_the_recogniser_writes_the_text_and_prefers_whole_sentences(work, monkeypatch):
    heard = iter(("and that is", "How are you?"))

    class Heard:  # in place of Whisper, which hears nothing in a synthetic sound
        def __init__(self, *_):
            pass

        def __call__(self, samples):
            assert 3 <= len(samples) / 16000 <= 10
            return next(heard)

    monkeypatch.setattr(onboard, "Recogniser", Heard)
    samples = recorded(0.6, voiced(4), 0.6, voiced(12), 0.6, voiced(5), 0.5)
    found = excerpts(samples, RATE)
    wanted = onboard.Wanted(work / "long.wav", work / "voice", ("x86-64",), "dora", FolderPlace(work / "none"))
    assert onboard._text(wanted, samples, RATE, found) == (found[1], "How are you?")
    wanted = dataclasses.replace(wanted, text=f"{TEXT} And so on.")  # of which only a part is in the best stretch
    heard = iter(("how are you", "how are you"))
    assert onboard._text(wanted, samples, RATE, found) == (found[0], "how are you?")
    heard = iter(("", ""))
    with pytest.raises(InputError, match="nothing is heard"):
        onboard._text(wanted, samples, RATE, found)
