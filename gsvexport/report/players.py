"""Sound on a page: WAV files of 16 bits as data URIs, and what a difference has to be amplified by to be heard."""

from __future__ import annotations

import base64
import io
import math
import wave
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.report.listen import Sound
from gsvexport.report.markup import Html, element
from gsvexport.report.picture import DIFFERENCE_DB, RANGE_DB, decibels, differences, figure, levels
from gsvexport.signal.loudness import distance
from gsvexport.verify.audio import log_mel_l1
from gsvexport.verify.tensors import SNR_CAP, snr_db

Array = NDArray[Any]

LONGEST = 12.0  # seconds of one sound that a page holds
_PEAK = 0.5  # of full scale, that an amplified difference comes to
_MOST_GAIN_DB = 100.0


def sound_card(sound: Sound) -> Html:
    """One utterance: what it is, figures, a player and a spectrogram for source, artifact and difference."""
    rows: list[Html] = [element("h3", sound.title), element("p", sound.about, class_="about")]
    if sound.problem:
        rows.append(element("p", sound.problem, class_="problem"))
    if sound.artifact is None:
        return element("article", rows, class_="sound")
    rate, limit = sound.rate, int(LONGEST * sound.rate)
    found = sound.artifact[:limit]
    if sound.reference is None:
        top = float(np.max(decibels(found, rate), initial=-100.0))
        picture = figure(levels(decibels(found, rate), top), rate, title="Artifact")
        rows.append(element("div", _track("Artifact", found, rate, picture), class_="tracks"))
        return element("article", rows, class_="sound")
    expected = sound.reference[:limit]
    before, after = decibels(expected, rate), decibels(found, rate)
    top = float(np.max(before, initial=-100.0))
    error = found.astype(np.float64) - expected
    gain = gain_db(error)
    picture = figure(differences(after, before), rate, title="Artifact's picture minus the source's", signed=True)
    tracks = [
        _track("Source (FP32)", expected, rate, figure(levels(before, top), rate, title="Source")),
        _track("Artifact", found, rate, figure(levels(after, top), rate, title="Artifact")),
        element("p", "No sample differs: there is no difference to hear.", class_="about")
        if gain is None
        else _track(f"Difference, amplified by {gain:.0f} dB", error * 10 ** (gain / 20), rate, picture),
    ]
    other = None if sound.other is None else sound.other[:limit]
    if other is not None:
        picture = figure(levels(decibels(other, rate), top), rate, title="Source, another seed")
        tracks.append(_track("Source (FP32), another noise seed", other, rate, picture))
    rows += [
        element("p", _figures(expected, found, other, rate), class_="figures"),
        element("div", tracks, class_="tracks"),
    ]
    return element("article", rows, class_="sound")


def scales() -> Html:
    """What the colours of the pictures mean."""
    heat = f"from {RANGE_DB:.0f} dB below the source's loudest band up to it"
    signed = f"softer … louder than the source, ±{DIFFERENCE_DB:.0f} dB"
    told = (("scale heat", heat), ("scale signed", signed))
    return element("p", [element("span", element("i", class_=name), text) for name, text in told], class_="legend")


def gain_db(difference: Array) -> float | None:
    """Whole dB that bring a difference's peak near half of full scale, never below 0; None when nothing differs."""
    peak = float(np.max(np.abs(difference), initial=0.0))
    if peak == 0.0:
        return None
    return float(min(max(math.floor(20 * math.log10(_PEAK / peak)), 0.0), _MOST_GAIN_DB))


def wav(samples: Array, rate: int) -> bytes:
    """Mono samples [N] in [-1, 1] as a WAV file of 16 bits; louder ones are clipped."""
    out = io.BytesIO()
    with wave.open(out, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(np.rint(np.clip(samples, -1.0, 1.0) * 32767).astype("<i2").tobytes())
    return out.getvalue()


def _track(title: str, samples: Array, rate: int, picture: Html) -> Html:
    data = f"data:audio/wav;base64,{base64.b64encode(wav(samples, rate)).decode()}"
    player = element("audio", controls="controls", preload="none", src=data, aria_label=title)
    return element("div", element("div", element("b", title), player, class_="player"), picture, class_="track")


def _figures(expected: Array, found: Array, other: Array | None, rate: int) -> str:
    ratio = snr_db(expected, found)
    told = "identical" if ratio == SNR_CAP else f"{ratio:.1f} dB signal to noise"
    moved = f"loudness moved by {distance([(expected, found)], rate):.3g}"
    if other is not None and other.shape == expected.shape:
        moved += f", by another noise seed of the source by {distance([(expected, other)], rate):.3g}"
    return f"{expected.size / rate:.2f} s · {told} · log-mel error {log_mel_l1(expected, found, rate):.4g} · {moved}"
