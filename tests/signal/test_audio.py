import wave

import numpy as np
import pytest

from gsvexport import Audio
from gsvexport.errors import InputError
from gsvexport.runtime.audio import write_wav


def read(path):
    with wave.open(str(path), "rb") as stream:
        assert (stream.getnchannels(), stream.getsampwidth()) == (1, 2)
        return stream.getframerate(), np.frombuffer(stream.readframes(stream.getnframes()), "<i2")


def test_a_wav_holds_the_samples_to_half_a_step(tmp_path):
    samples = np.sin(np.linspace(0, 50, 1000, dtype=np.float32)) * 0.9
    assert Audio(samples, 32000).save(tmp_path / "out.wav") == 0
    rate, pcm = read(tmp_path / "out.wav")
    assert rate == 32000
    np.testing.assert_allclose(pcm / 32767, samples, atol=0.51 / 32767)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
    audio = Audio(np.array([0, 1, -1, 1.5, -2, 0.5], np.float32), 32000)
    assert audio.save(str(tmp_path / "out.wav")) == 2
    assert read(tmp_path / "out.wav")[1].tolist() == [0, 32767, -32767, 32767, -32767, 16384]


def test_a_length_in_seconds():
    assert Audio(np.zeros(16000, np.float32), 32000).seconds == 0.5


def test_an_existing_file_is_replaced_only_where_asked(tmp_path):
    path, samples = tmp_path / "out.wav", np.zeros(4, np.float32)
    write_wav(path, samples, 8000)
    with pytest.raises(InputError, match="exists"):
        write_wav(path, samples, 8000)
    Audio(samples, 16000).save(path)
    assert read(path)[0] == 16000


@pytest.mark.parametrize("samples", [[0.0, np.nan], [np.inf, 0.0], [[0.0, 0.0]]])
def test_what_is_no_sound_is_refused_and_leaves_nothing_behind(tmp_path, samples):
    with pytest.raises(InputError):
        write_wav(tmp_path / "out.wav", np.array(samples, np.float32), 8000)
    assert list(tmp_path.iterdir()) == []


def test_raw_samples_are_what_the_file_holds(tmp_path):
    audio = Audio(np.float32([0.0, 0.5, -1.5, 1.0]), 8000)
    assert audio.pcm().tolist() == [0, 16384, -32767, 32767]
