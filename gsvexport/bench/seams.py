"""What speech that begins early costs in sound: `python -m gsvexport.bench.seams SOURCE [--sentences N]`.

Held-out sentences are spoken once; then the same codes, with the same noise, go through windows that look ahead by a
few codes. Printed is how far their sound is from that of the whole sentence.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.runtime.ahead import Noise, Pace, latents_of
from gsvexport.runtime.draws import Draws
from gsvexport.runtime.loaded import LoadedStages
from gsvexport.runtime.pipeline import load
from gsvexport.runtime.ports import Array
from gsvexport.signal.loudness import distance
from gsvexport.stages import FRAMES_PER_CODE
from gsvexport.verify.heldout import spoken
from gsvexport.verify.tensors import snr_db

_AHEAD = (2, 4, 8, 16, 32)
_KEEP = 10  # codes of a window
_NOISE = np.float32(0.5)


def seams(voice: LoadedStages, phones: Array, seed: int) -> dict[int, tuple[float, float, float]]:
    """For each look-ahead: distance of loudness from the whole sentence, the latent's SNR in dB, and the largest step
    between two samples at a seam beside the largest one elsewhere."""
    prompt = voice.own_prompt()
    draws = Draws(seed)
    codes = voice.generate(phones, None, prompt, voice.sampling, draws, 1500).tokens
    noise = Noise(voice.model.dims.I, draws)(0, FRAMES_PER_CODE * codes.size)

    def latent(some: Array, start: int) -> Array:
        first = FRAMES_PER_CODE * start
        part = noise[:, :, first : first + FRAMES_PER_CODE * some.size]
        given = {"codes": some[np.newaxis], "phones": phones, "noise": part, "noise_scale": _NOISE}
        return _run(voice, "acoustic", given)["latent"]

    def sound(found: Array) -> Array:
        return _run(voice, "vocoder", {"latent": found})["audio"][0]

    exact = latent(codes, 0)
    heard, results = sound(exact), {}
    for ahead in _AHEAD:
        parts = [part for part, _ in latents_of(iter(codes.tolist()), latent, Pace(_KEEP, ahead))]
        early = np.concatenate(parts, axis=2)
        snr = snr_db(exact, early)
        samples = sound(early)
        steps = np.abs(np.diff(samples))
        ends = np.cumsum([part.shape[2] for part in parts])[:-1] * voice.model.hop
        near = np.zeros(steps.size, bool)
        for end in ends:
            near[max(0, end - voice.model.hop) : end + voice.model.hop] = True
        click = float(steps[near].max() / steps[~near].max()) if near.any() else 0.0
        results[ahead] = distance([(heard, samples)], voice.rate), snr, click
    return results


def _run(voice: LoadedStages, stage: str, given: dict[str, Any]) -> dict[str, Array]:
    values = {**voice.baked, **given}
    return voice.run(
        stage, {port.name: values[port.name] for port in voice.stages[stage].inputs if port.name in values}
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("--sentences", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    with load(options.source, threads=options.threads, any_machine=True) as voice:
        said = spoken(voice.model, options.sentences)
        found = [seams(voice, np.array([one], np.int64), seed) for seed, one in enumerate(said)]
    say = sys.stdout.write
    say(f"{len(found)} sentences of {options.source}, windows of {_KEEP} codes\n")
    say("ahead  distance (worst)  latent SNR  largest step at a seam / elsewhere\n")
    for ahead in _AHEAD:
        far, snr, click = zip(*(one[ahead] for one in found), strict=True)
        say(f"{ahead:5}  {np.mean(far):.3f} ({max(far):.3f})     {np.mean(snr):5.1f} dB    {max(click):.2f}\n")


if __name__ == "__main__":
    main()
