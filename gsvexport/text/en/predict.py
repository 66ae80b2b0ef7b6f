"""The phones of words that no dictionary has, by the network that voices' trainers have asked: g2p_en's.

Two gated recurrent units (Cho et al. 2014): one reads the letters, the other writes the phones, the likeliest at each
step.
"""

from __future__ import annotations

import functools
import lzma
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")  # the rows of the encoder's table
START, END = 2, 3  # rows of the decoder's table; the phones follow them
LONGEST = 20  # phones that it can write
SHAPES = {
    **{"enc_emb": (29, 256), "enc_w_ih": (768, 256), "enc_w_hh": (768, 256), "enc_b_ih": (768,), "enc_b_hh": (768,)},
    **{"dec_emb": (74, 256), "dec_w_ih": (768, 256), "dec_w_hh": (768, 256), "dec_b_ih": (768,), "dec_b_hh": (768,)},
    **{"fc_w": (74, 256), "fc_b": (74,)},
}
VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]


def _phones() -> tuple[str, ...]:
    consonants = [
        "B",
        "CH",
        "D",
        "DH",
        "F",
        "G",
        "HH",
        "JH",
        "K",
        "L",
        "M",
        "N",
        "NG",
        "P",
        "R",
        "S",
        "SH",
        "T",
        "TH",
        "V",
        "W",
        "Y",
        "Z",
        "ZH",
    ]
    stressed = [f"{vowel}{stress}" for vowel in VOWELS for stress in "012"]
    names = sorted([*consonants, *stressed, "UW"])
    return ("<pad>", "<unk>", "<s>", "</s>", *names)


@functools.cache
def _weights() -> dict[str, Array]:
    import numpy as np  # only who asks for an unknown word waits for it

    data = lzma.decompress((Path(__file__).parent / "network.xz").read_bytes())
    values = np.frombuffer(data, "<f2").astype(np.float32)
    found, place = {}, 0
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        found[name] = values[place : place + count].reshape(shape)
        place += count
    return found


def predict(word: str) -> tuple[str, ...]:
    """The phones, with stress, of a word in lower case; at most 20."""
    import numpy as np

    weights, names = _weights(), _phones()
    hidden = np.zeros(256, np.float32)
    for letter in (*word, "</s>"):
        row = LETTERS.index(letter) if letter in LETTERS else LETTERS.index("<unk>")
        hidden = _step("enc", weights["enc_emb"][row], hidden)
    found: list[str] = []
    row = START
    for _ in range(LONGEST):
        hidden = _step("dec", weights["dec_emb"][row], hidden)
        row = int(np.argmax(weights["fc_w"] @ hidden + weights["fc_b"]))
        if row == END:
            break
        found.append(names[row])
    return tuple("UW1" if phone == "UW" else phone for phone in found if not phone.startswith("<"))


def _step(side: str, given: Array, hidden: Array) -> Array:
    """One step of a gated recurrent unit: [256], [256] → [256]."""
    import numpy as np

    weights = _weights()
    new = weights[f"{side}_w_ih"] @ given + weights[f"{side}_b_ih"]
    old = weights[f"{side}_w_hh"] @ hidden + weights[f"{side}_b_hh"]
    reset, update = 1 / (1 + np.exp(-(new[:512] + old[:512]).reshape(2, 256)))
    fresh = np.tanh(new[512:] + reset * old[512:])
    return np.asarray((1 - update) * fresh + update * hidden, np.float32)
