"""Pictures of sounds: PNG files that decode, axes that tell the truth, scales that mean what they say."""

import base64
import re
import struct
import zlib

import numpy as np

from gsvexport.report.picture import DIFFERENCE_DB, RANGE_DB, decibels, differences, figure, levels, palette, png

RATE = 32000


def decode(data):
    """(pixels [height, width], palette [256, 3]) of an 8-bit palette PNG, with every checksum checked."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(data):
        (size,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + size
    assert list(chunks) == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 3, [0, 0, 0])
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()
    return rows[:, 1:], np.frombuffer(chunks[b"PLTE"], np.uint8).reshape(256, 3)


def tone(hz, seconds=1.0):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)


def test_a_picture_decodes_to_what_was_drawn():
    drawn = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pixels, colours = decode(png(drawn))
    assert np.array_equal(pixels, drawn)
    assert colours.tobytes() == palette(signed=False) != palette(signed=True)


def test_a_spectrogram_has_a_column_for_each_frame_and_a_row_for_each_band():
    pixels = levels(decibels(tone(1000), RATE), 0.0)
    assert pixels.shape == (80, 1 + RATE // 256)


def test_low_tones_are_low_in_the_picture_and_high_ones_high():
    rows = [np.argmax(levels(decibels(tone(hz), RATE), 0.0)[:, 60]) for hz in (300, 1000, 4000, 12000)]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > 60 > 20 > rows[-1]


def test_the_scale_runs_from_its_top_to_its_range_below():
    spectrogram = np.array([[0.0, -RANGE_DB / 2, -RANGE_DB, -200.0, 20.0, np.nan]])
    assert levels(spectrogram, 0.0)[::-1, 0].tolist() == [255, 128, 0, 0, 255, 0]


def test_a_difference_is_neutral_where_there_is_none_and_ends_at_its_range():
    reference = np.zeros((1, 4))
    found = np.array([[0.0, DIFFERENCE_DB, -DIFFERENCE_DB, 100.0]])
    assert differences(found, reference)[::-1, 0].tolist() == [128, 255, 0, 255]


def test_the_axes_belong_to_the_picture():
    text = figure(levels(decibels(tone(1000, 2.0), RATE), 0.0), RATE, title="a & b")
    (encoded,) = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", text)
    pixels, _ = decode(base64.b64decode(encoded))
    peak = np.argmax(pixels[:, 100]) / 80 * 100  # per cent from the top
    (tick,) = re.findall(r'top:([\d.]+)%">1 kHz', text)
    assert abs(float(tick) - peak) < 2.5
    assert "8 kHz" in text
    assert "16 kHz" not in text  # the top edge itself
    marks = [float(share) for share in re.findall(r'left:([\d.]+)%">', text)]
    assert marks == sorted(marks)
    assert "1.5 s" in text
    assert 'alt="a &amp; b: spectrogram of' in text
