"""Damaged files either load or are refused with an error of ours: no other exception, no hang, no large allocation."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_files import HParams, content, write

from gsvexport.errors import GsvError
from gsvexport.signal.audio import read_audio
from gsvexport.voice.checkpoint import read_checkpoint
from gsvexport.voice.pickle import PickleError, plain, read_pickle
from gsvexport.voice.sizes import sovits_dims, t2s_dims
from gsvexport.voice.version import find_version
from gsvexport.voice.voice import read_voice

pytestmark = pytest.mark.slow

soundfile = pytest.importorskip("soundfile")
LIMIT = 200 << 20
CONFIG = HParams(model=HParams(hidden_dim=8, head=2, n_layer=1, rates=[1, 2]), data=HParams(hop_length=640))
WEIGHT = {
    "model.bert_proj.weight": np.arange(64, dtype="f2").reshape(8, 8),
    "enc_p.text_embedding.weight": np.ones((4, 2), "f4"),
    "flow.flows.0.pre.weight": np.ones(3, "u2"),
}
VOICE = b"""[voice]
name = "a"
language = "en"
gpt = "gpt.ckpt"
sovits = "sovits.pth"
[reference]
audio = "ref.wav"
phones = [1, "AH0"]
prompt_codes = "codes.npy"
"""


@functools.cache
def sample(compression: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.pth", content(WEIGHT, CONFIG), header=b"05", compression=compression)
        return path.read_bytes()


def check(data: bytes) -> None:
    """Read a file with this content in every way there is; only `GsvError` may come out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        path.write_bytes(data)
        with bounded_memory(), contextlib.suppress(GsvError):
            found = read_checkpoint(path)
            for array in found.tensors.values():
                array.sum()
            for function in (t2s_dims, lambda one: sovits_dims(one, find_version(one))):
                with contextlib.suppress(GsvError):
                    function(found)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LIMIT


edits = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6)
packings = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])


@settings(max_examples=400)
@given(packings, edits, st.none() | st.floats(0, 1))
def test_flipped_and_missing_bytes(compression, changes, length):
    data = bytearray(sample(compression))
    for place, value in changes:
        data[int(place * len(data))] = value
    check(bytes(data if length is None else data[: int(length * len(data))]))


@settings(max_examples=300)
@given(edits, st.booleans())
def test_a_damaged_zip_directory(changes, local):
    data = bytearray(sample(zipfile.ZIP_STORED))
    start, end = (2, data.index(b"data.pkl") + 8) if local else (data.index(b"PK\x01\x02"), len(data))
    for place, value in changes:
        data[start + int(place * (end - start))] = value
    check(bytes(data))


@settings(max_examples=500)
@given(edits)
def test_a_damaged_pickle_with_a_right_checksum(changes):
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, "b.pth")
        write(whole, content(WEIGHT, CONFIG))
        with zipfile.ZipFile(whole) as archive:
            pickled = archive.read("1795357.123/data.pkl")
    data = bytearray(pickled)
    for place, value in changes:
        data[int(place * len(data))] = value
    crc = [zlib.crc32(part).to_bytes(4, "little") for part in (pickled, bytes(data))]
    file = bytearray(sample(zipfile.ZIP_STORED).replace(pickled, bytes(data)).replace(*crc))
    assert bytes(data) in file
    check(bytes(file))


OPERATIONS = st.sampled_from(
    [bytes([code]) for code in b"().0123}]NtuebsaQRhqrjJKMXcGIdl\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x93\x94\x95"]
)
NAMES = [
    b"torch\nHalfStorage\n",
    b"torch._utils\n_rebuild_tensor_v2\n",
    b"collections\nOrderedDict\n",
    b"utils\nHParams\n",
]
WORDS = st.sampled_from(
    [b"c" + name for name in NAMES] + [b"\x8c\x07storage", b"\x8c\x01a", b"cos\nsystem\n", b"K\x02"]
)


@settings(max_examples=1500)
@given(st.lists(OPERATIONS | WORDS | st.binary(max_size=3), max_size=40).map(b"".join))
def test_random_operations(stream):
    with contextlib.suppress(PickleError):
        plain(read_pickle(b"\x80\x02" + stream + b"."))


@settings(max_examples=200)
@given(edits, st.none() | st.floats(0, 1))
def test_a_damaged_voice_toml_and_its_files(changes, length):
    data = bytearray(VOICE)
    for place, value in changes:
        data[int(place * len(data))] = value
    with tempfile.TemporaryDirectory() as folder:
        for name in ("gpt.ckpt", "sovits.pth", "ref.wav", "codes.npy"):
            Path(folder, name).write_bytes(sample(zipfile.ZIP_STORED))
        Path(folder, "voice.toml").write_bytes(data if length is None else data[: int(length * len(data))])
        with pytest.raises(GsvError):  # never another exception; and its weights are no voice's
            read_voice(Path(folder))


@functools.cache
def recording() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        soundfile.write(path, np.sin(np.arange(2000) * 0.1), 32000)
        return path.read_bytes()


@settings(max_examples=300)
@given(edits, st.none() | st.floats(0, 1), st.booleans())
def test_a_damaged_recording(changes, length, header):
    data = bytearray(recording())
    for place, value in changes:
        data[int(place * (44 if header else len(data)))] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.wav")
        path.write_bytes(data if length is None else data[: int(length * len(data))])
        with bounded_memory(), contextlib.suppress(GsvError):
            assert np.isfinite(read_audio(path, 32000)).all()
