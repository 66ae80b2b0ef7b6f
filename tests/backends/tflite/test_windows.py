"""A stage of parts in windows: what the whole sequence gives, for sequences of every length."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import numpy as np
import pytest
from passes.graphs import run, snr
from tflite.small_vocoder import WINDOW, a_part, emitted, feeds, nhwc, true_ranges, vocoder

pytest.importorskip("ai_edge_litert")

from gsvexport.backends.tflite.flatbuffer import dump
from gsvexport.backends.tflite.quantise import quantise
from gsvexport.backends.tflite.segments import computed, context, frames, joined, products, rate, rest, segments
from gsvexport.backends.tflite.session import Part, Runner, in_windows, interpreter, open_session, windows
from gsvexport.errors import ArtifactError, BackendError


@pytest.fixture(scope="module")
def whole():
    return emitted()


@pytest.mark.parametrize("length", [1, 2, 7, WINDOW - 1, WINDOW, WINDOW + 1, 100])
def test_windows_give_what_the_whole_sequence_gives(whole, length):
    runner = Runner("it", interpreter(dump(whole), 1))
    found = in_windows(a_part(whole, WINDOW), runner, nhwc(feeds(length)))
    expected = run(vocoder(), feeds(length))["audio"]
    assert found.size == expected.size == 8 * length
    assert snr(found.reshape(1, -1), expected) > 100


def test_a_context_that_is_too_short_would_be_heard(whole):
    # By two frames: a polyphase kernel has zeros at its ends, whose reach is counted.
    runner, part = Runner("it", interpreter(dump(whole), 1)), a_part(whole, WINDOW)
    short = Part(part.file, part.window, part.left - 2, part.right - 2, part.rate)
    expected = run(vocoder(), feeds(100))["audio"]
    assert snr(in_windows(short, runner, nhwc(feeds(100))).reshape(1, -1), expected) < 100


@pytest.mark.parametrize("length", [5, 24, 61])
def test_integers_in_windows_are_the_same_integers(whole, length):
    exact = Runner("exact", interpreter(dump(whole), 1, keep=True))
    exact.run(nhwc(feeds(100)))
    ranges = true_ranges(whole, exact)
    runner = Runner("integers", interpreter(dump(quantise(whole, ranges)), 1))
    in_one = runner.run(nhwc(feeds(length)))
    np.testing.assert_array_equal(in_windows(a_part(whole, WINDOW), runner, nhwc(feeds(length))), in_one)


@pytest.mark.parametrize("frames_in_all", [1, 9, 10, 11, 29, 200])
def test_windows_keep_every_frame_once_and_look_far_enough(frames_in_all):
    part = Part("f.tflite", 10, 3, 2, 1)
    found = list(windows(frames_in_all, part))
    assert [one.first for one in found] == [0, *(one.last for one in found[:-1])]
    assert found[-1].last == frames_in_all
    for one in found:
        assert one.stop - one.start == min(10, frames_in_all)
        assert one.start == 0 or one.first - one.start >= 3
        assert one.stop == frames_in_all or one.stop - one.last >= 2


def test_a_graph_is_cut_where_its_rate_changes(whole):
    row = segments(whole)
    assert [rate(one) for one in row] == [1, 2, 4, 1]
    assert [frames(one) for one in row] == [WINDOW, WINDOW, 2 * WINDOW, 8 * WINDOW]
    assert [one.tensors[one.outputs[0]].name for one in row] == ["x0", "x1", "x2", "audio"]
    assert sum(map(products, row)) == products(whole)
    assert context(row[0]) == (2, 2)
    assert "ge" in computed(row[0])
    assert "ge" not in computed(row[1])
    first, last = joined(whole, row[:2]), rest(whole, row[:2])
    assert len(first.operators) + len(last.operators) == len(whole.operators)


@pytest.fixture
def recipe(whole, tmp_path):
    """A stage of two float parts on disk."""
    row = segments(whole)
    graphs = {"vocoder.tflite": joined(whole, row[:2]), "vocoder-rest.tflite": rest(whole, row[:2])}
    for name, one in graphs.items():
        (tmp_path / name).write_bytes(dump(one))
    parts = [asdict(a_part(one, frames(one), name)) for name, one in graphs.items()]
    path = tmp_path / "vocoder.json"
    path.write_text(json.dumps({"schema": 1, "output": "audio", "samples": True, "parts": parts}))
    return path


@pytest.mark.parametrize("length", [3, 24, 150])
def test_a_stage_of_parts_runs_as_one(recipe, length):
    session = open_session(recipe)
    expected = run(vocoder(), feeds(length))["audio"]
    for _ in range(2):
        found = session.run(feeds(length))
        assert list(found) == ["audio"]
        assert (found["audio"].shape, found["audio"].dtype) == (expected.shape, expected.dtype)
        assert snr(found["audio"], expected) > 100
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.run(feeds(length))


def test_threads_may_share_a_stage(recipe):
    session = open_session(recipe)
    lengths = [3, 90, 24, 41] * 4
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda length: session.run(feeds(length))["audio"], lengths))
    for length, one in zip(lengths, found, strict=True):
        assert snr(one, run(vocoder(), feeds(length))["audio"]) > 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema is none of 1"),
        ({"schema": None}, "schema is none of 1"),
        ({"output": 1}, "output is no text"),
        ({"samples": 1}, "samples is neither true nor false"),
        ({"parts": []}, "parts has 0 entries"),
        ({"parts": {}}, "parts is no list"),
        ({"parts": [[]]}, "is no table"),
        ({"file": "../vocoder.tflite"}, "no .tflite file beside it"),
        ({"file": "vocoder.exe"}, "no .tflite file beside it"),
        ({"file": None}, "file is no text"),
        ({"window": 4}, "keeps none"),
        ({"window": 1 << 40}, "window is not between"),
        ({"window": "8"}, "window is no whole number"),
        ({"rate": 0}, "rate is not between"),
        ({"rate": 0.5}, "rate is no whole number"),
        ({"left": -1}, "left is not between"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_recipe_that_cannot_be_right_is_refused(recipe, change, said):
    value = json.loads(recipe.read_text())
    (value if set(change) & {"schema", "parts", "output", "samples"} else value["parts"][0]).update(change)
    recipe.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=said):
        open_session(recipe)


@pytest.mark.parametrize("data", [b"", b"[1]", b"1", b"[" * 9000, b'{"schema": NaN}', b"\xff", b'{"schema": 1}'])
def test_what_is_no_recipe_is_refused(recipe, data):
    recipe.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"vocoder\.json is no recipe"):
        open_session(recipe)


def test_a_part_that_litert_cannot_load_is_named(recipe):
    (recipe.parent / "vocoder.tflite").write_bytes(b"\0" * 99)
    with pytest.raises(BackendError, match=r"vocoder\.tflite"):
        open_session(recipe)
