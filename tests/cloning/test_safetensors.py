from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from gsvexport.errors import VoiceError
from gsvexport.voice.safetensors import MAX_HEADER, read_safetensors


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(2, 2), place=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


def test_tensors_are_read_as_they_were_written(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = {
        "a": np.arange(6, dtype=np.float16).reshape(2, 3),
        "b.c": np.float32([1.5]),
        "d": np.arange(4),
        "e": np.array([True, False]),
    }
    numpy.save_file(arrays, tmp_path / "x.safetensors", metadata={"format": "pt"})
    found = read_safetensors(tmp_path / "x.safetensors").tensors
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_bfloat16_becomes_float32(tmp_path):
    data = (np.float32([1.0, -2.5]).view(np.uint32) >> 16).astype("<u2").tobytes()
    file = write(tmp_path / "x", {"a": entry("BF16", (2,), (0, 4))}, data)
    assert read_safetensors(file).tensors["a"].tolist() == [1.0, -2.5]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (b"{", "header"),
        (b"[" * 5000, "not JSON"),
        ([1], "no table"),
        ({"a": 3}, "no tensor"),
        ({"a": entry("F99")}, "not known"),
        ({"a": entry(shape=(2, -2))}, "not known"),
        ({"a": entry(shape=(True, 4))}, "not known"),
        ({"a": entry(shape=(1 << 62, 1 << 62))}, "not known"),
        ({"a": entry(place=(0, 17))}, "does not fit"),
        ({"a": entry(place=(16, 0))}, "does not fit"),
        ({"a": entry(place=(8, 24))}, "does not fit"),
        ({"../a": entry()}, "no tensor"),
        ({str(n): entry() for n in range(200)}, "overlap"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, header, told):
    with pytest.raises(VoiceError) as error:
        read_safetensors(write(tmp_path / "x", header, b"\0" * 16))
    assert told in str(error.value)


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, struct.pack("<Q", 1 << 60) + b"{}", struct.pack("<Q", MAX_HEADER + 1)]
)
def test_a_length_that_is_not_there_is_refused(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(VoiceError):
        read_safetensors(tmp_path / "x")
