"""The real demo voice: which one is chosen, what it is put together from, and that it is the package's own sound."""

from __future__ import annotations

import json
import shutil
import wave

import numpy as np
import pytest

from gsvexport import demo
from gsvexport.demo import cached, package, real, small, units, weights
from gsvexport.errors import EnvironmentProblem, InputError

needed = pytest.mark.skipif(not package.installed(), reason=f"needs {package.NAME}")


@pytest.fixture(scope="module")
def voice(tmp_path_factory):
    """Put together once, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield real.folder()


@pytest.fixture(scope="module")
def asked():
    """What the package says about the codebook's texts, asked once."""
    ids = real.occurrences()[:, 0].astype(np.int64)
    starts = np.flatnonzero(ids == package.symbols()[package.START])
    return package.ask(package.TextHalf(), np.split(ids, starts[1:]))


@pytest.fixture
def quick(asked, monkeypatch):
    monkeypatch.setattr(package, "ask", lambda half, rows: asked)


def test_without_the_package_the_demo_voice_is_the_small_one(monkeypatch):
    monkeypatch.delenv(demo.VARIABLE)
    monkeypatch.setattr(package, "MODULE", "no_such_package")
    assert (demo.chosen(), demo.remark()) == ("small", None)
    assert demo.demo_voice() == small.folder()
    with pytest.raises(EnvironmentProblem, match=r"(?s)not installed.*demo-voice"):
        package.symbols.__wrapped__()


@needed
def test_with_the_package_it_is_the_real_one_and_its_licence_is_told(monkeypatch):
    monkeypatch.delenv(demo.VARIABLE)
    assert demo.chosen() == "real"
    remark = demo.remark()
    assert remark is not None
    assert "non-commercial" in remark
    assert "\n" not in remark
    monkeypatch.setenv(demo.VARIABLE, "large")
    with pytest.raises(InputError, match="GSVEXPORT_DEMO is 'large'"):
        demo.chosen()


@needed
@pytest.mark.parametrize("damage", ["another byte", "a byte more", "absent"])
def test_another_package_is_refused(damage, tmp_path, monkeypatch):
    path = tmp_path / package.CONFIG
    shutil.copyfile(package.folder() / package.CONFIG, path)
    if damage == "another byte":
        path.write_bytes(path.read_bytes()[:-1] + b" ")
    elif damage == "a byte more":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        path.unlink()
    monkeypatch.setattr(package, "folder", lambda: tmp_path)
    with pytest.raises(EnvironmentProblem, match=r"en_US-joe-medium\.onnx\.json"):
        package.symbols.__wrapped__()


@needed
def test_it_is_made_once_and_again_when_a_byte_is_another(voice, monkeypatch):
    monkeypatch.setenv("GSVEXPORT_CACHE", str(voice.parents[1]))
    monkeypatch.setattr(real, "write", lambda where: pytest.fail("made again"))
    assert real.folder() == voice
    right = (voice / "reference_codes.npy").read_bytes()
    (voice / "reference_codes.npy").write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
    try:
        assert not cached.complete(voice, (*real.MADE, "NOTICE"), None)
    finally:
        (voice / "reference_codes.npy").write_bytes(right)


@pytest.mark.thorough  # make reproducible builds it twice
@needed
def test_the_same_parts_give_the_same_bytes(voice, quick, tmp_path):  # `quick` has asked anew
    real.write(tmp_path)
    sums = json.loads((voice / cached.SUMS).read_text(encoding="utf-8"))
    from gsvexport.files import sha256_file

    assert {name: sha256_file(tmp_path / name) for name in sums} == sums


@needed
def test_codes_that_the_gpt_does_not_know_are_refused(asked, quick, monkeypatch):
    def other(half, rows):
        return [package.Said(one.mean[::-1], one.logs, one.lengths) for one in asked]

    half, reference = package.TextHalf(), json.loads(real.parts()["reference.json"])
    book = real.codebook(half, real.occurrences())
    assert real._reference_codes(half, book, reference).size == len(reference["codes"])
    with pytest.raises(EnvironmentProblem, match="gives the reference other codes"):
        real._reference_codes(half, book, {**reference, "codes": [*reference["codes"][:-1], 3]})
    monkeypatch.setattr(package, "ask", other)
    with pytest.raises(EnvironmentProblem, match="not the one that the demo voice's GPT was trained with"):
        real.codebook(half, real.occurrences())


@needed
def test_it_is_a_voice_whose_sound_is_the_packages_own(voice, quick):
    torch = pytest.importorskip("torch")
    from gsvexport.voice.networks import load_networks
    from gsvexport.voice.voice import read_voice

    found = read_voice(voice)
    assert (found.name, found.version, found.acoustics.rate) == ("demo", "v2", package.RATE)
    assert found.notice is not None
    assert b"non-commercial" in found.notice
    _, network = load_networks(found)
    codes = found.reference.prompt_codes[:40]
    book = real.codebook(package.TextHalf(), real.occurrences())
    frames = np.repeat(codes, 2)
    wanted = package.SpeechHalf()(np.ascontiguousarray(book.mean[frames].T))
    with torch.inference_mode():
        ge = network.reference(torch.rand(1, 1025, 30))[0]  # no reference changes the sound
        noise = torch.zeros(1, 192, len(frames))
        latent = network.acoustic(torch.from_numpy(codes)[None], torch.tensor([[5, 6]]), ge, None, noise, 0.5)
        made = network.vocoder(latent, ge)[0].numpy()
        mean, logs = network.prior(torch.from_numpy(codes)[None], torch.tensor([[7]]), ge, len(frames))
    assert 10 * np.log10((wanted**2).sum() / ((wanted - made) ** 2).sum()) > 30  # weights in 16 bits
    away = (mean[0].T.numpy() - book.mean[frames]) * book.weight
    assert np.sqrt((away**2).mean()) < 0.03  # of the deviation that the noise has
    ratio = np.exp(logs[0].T.numpy() - book.logs[frames]) * weights.DEFAULT_NOISE
    assert ratio == pytest.approx(weights.NOISE, rel=0.02)


@needed
def test_its_reference_is_the_packages_speech(voice):
    with wave.open(str(voice / "reference.wav")) as stream:
        assert stream.getframerate() == package.RATE
        samples = np.frombuffer(stream.readframes(-1), "<i2") / 32768
    assert len(samples) == 512 * np.load(voice / "reference_codes.npy").size
    assert 0.03 < np.sqrt((samples**2).mean()) < 0.3


def test_a_symbol_lasts_pairs_of_frames():
    assert units.pairs(np.array([0.1, 1.2, 2.0, 2.4, 3.6, 4.5], np.float32)).tolist() == [1, 1, 1, 1, 2, 2]


def test_a_symbol_that_no_code_says_is_said_by_a_blank():
    book = units.codebook(
        np.array([0, 1, 1, 2]),
        np.array([0, 7, 8]),
        np.array([[0.0], [1.0], [3.0], [9.0]], np.float32),
        np.zeros((4, 1), np.float32),
        np.array([2, 2, 6, 2], np.float32),
    )
    assert book.mean[:, 0].tolist() == [0, 2.5, 9]  # the longer occurrence weighs three times as much
    assert book.codes(np.array([7, 8, 5]), np.array([[0.0], [0.0], [9.0]], np.float32)).tolist() == [1, 2, 0]
