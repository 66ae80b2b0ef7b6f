"""Speech while its codes are still being written."""

import itertools

import numpy as np
import pytest

from gsvexport.compiler.source import open_source, write_source
from gsvexport.errors import InputError
from gsvexport.runtime import pipeline
from gsvexport.runtime.ahead import BEHIND, Noise, Pace, latents_of
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.windows import sliding
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    base = tmp_path_factory.mktemp("ahead")
    write_source(read_voice(write_voice(base / "voice")), base / "source")
    return open_source(base / "source")


def echoed(codes, start):
    """A latent that tells which code each frame is of."""
    return np.repeat(codes.astype(np.float32), 2)[np.newaxis, np.newaxis]


@pytest.mark.parametrize("count", [1, 4, 13, 14, 60, 333])
@pytest.mark.parametrize("ahead", [1, 8, 500])
def test_pieces_are_every_frame_once_and_in_order(count, ahead):
    pieces = list(latents_of(iter(range(count)), echoed, Pace(10, ahead)))
    parts = [part for part, _ in pieces]
    assert [last for _, last in pieces] == [False] * (len(parts) - 1) + [True]
    assert all(part.shape[2] for part in parts)
    np.testing.assert_allclose(np.concatenate(parts, axis=2)[0, 0], np.repeat(np.arange(count), 2), rtol=1e-6)
    assert (len(parts) > 1) == (count >= 5 + ahead)


def test_the_first_piece_comes_soon_and_no_window_grows_with_the_sentence():
    asked, seen = itertools.count(), []
    written = (next(asked) for _ in range(1000))

    def latent(codes, start):
        seen.append(codes.size)
        return echoed(codes, start)

    parts = latents_of(written, latent, Pace(10, 8))
    assert next(parts)[0].shape[2] == 2 * 5
    assert next(asked) == 5 + 8  # codes that had been written by then
    assert sum(1 for _ in parts) > 90
    assert max(seen) <= BEHIND + 10 + 8


def test_where_two_windows_meet_they_are_blended():
    # The second window thinks otherwise of everything; its first frames go over from the first window's.
    answers = iter([0.0, 1.0, 1.0, 1.0])
    parts = list(
        latents_of(iter(range(20)), lambda codes, _: np.full((1, 1, 2 * codes.size), next(answers)), Pace(5, 4))
    )
    second = parts[1][0][0, 0]
    assert np.all(np.diff(second) >= 0)
    np.testing.assert_allclose(second[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-6)


def test_a_frame_has_the_same_noise_in_every_window():
    noise = Noise(3, Draws(1))
    first, second = noise(0, 10), noise(4, 20)
    assert first.shape == (1, 3, 10)
    assert np.array_equal(first[:, :, 4:], second[:, :, :6])
    assert 0.6 < noise(4, 2000).std() < 1.4


@pytest.mark.parametrize("sizes", [[1], [7], [3, 3, 3], [1, 20, 2], [40]])
def test_sliding_windows_keep_every_frame_once_and_look_far_enough(sizes):
    left, right, total = 4, 3, sum(sizes)
    track = np.arange(total)[np.newaxis, np.newaxis]
    parts = np.split(track, np.cumsum(sizes)[:-1], axis=2)
    kept = []
    for window, first, last in sliding(((part, part is parts[-1]) for part in parts), left, right):
        frames = window[0, 0]
        end = frames.size if last is None else last
        assert frames[first] - frames[0] == min(left, frames[first])
        assert last is None or frames.size - end == right
        kept += frames[first:end].tolist()
    assert kept == list(range(total))


def test_a_voice_says_the_same_codes_while_it_writes_them(source):
    with pipeline.load(source.path) as voice:
        phones, how = np.arange(1, 30), {"seed": 4, "max_tokens": 60}
        whole = voice.synthesize(phones=phones, **how)
        for ahead in (2, 8):
            pieces = [one.samples for one in voice.stream(phones=phones, ahead=ahead, window=0.1, **how)]
            assert len(pieces) > 1
            assert sum(map(len, pieces)) == len(whole.samples)
            assert np.isfinite(np.concatenate(pieces)).all()
        assert len(list(voice.stream(phones=phones, ahead=1000, **how))) == 1


def test_sound_comes_before_the_last_code(source):
    with pipeline.load(source.path) as voice:
        written = []
        codes = voice.codes
        voice.codes = lambda *given: (written.append(code) or code for code in codes(*given))
        pieces = voice.stream(phones=np.arange(1, 30), seed=4, max_tokens=60, ahead=2)
        assert next(pieces).samples.size
        before = len(written)
        list(pieces)
        assert before < len(written)


def test_another_speed_waits_for_the_sentence(source):
    with pipeline.load(source.path) as voice:
        how = {"phones": np.arange(1, 20), "seed": 1, "max_tokens": 30, "speed": 1.3}
        streamed = np.concatenate([one.samples for one in voice.stream(**how)])
        assert streamed.size == voice.synthesize(**how).samples.size


@pytest.mark.parametrize("ahead", [0, -1, 1001, 1.5])
def test_an_impossible_ahead_is_refused(source, ahead):
    with pipeline.load(source.path) as voice, pytest.raises(InputError) as error:
        voice.stream(phones=[1, 2, 3], ahead=ahead)
    assert any("ahead" in problem for problem in error.value.problems)
