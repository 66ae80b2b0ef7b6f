from __future__ import annotations

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.verify import audio, tensors

RATE = 32000
RANDOM = np.random.default_rng(0)
VOICE = (0.1 * RANDOM.standard_normal(RATE)).astype(np.float32)


def _tone(hz: float, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(RATE) / RATE)


def test_identical_arrays_are_named_by_the_capped_ratio_and_nothing_else_reaches_it() -> None:
    assert tensors.snr_db(VOICE, VOICE) == tensors.SNR_CAP
    nearly = VOICE.copy()
    nearly[0] = np.nextafter(nearly[0], np.float32(1))
    assert 150 < tensors.snr_db(VOICE, nearly) < tensors.SNR_CAP


def test_signal_to_noise_ratio_of_a_known_noise() -> None:
    noise = RANDOM.standard_normal(RATE)
    noise *= np.linalg.norm(VOICE) / np.linalg.norm(noise) * 10 ** (-60 / 20)
    assert tensors.snr_db(VOICE, VOICE + noise) == pytest.approx(60, abs=1e-6)


def test_silence_against_sound_has_the_lowest_ratio_and_no_infinity() -> None:
    silence = np.zeros(10)
    assert tensors.snr_db(silence, silence) == tensors.SNR_CAP
    assert tensors.snr_db(silence, np.ones(10)) == -tensors.SNR_CAP
    assert tensors.relative_error(silence, np.ones(10)) == 1.0


def test_errors_of_a_small_example() -> None:
    r, x = np.array([3.0, -4.0]), np.array([3.0, -4.5])
    assert tensors.max_abs_error(r, x) == 0.5
    assert tensors.scaled_error(r, x) == 0.125
    assert tensors.scaled_error(r / 10, x / 10) == pytest.approx(0.05)
    assert tensors.relative_error(r, x) == pytest.approx(0.1)
    assert tensors.cosine_distance(r, -r) == pytest.approx(2)
    assert tensors.cosine_distance(r, 3 * r) == 0
    assert tensors.cosine_distance(np.array([1.0, 0]), np.array([1.0, 1e-6])) == pytest.approx(5e-13, rel=1e-3)
    assert tensors.equal_share(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])) == 0.75


def test_top_k_agreement_counts_shared_candidates_and_ignores_their_order() -> None:
    r = np.array([[4.0, 3, 2, 1], [4, 3, 2, 1]])
    x = np.array([[3.0, 4, 2, 1], [4, 1, 2, 3]])
    assert tensors.top_k_agreement(r, x, 1) == 0.5
    assert tensors.top_k_agreement(r, x, 2) == 0.75
    assert tensors.top_k_agreement(r, x, 15) == 1.0


def test_top_k_agreement_of_equal_scores_prefers_the_lower_column() -> None:
    assert tensors.top_k_agreement(np.zeros((3, 20)), np.zeros((3, 20)), 15) == 1.0


def test_divergence_of_two_known_distributions() -> None:
    r, x = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
    assert tensors.kl_divergence(r, x) == pytest.approx(0.5 * np.log(2) + 0.5 * np.log(2 / 3))
    assert tensors.kl_divergence(r + 7, r) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "metric", [tensors.scaled_error, tensors.snr_db, tensors.cosine_distance, tensors.kl_divergence]
)
def test_a_nan_stays_a_nan(metric: object) -> None:
    r = RANDOM.standard_normal((4, 30))
    x = r.copy()
    x[2, 3] = np.nan
    assert np.isnan(metric(r, x))  # type: ignore[operator]
    assert np.isnan(tensors.top_k_agreement(r, x, 1))


def test_arrays_of_different_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        tensors.snr_db(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="one length"):
        audio.log_mel_l1(np.zeros(3000), np.zeros(4000), RATE)


def test_mel_filters_have_unit_area_and_slaneys_centres() -> None:
    filters = audio.mel_filters(RATE, 8192, 80)  # fine bins, so that the sum is close to the integral
    assert filters.sum(axis=1) * RATE / 8192 == pytest.approx(1, abs=0.02)
    # Slaney: 15 mel at 1 kHz, then 27 mel for each factor 6.4. Band b lies at (b + 1) / 81 of the whole range.
    top = 15 + 27 * np.log(RATE / 2 / 1000) / np.log(6.4)
    mel = 41 * top / 81
    hz = 1000 * np.exp((mel - 15) * np.log(6.4) / 27)
    assert np.argmax(filters[40]) * RATE / 8192 == pytest.approx(hz, abs=4)


def test_a_tone_lies_in_its_own_mel_band() -> None:
    band = int(np.argmax(audio.log_mel(_tone(1000), RATE).mean(axis=0)))
    centre = np.argmax(audio.mel_filters(RATE, 8192, 80)[band]) * RATE / 8192
    assert abs(centre - 1000) < 50


def test_doubling_the_level_moves_log_mels_by_the_logarithm_of_two() -> None:
    assert audio.log_mel_l1(VOICE, 2 * VOICE, RATE) == pytest.approx(np.log(2), abs=1e-6)
    assert audio.log_mel_l1(VOICE, VOICE, RATE) == 0


def test_multi_resolution_distance_of_a_doubled_signal() -> None:
    # |R - 2R| / |R| is 1, and the logarithm of 2 comes on top.
    assert audio.multi_resolution_stft(VOICE, 2 * VOICE) == pytest.approx(1 + np.log(2), abs=1e-6)


def test_multi_resolution_distance_grows_with_noise() -> None:
    noise = RANDOM.standard_normal(RATE)
    distances = [audio.multi_resolution_stft(VOICE, VOICE + level * noise) for level in (0, 1e-4, 1e-3, 1e-2)]
    assert distances[0] == 0
    assert distances == sorted(distances)


def test_magnitudes_of_a_tone_peak_at_half_the_window_sum() -> None:
    spectrum = audio.magnitudes(_tone(1000, 1.0), 1024, 256)
    assert spectrum.shape == (1 + RATE // 256, 513)
    assert spectrum[50, 32] == pytest.approx(1024 / 4, rel=1e-6)  # 1000 Hz is bin 32; the Hann window sums to N/2


def test_very_short_signals_still_have_a_spectrogram() -> None:
    assert np.isfinite(audio.log_mel_l1(np.ones(5), np.ones(5) / 2, RATE))
    with pytest.raises(ValueError, match="non-empty"):
        audio.log_mel(np.empty(0), RATE)


def test_shares_of_clipped_and_silent_samples() -> None:
    signal = np.concatenate([np.zeros(640 * 3), 0.5 * np.ones(640 * 1), np.ones(100)])
    assert audio.clipping_share(signal) == pytest.approx(100 / len(signal))
    assert audio.silence_share(signal, RATE) == 0.75  # the 100 samples at the end are no whole frame
    assert audio.silence_share(np.ones(10), RATE) == 1.0
    assert audio.rms(_tone(100)) == pytest.approx(0.5 / np.sqrt(2), rel=1e-6)
    assert audio.nonfinite_count(np.array([1, np.nan, np.inf])) == 2
