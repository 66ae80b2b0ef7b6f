"""Genuine aarch64 kernels of LiteRT: integers are the same, bit for bit, as on the machine that built them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from passes.graphs import snr
from tflite.small_vocoder import WINDOW, a_part, emitted, feeds, nhwc, true_ranges

pytest.importorskip("ai_edge_litert")

from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.quantise import quantise
from gsvexport.backends.tflite.session import Runner, interpreter, open_session
from gsvexport.emulate import Guest


@pytest.fixture(scope="module", params=("cortex-a53", "cortex-a76"))
def guest(request, emulator):
    with Guest(emulator, request.param, timeout=120) as one:
        yield one


def written(folder, graph):
    """A stage of one part on disk."""
    (folder / "vocoder.tflite").write_bytes(dump(graph))
    parts = [asdict(a_part(graph, WINDOW))]
    (folder / "vocoder.json").write_text(json.dumps({"schema": 1, "output": "audio", "samples": True, "parts": parts}))


@pytest.mark.parametrize("length", [7, 130])
def test_integers_are_the_same_on_arm(guest, tmp_path, length):
    whole = emitted()
    exact = Runner("exact", interpreter(dump(whole), 1, keep=True))
    exact.run(nhwc(feeds(100)))
    written(tmp_path, quantise(whole, true_ranges(whole, exact)))
    here = open_session(tmp_path / "vocoder.json").run(feeds(length))["audio"]
    there = guest.open_session("tflite", tmp_path, "vocoder.json").run(feeds(length))["audio"]
    assert np.ptp(here) > 0.5
    np.testing.assert_array_equal(here, there)


def test_floats_are_close_on_arm(guest, tmp_path):
    written(tmp_path, emitted())
    here = open_session(tmp_path / "vocoder.json").run(feeds(40))["audio"]
    there = guest.open_session("tflite", tmp_path, "vocoder.json").run(feeds(40))["audio"]
    assert snr(there, here) > 100
