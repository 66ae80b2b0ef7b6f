"""Spectrograms as pictures: log-mel in decibels, the same bands that the log-mel gate compares.

PNG is written here with the standard library (ISO/IEC 15948): 8 bits a pixel into a palette of 256 colours.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gsvexport.report.markup import Html, element
from gsvexport.verify.audio import MEL_FFT, MEL_HOP, MELS, log_mel, mel_filters

Array = NDArray[Any]
Bytes = NDArray[np.uint8]

RANGE_DB = 80.0  # from the loudest band of the reference down to black
DIFFERENCE_DB = 6.0  # half the range of the picture of a difference
_NEPER_DB = 20.0 / float(np.log(10.0))
_TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16000)
# Corners of the two scales, dark to light, and cold over neutral to warm.
_HEAT = ((8, 8, 20), (64, 22, 104), (146, 40, 118), (222, 82, 82), (250, 160, 84), (252, 244, 200))
_SIGNED = ((120, 200, 255), (34, 94, 168), (22, 26, 36), (172, 70, 34), (255, 206, 120))


def decibels(samples: Array, rate: int) -> NDArray[np.float64]:
    """Log-mel spectrogram [frames, 80] in dB re 1."""
    return log_mel(samples, rate) * _NEPER_DB


def levels(spectrogram: Array, top: float) -> Bytes:
    """dB [frames, bands] → colours [bands, frames] of the heat scale, `top` dB lightest, low bands at the bottom."""
    return _indices((spectrogram - (top - RANGE_DB)) / RANGE_DB)


def differences(spectrogram: Array, reference: Array) -> Bytes:
    """dB and dB [frames, bands] → colours [bands, frames] of the signed scale: what is louder than in the reference is
    warm, what is softer cold."""
    return _indices((spectrogram - reference) / (2 * DIFFERENCE_DB) + 0.5)


def png(pixels: Bytes, *, signed: bool = False) -> bytes:
    """A picture [height, width] of palette indices as a PNG file."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter: none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    body = (
        (b"IHDR", header),
        (b"PLTE", palette(signed=signed)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in body)


def palette(*, signed: bool) -> bytes:
    """256 colours of 3 bytes, between the scale's corners."""
    corners = np.array(_SIGNED if signed else _HEAT, np.float64)
    places = np.linspace(0.0, len(corners) - 1.0, 256)
    channels = [np.interp(places, np.arange(len(corners)), corners[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8).tobytes()


def figure(pixels: Bytes, rate: int, *, title: str, signed: bool = False) -> Html:
    """A spectrogram's picture with its axes, kHz upwards and seconds to the right; it is as wide as the page lets it.

    `rate` is the sample rate in Hz that gives the axes their numbers; `title` is for those who do not see the picture.
    """
    bands, frames = pixels.shape
    seconds = frames * MEL_HOP / rate
    data = f"data:image/png;base64,{base64.b64encode(png(pixels, signed=signed)).decode()}"
    centres = np.argmax(mel_filters(rate, MEL_FFT, MELS), axis=1) * rate / MEL_FFT
    heights = [(hz, 1.0 - float(np.interp(hz, centres, np.arange(bands))) / bands) for hz in _TICKS_HZ if hz < rate / 2]
    vertical = [element("span", _kilohertz(hz), style=f"top:{100 * place:.1f}%") for hz, place in heights]
    step = next(step for step in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 1e9) if seconds / step <= 6)
    times = [count * step for count in range(int(seconds / step) + 1) if count * step <= 0.97 * seconds]
    horizontal = [element("span", f"{time:g} s", style=f"left:{100 * time / seconds:.1f}%") for time in times]
    return element(
        "figure",
        element("figcaption", "difference of the two pictures, dB" if signed else "log-mel, dB"),
        element(
            "div",
            element("div", vertical, class_="khz"),
            element("img", src=data, alt=f"{title}: spectrogram of {seconds:.2f} s", width=frames, height=bands),
            element("div", horizontal, class_="seconds"),
            class_="axes",
        ),
        class_="spectrogram",
    )


def _indices(values: Array) -> Bytes:
    scaled = np.rint(np.clip(np.nan_to_num(values), 0.0, 1.0) * 255.0).astype(np.uint8)
    return np.ascontiguousarray(scaled.T[::-1])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _kilohertz(hz: int) -> str:
    return f"{hz / 1000:g} kHz"
