"""The time grid that makes the speech easy to learn.

A token is 40 ms, two frames of the latent. Every phone lasts a whole number of tokens, and every token holds a whole
number of glottal cycles, 5 to 9, so that the voice's phase is 0 wherever a token starts. The noise of unvoiced sounds
is as predictable: token k of a phone gets cell min(k, 3) of one fixed noise. So a token (phone, place in the phone,
cycles) says what the waveform is, up to its neighbours' influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gsvexport.text.en.letters import VOWELS
from gsvexport.text.phonemise import SIGNS, phonemise
from gsvexport.train.festival import PAUSE, Segment, festival_phone

Floats = NDArray[np.float64]

RATE = 32000
HOP = 640
TOKEN_SECONDS = 0.04
FEWEST_CYCLES, MOST_CYCLES = 5, 9  # per token: 125 to 225 Hz
CELLS = 4  # of the fixed noise, one token each
_HERTZ = 1 / TOKEN_SECONDS  # of one cycle per token
_CHANGE = 0.1  # what one cycle up or down costs
_ROUND_UP = 0.6  # a phone of x tokens gets floor(x + 0.6): the shortest ones stay audible
_LEAD, _TAIL = 2, 4  # tokens of silence before and after
_PAUSES = (2, 6)  # fewest and most tokens of a pause inside
_TAIL_SECONDS = 0.16
_PLACES = {True: 5, False: 3}  # the last place told apart, in vowels and in other phones
PLACES = max(_PLACES.values()) + 1  # that are told apart

_CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
LABELS = (PAUSE, *_CONSONANTS.split(), *(vowel + stress for vowel in sorted(VOWELS) for stress in "01"))
_LABEL = {name: number for number, name in enumerate(LABELS)}
UNVOICED = frozenset(_LABEL[name] for name in (PAUSE, "P", "T", "K", "F", "TH", "S", "SH", "CH", "HH"))
FRICATIVE = frozenset(_LABEL[name] for name in ("Z", "ZH", "V", "DH", "JH"))


@dataclass(frozen=True)
class Unit:
    """A phone or a pause on the grid: its label, the source's stretch in seconds, its tokens, its phone."""

    label: int
    start: float
    end: float
    tokens: int
    phone: int

    @property
    def voiced(self) -> bool:
        """Whether the glottis moves in it."""
        return self.label not in UNVOICED


@dataclass(frozen=True)
class Plan:
    """A text on the grid: its phones by name, and for each of T tokens int arrays [T].

    `unit` is the number of the token's unit, `place` the token's number in it, `cycles` the glottal cycles of 40 ms.
    """

    phones: tuple[str, ...]
    units: tuple[Unit, ...]
    unit: NDArray[np.int64]
    place: NDArray[np.int64]
    cycles: NDArray[np.int64]

    def keys(self) -> NDArray[np.int64]:
        """What a token stands for, [T, 3]: label, place (the last ones merged), cycles (0 where unvoiced)."""
        units = [self.units[index] for index in self.unit]
        places = [min(place, _PLACES[_is_vowel(unit.label)]) for unit, place in zip(units, self.place, strict=True)]
        cycles = [count if unit.voiced else 0 for unit, count in zip(units, self.cycles, strict=True)]
        return np.stack([[unit.label for unit in units], places, cycles], axis=1).astype(np.int64)

    def aligned(self) -> NDArray[np.int64]:
        """The number of the phone that each token says, [T]."""
        return np.array([self.units[index].phone for index in self.unit], np.int64)


def label_of(symbol: str) -> int:
    """The label of a phone; both kinds of stress are one, and every sign is a pause."""
    return _LABEL[PAUSE] if symbol in SIGNS else _LABEL[symbol.replace("2", "1")]


def units(text: str, segments: Sequence[Segment]) -> tuple[tuple[str, ...], tuple[Unit, ...]] | None:
    """The phones of our front end and their units, or None where festival said something else."""
    spoken = phonemise(text, "en", "v2")
    if len(spoken) != 1:
        return None
    phones = tuple(spoken[0])
    lead = 1 if phones[0] in SIGNS else 0  # the front end's sign before a very short text, said by the first silence
    said = [PAUSE, *(PAUSE if phone in SIGNS else festival_phone(phone) for phone in phones[lead:])]
    if said != [segment.phone for segment in segments]:
        return None
    found = []
    for place, segment in enumerate(segments):
        phone = max(place - 1, 0) + (lead if place else 0)
        start, end, tokens = segment.start, segment.end, (segment.end - segment.start) / TOKEN_SECONDS
        if place == 0:
            start, length = max(start, end - _LEAD * TOKEN_SECONDS), _LEAD
        elif place == len(segments) - 1:
            end, length = start + _TAIL_SECONDS, _TAIL
        elif segment.phone == PAUSE:
            length = int(np.clip(np.floor(tokens + 0.5), *_PAUSES))
        else:
            length = max(1, int(np.floor(tokens + _ROUND_UP)))
        label = _LABEL[PAUSE] if place == 0 else label_of(phones[phone])
        found.append(Unit(label, start, end, length, phone))
    return phones, tuple(found)


def plan(phones: tuple[str, ...], found: tuple[Unit, ...], pitch: Floats, period: float) -> Plan:
    """Place the tokens; `pitch` is the source's F0 in Hz at multiples of `period` seconds, 0 where unvoiced.

    Unvoiced tokens have cycles, too, so that the phase runs on.
    """
    unit = np.repeat(np.arange(len(found)), [one.tokens for one in found])
    place = np.concatenate([np.arange(one.tokens) for one in found])
    wanted = np.full(len(unit), np.nan)
    for token, (index, number) in enumerate(zip(unit, place, strict=True)):
        one = found[index]
        if one.voiced:
            step = (one.end - one.start) / one.tokens
            first, stop = one.start + step * number, one.start + step * (number + 1)
            values = pitch[max(0, int(first / period - 1)) : int(stop / period) + 2]
            if (values := values[values > 0]).size:
                wanted[token] = np.median(values) / _HERTZ
    return Plan(phones, found, unit, place, _steady(wanted))


def _steady(wanted: Floats) -> NDArray[np.int64]:
    """Whole cycles [T] near `wanted` (NaN: any), with few changes: the least Σ (cycles − wanted)² + changes · 0.1."""
    choices = np.arange(FEWEST_CYCLES, MOST_CYCLES + 1)
    away = np.where(np.isnan(wanted)[:, None], 0.0, (choices - np.nan_to_num(wanted)[:, None]) ** 2)
    change = _CHANGE * np.abs(choices[:, None] - choices)
    cost, came = away[0], []
    for row in away[1:]:
        total = cost + change  # [to, from]
        came.append(total.argmin(axis=1))
        cost = total.min(axis=1) + row
    path = [int(cost.argmin())]
    for row in reversed(came):
        path.append(int(row[path[-1]]))
    return choices[path[::-1]]


def frequency(cycles: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """F0 in Hz and the phase in cycles at 0, 20, 40 … ms, [2T+1] each: linear between, whole at every token's start.

    At a boundary F0 is the mean of both sides; the middle of a token takes what its number of cycles leaves.
    """
    count = cycles.astype(np.float64)
    edge = np.concatenate([[count[0]], (count[:-1] + count[1:]) / 2, [count[-1]]]) * _HERTZ
    nodes = np.empty(2 * len(count) + 1)
    nodes[0::2] = edge
    nodes[1::2] = (4 * _HERTZ * count - edge[:-1] - edge[1:]) / 2
    phase = np.concatenate([[0.0], np.cumsum(TOKEN_SECONDS / 4 * (nodes[:-1] + nodes[1:]))])
    return nodes, phase


def _is_vowel(label: int) -> bool:
    return LABELS[label][:-1] in VOWELS
