"""Unknown words: jieba's hidden Markov model says where they begin and end, and what part of speech they are.

A state is the place in a word (B: begin, M: middle, E: end, S: a word alone) with the part of speech.
"""

from __future__ import annotations

import functools
from pathlib import Path

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


def unknown_words(text: str) -> list[tuple[str, str]]:
    """The words of a run of Han characters with their parts of speech, by Viterbi's algorithm."""
    first = _possible(text[0])
    scores: list[Costs] = [{state: _start()[state] + cost for state, cost in first.items()}]
    came: list[dict[int, int]] = []
    for char in text[1:]:
        before = [state for state in scores[-1] if _after(state)]
        reachable = {state for one in before for state in _after(one)}
        possible = _possible(char)
        options = (possible.keys() & reachable) or reachable or set(range(len(_states())))
        best = {
            state: max(
                (scores[-1][one] + _after(one).get(state, _INFINITE) + possible.get(state, NEVER), one)
                for one in before
            )
            for state in options
        }
        scores.append({state: score for state, (score, _) in best.items()})
        came.append({state: one for state, (_, one) in best.items()})
    state = max((score, one) for one, score in scores[-1].items())[1]
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
