"""Speak on a device: numpy and the artifact's runtime, no torch.

python speak.py ARTIFACT "TEXT" OUT.wav
"""

import sys
import wave

import gsvexport


def main(artifact: str, text: str, out: str) -> None:
    """Write TEXT as a WAV file, each piece as soon as it is computed."""
    with gsvexport.load(artifact) as voice, wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(voice.rate)
        for piece in voice.stream(text):
            file.writeframes(piece.pcm().tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
