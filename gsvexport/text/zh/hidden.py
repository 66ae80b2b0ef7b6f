"""Unknown words: jieba's hidden Markov model says where they begin and end, and what part of speech they are.

A state is the place in a word (B: begin, M: middle, E: end, S: a word alone) with the part of speech.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from gsvexport.text.sorted_lines import SortedLines, load

STATES, START, TRANSITIONS, ENTRY = "states", "start", "after", ":"  # of the file
NEVER = -3.14e100  # the logarithm of a probability of zero, as jieba has it
_INFINITE = float("-inf")

Costs = dict[int, float]


@functools.cache
def _blocks() -> tuple[SortedLines, SortedLines]:
    head, characters = load(Path(__file__).parent / "tagger.xz", 2)
    return head, characters


@functools.cache
def _states() -> list[tuple[str, str]]:
    return [(name[0], name[1:]) for name in (_blocks()[0].get(STATES) or b"").decode().split(" ")]


@functools.cache
def _start() -> list[float]:
    return [_value(one) for one in (_blocks()[0].get(START) or b"").decode().split(" ")]


@functools.cache
def _after(state: int) -> Costs:
    return _costs(_blocks()[0].get(f"{TRANSITIONS}{state}"))


@functools.lru_cache(4096)
def _possible(char: str) -> Costs:
    """What a character can be; every state for an unknown one."""
    return _costs(_blocks()[1].get(char)) or dict.fromkeys(range(len(_states())), NEVER)


def _costs(line: bytes | None) -> Costs:
    pairs = (one.split(ENTRY) for one in (line or b"").decode().split())
    return {int(index): _value(value) for index, value in pairs}


def _value(text: str) -> float:
    return NEVER if text == "-" else float(text)


@functools.cache
def _matrix() -> Any:
    """[states, states]: the logarithm of each step, minus infinity where there is none."""
    import numpy as np  # only a text with unknown words waits for it

    count = len(_states())
    found = np.full((count, count), _INFINITE)
    for state in range(count):
        for after, cost in _after(state).items():
            found[state, after] = cost
    return found


def unknown_words(text: str) -> list[tuple[str, str]]:
    """The words of a run of Han characters with their parts of speech, by Viterbi's algorithm."""
    import numpy as np

    steps = _matrix()
    states = np.array(sorted(_possible(text[0])))
    scores = np.array([_start()[state] + _possible(text[0])[state] for state in states])
    came = []
    for char in text[1:]:
        going = np.isfinite(steps[states]).any(axis=1)
        before, known = states[going], scores[going]
        reachable = set(np.flatnonzero(np.isfinite(steps[before]).any(axis=0)).tolist())
        possible = _possible(char)
        options = np.array(sorted((possible.keys() & reachable) or reachable or range(len(_states()))))
        costs = np.array([possible.get(state, NEVER) for state in options])
        found = known[:, None] + steps[np.ix_(before, options)] + costs
        best = len(before) - 1 - np.argmax(found[::-1], axis=0)  # of equal ones the last, as jieba has it
        came.append(dict(zip(options.tolist(), before[best].tolist(), strict=True)))
        states, scores = options, found[best, np.arange(len(options))]
    state = int(states[len(states) - 1 - np.argmax(scores[::-1])])
    path = [state]
    for step in reversed(came):
        path.append(state := step[state])
    return _words(text, [_states()[state] for state in reversed(path)])


def _words(text: str, path: list[tuple[str, str]]) -> list[tuple[str, str]]:
    found, begin, done = [], 0, 0
    for place, (position, tag) in enumerate(path):
        if position == "B":
            begin = place
        elif position in "ES":
            found.append((text[begin if position == "E" else place : place + 1], tag))
            done = place + 1
    if done < len(text):
        found.append((text[done:], path[done][1]))
    return found
