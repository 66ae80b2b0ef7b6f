"""Call the stages one by one: what a port to another language or runtime has to do.

python stages.py ARTIFACT "PHONES" OUT.wav     phones as names: "HH AH0 L OW1 ."
"""

import sys

import numpy as np

import gsvexport
from gsvexport.text.symbols import phone_ids


def main(artifact: str, phones: str, out: str) -> None:
    """phones -> codes (prefill, step) -> latent (acoustic) -> audio (vocoder)."""
    with gsvexport.load(artifact) as voice:
        ids = np.array([phone_ids(phones.split(), voice.model.symbols)])
        codes = voice.tokens(ids, sampling=gsvexport.Sampling(seed=1))
        frames = 2 * len(codes)  # 25 codes and 50 latent frames a second
        noise = np.random.default_rng(1).standard_normal((1, voice.model.dims.I, frames), dtype=np.float32)
        given = {name: voice.baked[name] for name in ("ge", "ge_text") if name in voice.baked}
        text = {"codes": codes[np.newaxis], "phones": ids, "noise": noise, "noise_scale": np.float32(0.5)}
        latent = voice.run("acoustic", {**given, **text})["latent"]
        audio = voice.run("vocoder", {"latent": latent, "ge": voice.baked["ge"]})["audio"]
        gsvexport.Audio(audio[0], voice.rate).save(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
