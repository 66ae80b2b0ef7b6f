"""Draws pictures/source-and-artifact.svg: one sentence as source and artifact say it, and what differs.

Both get the same codes and the same noise. Run: python docs/picture.py ARTIFACT SOURCE
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path

import numpy as np

import gsvexport
from gsvexport.report.listen import Sound, spoken_sounds
from gsvexport.report.picture import decibels, differences, levels, png
from gsvexport.verify.audio import MEL_FFT, MEL_HOP, MELS, mel_filters

OUT = Path(__file__).parent / "pictures" / "source-and-artifact.svg"
WIDTH, HEIGHT, LEFT, ROW = 850, 116, 62, 146
TICKS = (500, 2000, 8000)


def drawn(sound: Sound) -> str:
    """One utterance as an SVG of three spectrograms, whose pictures are PNG files inside it."""
    rate, expected, found = sound.rate, sound.reference, sound.artifact
    before, after = decibels(expected, rate), decibels(found, rate)
    top = float(before.max())
    rows = (
        ("FP32 source", levels(before, top), False),
        ("artifact for x86-64-int8", levels(after, top), False),
        ("what differs: ±6 dB from blue (softer) to orange (louder)", differences(after, before), True),
    )
    seconds = before.shape[0] * MEL_HOP / rate
    parts = []
    for place, (title, pixels, signed) in enumerate(rows):
        data = base64.b64encode(png(pixels, signed=signed)).decode()
        y = 28 + place * ROW
        parts.append(f'<text x="{LEFT}" y="{y - 8}" font-weight="600">{title}</text>')
        parts.append(
            f'<image x="{LEFT}" y="{y}" width="{WIDTH}" height="{HEIGHT}" preserveAspectRatio="none" '
            f'href="data:image/png;base64,{data}"/>'
        )
        parts += [label(y + at, hertz) for hertz, at in ticks(rate)]
    bottom = 28 + 2 * ROW + HEIGHT + 18
    for second in np.arange(0, seconds, 0.5):
        parts.append(f'<text x="{LEFT + WIDTH * second / seconds:.1f}" y="{bottom}">{second:g} s</text>')
    width, height = LEFT + WIDTH + 12, bottom + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" fill="#333"><rect width="100%" height="100%" fill="#fff"/>'
        f"<title>{sound.title}</title>{''.join(parts)}</svg>\n"
    )


def ticks(rate: int) -> list[tuple[int, float]]:
    """(Hz, pixels below the top) of the marks at the side of a picture."""
    centres = np.argmax(mel_filters(rate, MEL_FFT, MELS), axis=1) * rate / MEL_FFT
    return [(hertz, HEIGHT * (1 - float(np.interp(hertz, centres, np.arange(MELS))) / MELS)) for hertz in TICKS]


def label(y: float, hertz: int) -> str:
    """One mark of frequency."""
    return f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{hertz / 1000:g} kHz</text>'


def main(artifact: str, source: str) -> None:
    """Let both say the first held-out sentence of the report, and draw it."""
    with gsvexport.load(artifact) as voice, gsvexport.load(source) as reference:
        sound = spoken_sounds(voice, reference, lambda text: None)[0]
    OUT.write_text(drawn(sound), encoding="utf-8")
    sys.stdout.write(f"{OUT}  {OUT.stat().st_size / 1000:.0f} kB: {sound.title}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
