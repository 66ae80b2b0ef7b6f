"""What a server does when a replica that speaks for it is busy, refuses, or dies."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from gsvexport.serve import far
from gsvexport.serve.far import FarDesk
from gsvexport.serve.faults import Fault
from gsvexport.serve.speech import Wish

SOUND = np.zeros(3, np.float32)
RATE, PIECE = ("rate", 24000), ("piece", SOUND, 24000, ["it ran away"])
WISH = Wish(SimpleNamespace(id="alice"), "Hello.")


class Full(Exception):
    pass


class Dead(Exception):
    pass


class Replica:
    """Says these messages; an exception among them is raised."""

    def __init__(self, *messages):
        self._messages, self.cancelled = list(messages), False

    async def __anext__(self):
        if not self._messages:
            raise StopAsyncIteration
        message = self._messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    def cancel(self):
        self.cancelled = True


def hear(*replicas):
    """The pieces that a caller hears, and the error that ends them, where the replicas are asked in turn."""
    left, found = list(replicas), []
    desk = FarDesk(lambda wish: left.pop(0), (Full,), (Dead,))

    async def go():
        async with desk.speech(WISH) as speech:
            assert desk.waiting == 0
            assert speech.rate == 24000
            while (piece := await speech.next()) is not None:
                found.append(piece)

    try:
        asyncio.run(go())
    except Fault as fault:
        return found, fault, left
    finally:
        assert desk.waiting == 0
    return found, None, left


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(far, "_PAUSE", 0)


def test_what_is_lost_before_it_is_heard_is_asked_for_again():
    for first in (Replica(Dead()), Replica(RATE, Dead())):
        last = Replica(RATE, PIECE, PIECE)
        found, fault, _ = hear(first, last)
        assert fault is None
        assert [(piece.rate, piece.notes, len(piece.samples)) for piece in found] == [(24000, ("it ran away",), 3)] * 2
        assert last.cancelled


def test_what_is_lost_afterwards_is_cut():
    found, fault, left = hear(Replica(RATE, PIECE, Dead()), Replica(RATE, PIECE, PIECE))
    assert (len(found), fault.status, fault.code, len(left)) == (1, 503, "lost", 1)


def test_nobody_is_asked_for_ever():
    replicas = [Replica(Dead()) for _ in range(9)]
    _, fault, left = hear(*replicas)
    assert (fault.status, fault.code, dict(fault.headers)["retry-after"], len(left)) == (503, "lost", "5", 5)


def test_who_comes_when_all_are_busy_is_told_when_to_come_again():
    _, fault, _ = hear(Replica(Full()))
    assert (fault.status, fault.code, dict(fault.headers)["retry-after"]) == (429, "busy", "5")


def test_what_a_replica_refuses_is_refused():
    _, fault, _ = hear(Replica(("fault", 400, "no", "cannot_be_spoken", "input", ())))
    assert (fault.status, fault.message, fault.code, fault.param) == (400, "no", "cannot_be_spoken", "input")


def test_sound_of_another_rate_is_not_begun():
    _, fault, _ = hear(Replica(RATE, Dead()), Replica(("rate", 32000), PIECE))
    assert (fault.status, fault.code) == (503, "replaced")
