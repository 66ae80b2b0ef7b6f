"""Seeds, sampling, windows and WAV in the page's own modules, beside Python's."""

from __future__ import annotations

import numpy as np
import pytest

from gsvexport.phrases.pack import Filled, Phrase, as_json
from gsvexport.runtime.audio import write_wav
from gsvexport.runtime.draws import Draws, philox
from gsvexport.runtime.sampling import Sampling, choose
from gsvexport.text.symbols import phone_ids, symbols

SEEDS = ((0, 0, 0), (1, 0, 0), (12345678901234567890, 3, 1), (2**64 - 1, 7, 0))
MANNERS = (
    {},
    {"top_k": 1},
    {"top_k": 5000, "top_p": 0.8},
    {"top_p": 0.3, "temperature": 0.6, "repetition_penalty": 1.0},
    {"temperature": 0.0, "top_k": 40},
    {"greedy": True},
)


def _said(manner):
    one = Sampling(**manner)
    return {name: getattr(one, name) for name in ("top_k", "top_p", "temperature", "repetition_penalty", "greedy")}


def test_the_modules_draw_choose_and_write_what_python_does(drive, tmp_path):
    blocks = [((0, 0, 0, 0), (0, 0)), ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2)]
    blocks.append(((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)))
    random = np.random.default_rng(5)
    count, rows = 1025, 40
    logits = (4 * random.standard_normal((rows, count))).astype(np.float32)
    logits[:, 100:110] = logits[:, 99:100]  # equal scores
    logits.tofile(tmp_path / "logits")
    seen = [3, 99, 100, 1000]
    sound = np.concatenate([1.5 * random.standard_normal(3000), [1, -1, 0.5 / 32767, 1.5 / 32767]]).astype(np.float32)
    sound.tofile(tmp_path / "sound")
    given = {"file": str(tmp_path / "logits"), "count": count, "rows": rows, "seen": seen}
    asked = [
        {**given, "sampling": _said(one), "seed": 7, "forbidden": 1024 if n % 2 else None}
        for n, one in enumerate(MANNERS)
    ]
    wavs = [{"file": str(tmp_path / "sound"), "out": str(tmp_path / "own.wav"), "rate": 22050}]
    seeds = [[str(seed), sentence, attempt] for seed, sentence, attempt in SEEDS]
    found = drive("numbers", blocks=blocks, seeds=seeds, channels=3, frames=50, draws=asked, wavs=wavs)

    assert [tuple(one) for one in found["blocks"]] == [philox(*one) for one in blocks]
    for at, seed in enumerate(SEEDS):
        draws = Draws(*seed)
        assert found["uniform"][at] == [draws.uniform() for _ in range(3)]
        wanted = draws.normal(3, 50).ravel()
        assert (
            np.array_equal(wanted, np.float32(found["noise"][at])) or np.abs(wanted - found["noise"][at]).max() < 1e-6
        )
        assert (wanted == np.float32(found["noise"][at])).mean() > 0.95  # nearly all are equal, says docs/seeds.md
    for at, manner in enumerate(MANNERS):
        draws, history = Draws(7), list(seen)
        for row, chosen in zip(logits, found["chosen"][at], strict=True):
            forbidden = asked[at]["forbidden"]
            wanted = choose(row, np.array(history), Sampling(**manner), draws, forbidden=forbidden)
            assert wanted == tuple(chosen), (manner, len(history))
            history.append(wanted[0])
    write_wav(tmp_path / "python.wav", sound, 22050)
    assert (tmp_path / "own.wav").read_bytes() == (tmp_path / "python.wav").read_bytes()


def test_a_phrase_is_filled_as_in_python(drive):
    slots = (("name", ("Anna", "Bob")), ("count", ("1", "2", "3")))
    some = (["W", "AH1", "N"], ["T", "UW1"], ["TH", "R", "IY1"])
    pieces = (
        ("HH", "AH0"),
        Filled(0, (("AE1", "N", "AH0"), ("B", "AA1", "B"))),
        (",",),
        Filled(1, tuple(map(tuple, some))),
        (".",),
    )
    phrase = Phrase("{name}, {count}.", slots, pieces, {(1, 2): ("UNK", ".")})
    choices = [{"name": name, "count": count} for name in ("Anna", "Bob") for count in ("1", "3")]
    found = drive("phrases", symbols=list(symbols("v2")), phrase=as_json(phrase), choices=choices)
    assert found == [list(phone_ids(phrase.phones(values), "v2")) for values in choices]
    assert "slot 'count'" in drive("phrases", symbols=[], phrase=as_json(phrase), choices=[{"name": "Bob"}])["error"]


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_a_seed_out_of_range_is_refused(drive, seed):
    found = drive("numbers", blocks=[], seeds=[[seed, 0, 0]], channels=1, frames=1, draws=[], wavs=[])
    assert "from 0 to 2^64 - 1" in found["error"]
