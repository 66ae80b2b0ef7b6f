"""What the first speech of a process brings, and no voice takes away again: libraries, kernels, the front ends of
languages. It is loaded before the budget of memory begins, so that the budget is for voices alone."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from math import ceil

from gsvexport.errors import GsvError, InputError
from gsvexport.serve.catalogue import Offer
from gsvexport.serve.logs import Log
from gsvexport.serve.pool import Opened, Pool
from gsvexport.serve.sound import PCM_RATE
from gsvexport.signal.audio import resample
from gsvexport.text.phonemise import phonemise

_GREETINGS = {"en": "Hello.", "zh": "你好。", "ja": "こんにちは。", "ko": "안녕하세요.", "yue": "你好。"}
_MOST = 25  # codes: a second


async def warm(pool: Pool, offers: Collection[Offer], budget: int, log: Log) -> None:
    """Have the smallest voice say a word, close it, and let the pool's budget begin there.

    Raises:
        InputError: the budget has no room for that voice alone.
    """
    if not offers:
        return
    smallest = min(offers, key=lambda one: (one.size, one.id))
    languages = {(one.model.language, one.model.symbols) for one in offers if one.model.language in _GREETINGS}
    try:
        took = await pool.begin(smallest, lambda opened: _greet(opened, languages))
    except InputError:
        raise
    except GsvError as error:  # told of again to whoever asks for it
        log("not_opened", voice=smallest.id, error=str(error))
        return
    log("warm", voice=smallest.id, grown=took)
    if took > budget:
        raise InputError(
            f"a budget of {budget / 1e6:g} MB of memory holds no voice",
            found=f"{smallest.id}, the smallest one here, took {took / 1e6:.0f} MB to say a word",
            fix=f"--memory {ceil(took / 1e6)}M, and as much again for every further voice that is to stay open",
        )


def _greet(opened: Opened, languages: Collection[tuple[str, str]]) -> None:
    """A word by this voice, and the front end of every language that is the own one of a voice."""
    model = opened.voice.model
    with contextlib.suppress(GsvError):  # a voice without a prompt, a language whose extra is not installed
        audio = opened.voice.synthesize(_GREETINGS.get(model.language, "1"), max_tokens=_MOST)
        resample(audio.samples, audio.rate, PCM_RATE)
    for language, symbols in sorted(languages):
        with contextlib.suppress(GsvError):
            phonemise(_GREETINGS[language], language, symbols)
