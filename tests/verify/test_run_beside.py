"""The source runs in a thread of its own while the artifact is verified."""

import threading
import time
from types import SimpleNamespace

import pytest

from gsvexport.verify import golden, ruler
from gsvexport.verify.beside import Beside


class Voice:
    """Counts the stages that it ran."""

    model, stages, baked, ran = None, None, None, 0

    def run(self, stage, feeds):
        self.ran += 1
        time.sleep(0.01)
        return {}


def test_calls_are_made_in_order_beside_what_waits_for_them():
    order = []
    with Beside() as beside:
        found = [beside.start(lambda number=number: order.append(number) or threading.get_ident()) for number in (1, 2)]
        threads = {one.result() for one in found}
    assert order == [1, 2]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_nobody_waits_for_the_source_who_pressed_ctrl_c():
    voice, never = Voice(), []

    def long(voice):
        for _ in range(1000):
            voice.run("step", {})

    with pytest.raises(KeyboardInterrupt), Beside() as beside:
        beside.start(long, beside.stopping(voice))
        beside.start(never.append, 1)
        while not voice.ran:
            time.sleep(0.001)
        raise KeyboardInterrupt
    assert voice.ran < 500
    assert not never


def test_what_goes_wrong_beside_is_raised_where_it_is_wanted():
    with Beside() as beside:
        found = beside.start(lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            found.result()


def test_golden_vectors_and_the_ruler_are_of_one_core_however_many_there_are(tmp_path, monkeypatch):
    opened = []

    class Opened(SimpleNamespace):
        def __enter__(self):
            raise LookupError

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(
        "gsvexport.runtime.pipeline.load", lambda path, *, threads=None: opened.append(threads) or Opened()
    )
    for make in (lambda: golden.make(tmp_path, tmp_path / "golden"), lambda: ruler.of_source(tmp_path)):
        with pytest.raises(LookupError):
            make()
    assert opened == [1, 1]
