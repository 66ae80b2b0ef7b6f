"""Every reader, given bytes that nobody meant: it reads them, or refuses them with an error of ours.

`make fuzz` gives each FUZZ inputs (20,000) and prints how many there were; `make test` thirty.
"""

import contextlib
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import EXPECTED, TARGETS, as_file

pytestmark = pytest.mark.slow

INPUTS = int(os.environ.get("GSVEXPORT_FUZZ", "30"))
MEMORY = 100 << 20
TOKENS = [
    b"[",
    b"{",
    b"}",
    b'"',
    b":",
    b",",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"NaN",
    b"null",
    b"../",
    b"\x00",
    b"\xff",
    b"\x1b",
]
edit = st.one_of(
    st.tuples(st.just("set"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)),
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True), st.just(b"")),
    st.tuples(st.just("put"), st.floats(0, 1, exclude_max=True), st.sampled_from(TOKENS) | st.binary(max_size=16)),
    st.tuples(st.just("drop"), st.floats(0, 1, exclude_max=True), st.binary(max_size=8)),
    st.tuples(st.just("again"), st.floats(0, 1, exclude_max=True), st.binary(max_size=2)),
)


def spoilt(seed, edits):
    data = bytearray(seed)
    for kind, where, value in edits:
        place = int(where * len(data))
        if kind == "set":
            data[place : place + len(value)] = value
        elif kind == "cut":
            del data[place:]
        elif kind == "put":
            data[place:place] = value
        elif kind == "drop":
            del data[place : place + len(value)]
        else:
            data[place:place] = data[place : place + 32] * min(len(value) * 40, 80)
    return bytes(data)


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_seed_is_read(name):
    target, seed = TARGETS[name]
    with as_file(seed) as path:
        if name in (
            "graph",
            "baked",
            "source",
            "golden",
            "keys",
            "voice.toml",
        ):  # they name files, or keys, that are not there
            with contextlib.suppress(*EXPECTED):
                target(path)
        else:
            target(path)


@pytest.mark.parametrize("name", list(TARGETS))
def test_a_reader_reads_or_refuses(name, record_property):
    target, seed = TARGETS[name]
    count = 0

    @settings(max_examples=INPUTS, derandomize=INPUTS < 1000)
    @given(st.lists(edit, min_size=1, max_size=6))
    def run(edits):
        nonlocal count
        count += 1
        with as_file(spoilt(seed, edits)) as path, contextlib.suppress(*EXPECTED):
            target(path)

    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    record_property("inputs", count)
    print(f"{name}: {count} inputs")  # noqa: T201 - the long run shows it
    assert peak < MEMORY


@pytest.mark.parametrize("name", list(TARGETS))
def test_bytes_of_no_kind_are_refused(name):
    target, _ = TARGETS[name]
    for data in (
        b"",
        b"\0" * 1000,
        b"\xff" * 1000,
        b"[" * 100_000,
        b"{" * 100_000,
        b'{"a":' * 50_000,
        b"\x80\x02" + b"]" * 1000,
    ):
        with as_file(data) as path, contextlib.suppress(*EXPECTED):
            target(path)
