from __future__ import annotations

import hashlib
import io
import mmap
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch_files as tf
from conformance import conformance
from torch_files import Call, HParams, Name, Storage, content, view, write

from gsvexport.errors import VoiceError
from gsvexport.voice.checkpoint import read_checkpoint

HALF = np.arange(6, dtype="f2").reshape(2, 3)


def refusal(path: Path) -> str:
    with pytest.raises(VoiceError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert caught.value.fix
    return str(caught.value)


@pytest.mark.parametrize("version", ["v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4"])
@pytest.mark.parametrize("name", ["gpt.ckpt", "sovits.pth"])
def test_reads_upstreams_files_as_torch_does(version, name):
    torch = pytest.importorskip("torch")
    path = conformance(version).folder / name
    found = read_checkpoint(path)

    class Parameters(dict):  # what torch needs to be told, and ours must not need
        def __setstate__(self, state):
            self.update(state)

    Parameters.__module__, Parameters.__qualname__ = "utils", "HParams"
    torch.serialization.add_safe_globals([(Parameters, "utils.HParams")])
    expected = torch.load(io.BytesIO(b"PK" + path.read_bytes()[2:]), weights_only=True)
    assert list(found.tensors) == list(expected["weight"])
    for key, tensor in expected["weight"].items():
        assert found.tensors[key].dtype == np.float16
        np.testing.assert_array_equal(found.tensors[key], tensor.numpy(), err_msg=key)
    assert found.info == expected["info"]
    assert found.config["model"] == dict(expected["config"]["model"])
    assert found.lora_rank == expected.get("lora_rank")
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.size == path.stat().st_size


@pytest.mark.parametrize("header", [b"PK", b"00", b"01", b"02", b"03", b"04", b"05", b"06"])
def test_repairs_the_header_in_memory_only(tmp_path, header):
    path = write(tmp_path / "a.pth", content({"w": HALF}), header=header)
    found = read_checkpoint(path)
    assert found.header == header.decode()
    np.testing.assert_array_equal(found.tensors["w"], HALF)
    assert path.read_bytes()[:2] == header


@pytest.mark.parametrize("dtype", ["f2", "f4", "i8", "?"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_every_storage_type(tmp_path, dtype, compression, protocol):
    array = np.array([[1, 0, 1], [0, 1, 1]], dtype)
    path = write(tmp_path / "a.pth", content({"w": array}), compression=compression, protocol=protocol)
    found = read_checkpoint(path).tensors["w"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.0, -2.5, 0.0, 3.0e38, np.inf], np.float32)
    stored = (values.view(np.uint32) >> 16).astype(np.uint16)
    found = read_checkpoint(write(tmp_path / "a.pth", content({"w": stored}))).tensors["w"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values, rtol=2**-8)


def test_tensors_are_read_only_views_of_the_file(tmp_path):
    array = read_checkpoint(write(tmp_path / "a.pth", content({"w": HALF}))).tensors["w"]
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def test_strides_and_offsets_are_respected(tmp_path):
    storage = Storage("HalfStorage", "0", 8)
    weight = {"turned": view(storage, 2, (3, 2), (1, 3)), "scalar": view(storage, 7, (), ())}
    found = read_checkpoint(write(tmp_path / "a.pth", content(weight), data=[np.arange(8, dtype="f2").tobytes()]))
    np.testing.assert_array_equal(found.tensors["turned"], [[2, 5], [3, 6], [4, 7]])
    assert found.tensors["scalar"] == 7


def test_unknown_members_and_any_root_are_accepted(tmp_path):
    extra = [
        ("1.5/.format_version", b"1"),
        ("1.5/.data/serialization_id", b"0"),
        ("../../etc/passwd", b"never extracted"),
    ]
    found = read_checkpoint(write(tmp_path / "a.pth", content({"w": HALF}), root="1.5", extra=extra, zip64=True))
    np.testing.assert_array_equal(found.tensors["w"], HALF)
    assert sorted(os.listdir(tmp_path)) == ["a.pth"]


@pytest.mark.parametrize("kind", [dict, HParams])
def test_config_is_plain_whatever_it_was_pickled_as(tmp_path, kind):
    config = kind(model=kind(widths=[1, (2, 3)], rate=0.5, name="x", nothing=None, yes=True))
    found = read_checkpoint(write(tmp_path / "a.pth", content({"w": HALF}, config, lora_rank="32")))
    assert found.config == {"model": {"widths": [1, [2, 3]], "rate": 0.5, "name": "x", "nothing": None, "yes": True}}
    assert type(found.config["model"]) is dict
    assert found.lora_rank == 32


class Evil:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("where", ["top", "config", "weight"])
def test_a_call_is_named_and_not_made(tmp_path, protocol, where):
    marker = tmp_path / "marker"
    evil = Evil(os.system, f"touch {marker}")
    value = {
        "top": evil,
        "config": {"weight": {}, "config": {"a": evil}},
        "weight": {"weight": [1, evil], "config": {}},
    }
    path = write(tmp_path / "a.pth", pickle.dumps(value[where], protocol))
    message = refusal(path)
    assert f"{os.system.__module__}.system" in message
    assert "nothing was run" in message
    assert not marker.exists()


def test_all_refused_globals_are_named_at_once(tmp_path):
    value = content({"w": [Evil(os.system, "false"), Evil(eval, "1"), Call(Name("numpy.load"), ("x",))]})
    message = refusal(write(tmp_path / "a.pth", value, protocol=4))
    assert all(name in message for name in (f"{os.system.__module__}.system", "builtins.eval", "numpy.load"))


def test_control_characters_in_a_name_do_not_reach_the_terminal(tmp_path):
    message = refusal(write(tmp_path / "a.pth", b"\x80\x02cos\n\x1b[2Jsystem\n."))
    assert "\x1b" not in message
    assert "os.\\x1b[2Jsystem" in message


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("x",),
        (1, 2, 3, 4, False, None),
        (Storage("HalfStorage", "0", 8), "0", (1,), (1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, [1], [1], False, None),
        (Storage("HalfStorage", "0", 8), 0, (1, 1), (1,), False, None),
        (Storage("HalfStorage", "0", 8), -1, (1,), (1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, (-1,), (1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, (2,), (-1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, (True,), (1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, (2**70,), (1,), False, None),
        (Storage("HalfStorage", "0", 8), 0, (1,) * 9, (1,) * 9, False, None),
        (Storage("HalfStorage", 0, 8), 0, (1,), (1,), False, None),
        (Storage("HalfStorage", "0", -8), 0, (1,), (1,), False, None),
        (Storage("ComplexFloatStorage", "0", 1), 0, (1,), (1,), False, None),
    ],
)
def test_evil_arguments_of_an_allowed_function_are_refused(tmp_path, arguments):
    call = Call(Name("torch._utils._rebuild_tensor_v2"), arguments)
    refusal(write(tmp_path / "a.pth", content({"w": call}), data=[bytes(16)]))


@pytest.mark.parametrize(
    ("offset", "shape", "stride", "count"),
    [
        (0, (9,), (1,), 8),  # more than the storage
        (1, (8,), (1,), 8),  # runs out of it
        (0, (2,), (8,), 8),
        (0, (3, 3), (3, 1), 8),
        (0, (1000, 1000, 1000), (0, 0, 0), 8),  # repeats one element
        (0, (8,), (1,), 9),  # the storage claims more than its member holds
        (0, (1,), (1,), 2**40),
        (0, (0,), (1,), 8),
        (0, (2**40, 0), (1, 1), 8),
        (8, (), (), 8),
    ],
)
def test_tensors_outside_of_their_storage_are_refused(tmp_path, offset, shape, stride, count):
    tensor = view(Storage("HalfStorage", "0", count), offset, shape, stride)
    assert "tensor w" in refusal(write(tmp_path / "a.pth", content({"w": tensor}), data=[bytes(16)]))


@pytest.mark.parametrize("kind", ["HalfStorage", "BFloat16Storage"])
def test_many_tensors_of_one_storage_are_refused_before_they_cost_memory(tmp_path, kind):
    storage = Storage(kind, "0", 1 << 20)
    weight = {f"w{index}": view(storage, 0, (1 << 20,), (1,)) for index in range(5000)}
    path = write(tmp_path / "a.pth", content(weight), data=[bytes(2 << 20)])
    assert "overlap" in refusal(path)


def test_an_absent_storage_is_named(tmp_path):
    tensor = view(Storage("HalfStorage", "7", 1), 0, (1,), (1,))
    assert "data/7" in refusal(write(tmp_path / "a.pth", content({"w": tensor})))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello, this is no voice", "not a torch zip file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (pickle.dumps({"weight": {}}, 2), "legacy torch file"),
        (b"07\x03\x04" + bytes(100), "version that this release does not know"),
        (b"PK\x03\x04" + bytes(1000), "cut short"),
        (b"PK", "not a torch zip file"),
    ],
)
def test_what_is_no_torch_zip_file_is_told_apart(tmp_path, data, said):
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    assert said in refusal(path)


def test_an_absent_file_and_a_directory_are_refused(tmp_path):
    refusal(tmp_path / "absent.pth")
    refusal(tmp_path)


def test_a_truncated_file_is_refused_wherever_it_is_cut(tmp_path):
    whole = write(tmp_path / "a.pth", content({"w": HALF})).read_bytes()
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("field", ["central stored", "central size", "central both", "local", "offset", "checksum"])
def test_a_zip_entry_that_lies_is_refused(tmp_path, field):
    path = write(tmp_path / "a.pth", content({"w": HALF}), root="r")
    data = bytearray(path.read_bytes())
    name = b"r/data/0"
    local, central = data.index(name) - 30, data.rindex(name) - 46
    places = {
        "central stored": [(central + 20, 8)],
        "central size": [(central + 24, 1 << 20)],
        "central both": [(central + 20, 1 << 20), (central + 24, 1 << 20)],
        "local": [(local + 18, 4)],
        "offset": [(central + 42, 11)],
        "checksum": [(central + 16, 12345)],
    }
    for place, number in places[field]:
        struct.pack_into("<I", data, place, number)
    path.write_bytes(data)
    assert "r/data/0" in refusal(path)


def test_a_compressed_entry_that_lies_about_its_size_is_refused(tmp_path):
    path = write(tmp_path / "a.pth", content({"w": HALF}), root="r", compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    for place in (data.index(b"r/data/0") - 30 + 22, data.rindex(b"r/data/0") - 46 + 24):
        struct.pack_into("<I", data, place, 11)
    path.write_bytes(data)
    assert "lies about its size" in refusal(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    tensor = view(Storage("HalfStorage", "0", 1 << 25), 0, (1 << 25,), (1,))
    path = write(tmp_path / "a.pth", content({"w": tensor}), data=[bytes(1 << 26)], compression=zipfile.ZIP_DEFLATED)
    assert "unpack to" in refusal(path)


def test_a_damaged_weight_is_noticed(tmp_path):
    path = write(tmp_path / "a.pth", content({"w": HALF}))
    data = bytearray(path.read_bytes())
    data[data.index(HALF.tobytes()) + 3] ^= 1
    path.write_bytes(data)
    assert "checksum" in refusal(path)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ([("r/data/0", b"again")], "more than once"),
        ([("other/data.pkl", b"")], "2 entries named data.pkl"),
        ([("r/byteorder", b"little")], "more than once"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_ambiguous_entries_are_refused(tmp_path, extra, said):
    assert said in refusal(write(tmp_path / "a.pth", content({"w": HALF}), root="r", extra=extra))


def test_a_zip_without_a_pickle_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "0 entries named data.pkl" in refusal(path)


def test_big_endian_encrypted_and_oddly_packed_files_are_refused(tmp_path):
    path = write(tmp_path / "a.pth", content({"w": HALF}), root="r")
    whole = path.read_bytes()
    data = whole.replace(b"little", b"bigger")
    with zipfile.ZipFile(write(tmp_path / "b.pth", content({"w": HALF}))) as archive:
        right = archive.getinfo("1795357.123/byteorder").CRC
    data = data.replace(struct.pack("<I", right), struct.pack("<I", zlib.crc32(b"bigger")))
    path.write_bytes(data)
    assert "little-endian" in refusal(path)
    central = whole.rindex(b"r/data/0") - 46
    for place, number, said in ((central + 8, 1, "encrypted"), (central + 10, 12, "method 12")):
        data = bytearray(whole)
        struct.pack_into("<H", data, place, number)
        path.write_bytes(data)
        assert said in refusal(path)


@pytest.mark.parametrize(
    "value",
    [
        {"model": {}, "optimizer": {}, "iteration": 3},
        {"weight": {}},
        {"weight": [], "config": {}},
        {"weight": {"w": 1}, "config": {}},
        {"weight": {"w\n": HALF}, "config": {}},
        {"weight": {"w": HALF}, "config": {}, "lora_rank": "many"},
        {"weight": {"w": HALF}, "config": {}, "lora_rank": float("inf")},
        {"weight": {"w": HALF}, "config": {"w": HALF}},
        [1, 2],
        None,
    ],
)
def test_another_top_level_is_refused(tmp_path, value):
    refusal(write(tmp_path / "a.pth", value))


def test_what_training_saves_for_itself_says_so(tmp_path):
    message = refusal(write(tmp_path / "G_100.pth", OrderedDict(model={}, optimizer={}, iteration=1)))
    assert "model, optimizer, iteration" in message
    assert "SoVITS_weights" in message


def test_reading_imports_neither_torch_nor_onnx():
    code = (
        "import sys, gsvexport.voice.checkpoint, gsvexport.voice.voice\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'onnx_ir', 'soundfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_builder_of_these_tests_writes_what_torch_reads(tmp_path):
    torch = pytest.importorskip("torch")
    path = write(tmp_path / "a.pth", content({"w": HALF}))
    np.testing.assert_array_equal(torch.load(path, weights_only=True)["weight"]["w"].numpy(), HALF)
    assert tf.STORAGES["f2"] == "HalfStorage"
