"""The pool of open voices, with voices and a memory that are counted and not real."""

import asyncio
import dataclasses
import threading
import time
from types import SimpleNamespace

import pytest

from gsvexport.errors import BackendError
from gsvexport.serve.pool import Pool, Withdrawn
from gsvexport.serve.settings import Settings


class Machine:
    """Voices of 100 bytes each, on a machine that held 1000 before. It fails where a voice is closed in use."""

    def __init__(self, **settings):
        self.held, self.opened, self.closed, self.peak, self.delay, self.broken = 1000, [], [], 0, 0.0, set()
        self.pool = Pool(Settings(memory=250, **settings), opener=self.open, resident=lambda: self.held)
        self.leased = {}

    def open(self, offer, _):
        time.sleep(self.delay)
        if offer.id in self.broken:
            raise BackendError(f"{offer.id} does not open")
        self.held += 100
        self.peak = max(self.peak, self.held - 1000)
        self.opened.append(offer.id)
        return dataclasses.replace(Voice(offer=offer, machine=self))

    async def use(self, name, seconds=0.0):
        async with self.pool.lease(SimpleNamespace(id=name, key=name)) as voice:
            assert not voice.is_closed
            await asyncio.sleep(seconds)
            assert not voice.is_closed


@dataclasses.dataclass(eq=False)
class Voice:
    offer: object
    machine: Machine
    users: int = 0
    used: float = 0.0
    is_closed: bool = False

    def close(self):
        assert not self.users
        self.is_closed = True
        self.machine.held -= 100
        self.machine.closed.append(self.offer.id)


def run(work):
    return asyncio.run(asyncio.wait_for(work(), 20))


def test_what_was_not_used_for_longest_makes_room():
    async def work():
        one = Machine()
        for name in "abacabd":
            await one.use(name)
        assert one.opened == ["a", "b", "c", "b", "d"]
        assert one.closed == ["b", "c", "a"]
        assert one.peak == 300  # over the budget by no more than the voice that nobody had measured
        assert one.pool.growth == 200
        assert one.pool.open == ("b", "d")

    run(work)


def test_the_budget_begins_after_what_no_voice_gives_back():
    async def work():
        one = Machine()

        def speak(voice):
            assert not voice.is_closed
            one.held += 70  # libraries

        assert await one.pool.begin(SimpleNamespace(id="a", key="a"), speak) == 100
        assert (one.pool.open, one.pool.growth, one.held) == ((), 0, 1070)
        for name in "bca":  # a was measured: it gets its room first
            await one.use(name)
        assert (one.pool.open, one.pool.growth) == (("c", "a"), 200)

    run(work)


def test_a_voice_that_was_measured_before_gets_its_room_first():
    async def work():
        one = Machine()
        for name in "abc":
            await one.use(name)
        one.peak = 0
        await one.use("a")
        assert one.peak == 200

    run(work)


def test_many_callers_wait_for_one_load_and_one_who_leaves_stops_it_for_nobody():
    async def work():
        one = Machine()
        one.delay = 0.05
        callers = [asyncio.ensure_future(one.use("a")) for _ in range(50)]
        await asyncio.sleep(0.01)
        callers[0].cancel()
        await asyncio.gather(*callers[1:])
        assert one.opened == ["a"]

    run(work)


def test_a_pinned_voice_stays_and_one_that_speaks_is_waited_for():
    async def work():
        one = Machine(pin=("a",))
        await one.use("a")
        await one.use("b")
        first = asyncio.ensure_future(one.use("b", 0.1))
        await asyncio.sleep(0.01)
        await one.use("c")  # nobody has measured it, so it is opened, and then one is too many
        await first
        for _ in range(1000):  # closing has its turn when the machine has
            await asyncio.sleep(0.01)
            if one.pool.growth <= 250:
                break
        assert "a" in one.pool.open
        assert one.pool.growth <= 250
        for name in "bcbcbc":
            await asyncio.gather(one.use(name, 0.01), one.use("a"))
        assert "a" not in one.closed
        assert one.peak <= 300

    run(work)


def test_where_all_speak_the_next_one_waits_until_one_has_ended():
    async def work():
        one = Machine()
        for name in "abc":
            await one.use(name)  # all are measured, and b and c are open
        busy = [asyncio.ensure_future(one.use(name, 0.1)) for name in "bc"]
        await asyncio.sleep(0.01)
        third = asyncio.ensure_future(one.use("a"))
        await asyncio.sleep(0.03)
        assert not third.done()
        assert "a" not in one.pool.open
        await asyncio.gather(*busy, third)
        assert one.pool.growth <= 250

    run(work)


def test_a_voice_that_does_not_open_is_tried_again_by_the_next_caller():
    async def work():
        one = Machine()
        one.broken.add("a")
        found = await asyncio.gather(*(one.use("a") for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in found] == [BackendError] * 3
        one.broken.clear()
        await one.use("a")
        await one.pool.close()
        assert one.closed == ["a"]

    run(work)


def test_what_is_served_no_more_is_closed_when_nobody_hears_it_and_not_before():
    async def work():
        one = Machine()
        await one.use("b")
        speaking, waiting = asyncio.ensure_future(one.use("a", 0.1)), None
        await asyncio.sleep(0.02)
        one.pool.keep(["c"])
        await asyncio.sleep(0.02)
        assert one.closed == ["b"]
        waiting = asyncio.ensure_future(one.use("a", 0.2))  # asked before it was taken back
        await speaking
        await asyncio.sleep(0.02)
        assert one.closed == ["b"]
        await waiting
        await asyncio.sleep(0.02)
        assert one.closed == ["b", "a"]
        one.broken.add("b")
        with pytest.raises(Withdrawn):
            await one.use("b")

    run(work)


@pytest.mark.parametrize("seed", range(2))
def test_a_crowd_loses_nobody_and_keeps_the_budget(seed):
    import random

    async def work():
        one, chance = Machine(), random.Random(seed)
        for name in "abcdefgh":
            await one.use(name)
        one.peak = 0
        callers = [asyncio.ensure_future(one.use(chance.choice("abcdefgh"), chance.random() / 200)) for _ in range(200)]
        for caller in chance.sample(callers, 30):
            asyncio.get_running_loop().call_later(chance.random() / 20, caller.cancel)
        await asyncio.gather(*callers, return_exceptions=True)
        assert all(one.cancelled() or one.exception() is None for one in callers)
        assert one.peak <= 250
        assert threading.active_count() < 50

    run(work)
