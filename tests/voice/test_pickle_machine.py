from __future__ import annotations

import pickle
import struct
import time
import tracemalloc
from collections import OrderedDict

import pytest

from gsvexport.voice import pickle as machine
from gsvexport.voice.pickle import PickleError, plain, read_pickle

PROTO = b"\x80\x02"


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_come_back_as_python_reads_them(protocol):
    shared = [1, 2]
    value = OrderedDict(
        a={"b": [None, True, False, 0, 255, 65535, -1, 2**31 - 1, 2**40, -(2**70), 1.5]},
        c=(),
        d=(1,),
        e=(1, 2),
        f=(1, 2, 3, 4),
        g="ü" * 300,
        h=[shared, shared],
    )
    found = read_pickle(pickle.dumps(value, protocol))
    assert found == value
    assert found["h"][0] is found["h"][1]


def test_attributes_of_an_ordered_dictionary_are_dropped():
    value = OrderedDict(a=1)
    value.__dict__["_metadata"] = OrderedDict()  # as torch's state dicts have
    assert read_pickle(pickle.dumps(value, 2)) == {"a": 1}


@pytest.mark.parametrize(
    "stream",
    [
        PROTO,  # no STOP
        PROTO + b".",  # nothing to return
        PROTO + b"(.",  # a mark as the result
        PROTO + b"t.",
        PROTO + b"(\x85.",
        PROTO + b"h\x05.",  # a memo entry that was never put
        PROTO + b"q\x00.",
        PROTO + b"}K\x01K\x02s.",  # a key that is no string
        PROTO + b"}(K\x01u.",
        PROTO + b"]K\x01s.",
        PROTO + b"}K\x01a.",
        PROTO + b"K\x01K\x02a.",
        PROTO + b"X\xff\xff\xff\xffabc.",
        PROTO + b"X\x01\x00\x00\x00\xff.",  # no UTF-8
        PROTO + b"\x8d" + struct.pack("<Q", 2**63) + b".",
        PROTO + b"\x8b\xff\xff\xff\x7f.",
        PROTO + b"Q.",
        PROTO + b"K\x01Q.",
        PROTO + b"ccollections\nOrderedDict\n}b.",  # the state of a class
        PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n}b.",
        PROTO + b"]}b.",
        PROTO + b"ccollections\nOrderedDict\n(K\x01tR.",
        PROTO + b"ccollections\nOrderedDict\n(K\x01t\x81.",
        PROTO + b"ctorch\nHalfStorage\n)R.",
        PROTO + b"cutils\nHParams\n)R.",
        PROTO + b"K\x01)R.",
        PROTO + b"\x8f.",  # sets are no part of any voice
        PROTO + b"0.",
        PROTO + b"ccollections",
        PROTO + b"cos\n",
        b"\xff\xff",
        b"",
        PROTO + b"K\x01K\x02\x93.",  # a global named by numbers
        PROTO + b"\x82\x01.",  # the extension registry
        b"I" + b"9" * 100_000 + b"\n.",
    ],
)
def test_nonsense_is_refused(stream):
    with pytest.raises(PickleError):
        read_pickle(stream)


def test_a_memo_index_costs_no_memory():
    tracemalloc.start()
    read_pickle(PROTO + b"]r\xff\xff\xff\xff.")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "stream",
    [
        PROTO + b"]" * machine.MAX_OPERATIONS,
        PROTO + b"(" * (machine.MAX_OPERATIONS + 5) + b".",
        bytes(machine.MAX_BYTES + 1),
    ],
)
def test_size_is_bounded(stream):
    with pytest.raises(PickleError):
        read_pickle(stream)


def nested(depth: int) -> bytes:
    return PROTO + b"]" * depth + b"a" * (depth - 1) + b"."


def doubling(depth: int) -> bytes:
    """Lists that hold the list before twice: 2^depth leaves in a few bytes."""
    return PROTO + b"]q\x00" + b"".join(b"](h\x00h\x00eq\x00" for _ in range(depth)) + b"."


CYCLE = PROTO + b"]q\x00h\x00a."


@pytest.mark.parametrize("stream", [nested(100_000), doubling(60), CYCLE])
def test_deep_shared_and_circular_values_are_read_but_make_no_config(stream):
    value = read_pickle(stream)
    with pytest.raises(PickleError, match="deeper than"):
        plain(value)


def test_errors_do_not_spell_out_what_is_in_a_value():
    bomb = doubling(60)[2:-1]
    for stream in (
        PROTO + bomb + b")R.",
        PROTO + b"X\x07\x00\x00\x00storage" + bomb + b"h\x00h\x00K\x01tQ.",
        PROTO + b"(X\x07\x00\x00\x00storage" + bomb + b"h\x00h\x00K\x01tQ.",
        PROTO + b"ctorch._utils\n_rebuild_tensor_v2\n(" + b"K\x00K\x00K\x00K\x00K\x00" + bomb + b"tR.",
        PROTO + b"}" + bomb + b"K\x01s.",
    ):
        with pytest.raises(PickleError) as caught:
            read_pickle(stream)
        assert len(str(caught.value)) < 200


def test_every_refused_name_is_reported_even_after_damage():
    stream = PROTO + b"\x8c\x02os\x8c\x06system\x93)R" + b"\x8c\x08builtins\x8c\x04eval\x93\x8f."
    with pytest.raises(PickleError) as caught:
        read_pickle(stream)
    assert caught.value.names == ("os.system", "builtins.eval")


def bombs():
    """Small streams that copy what they made before, over and over."""
    keys = b"".join(b"\x8c\x05%05dN" % number for number in range(30_000))
    bag = b"cutils\nHParams\nq\x01)q\x02"
    text = b"X" + struct.pack("<I", 1 << 20) + b"m" * (1 << 20)
    return {
        "states": PROTO + b"}q\x00(" + keys + b"u" + bag + b"h\x01h\x02\x81h\x00b" * 40_000 + b".",
        "states of one bag": PROTO + b"}q\x00(" + keys + b"u" + bag + b"h\x01h\x02\x81" + b"h\x00b" * 60_000 + b".",
        "names": PROTO + text + b"q\x00" + b"h\x00h\x00\x93" * 40_000 + b".",
        "operations": PROTO + b"N" * 2_000_000 + b".",
        "lists": PROTO + b"]" * 2_000_000 + b".",
        "marks": PROTO + b"(" * 2_000_000 + b".",
        "refused names": PROTO + b"".join(b"cm\nn%d\n" % number for number in range(100_000)) + b".",
        "memo": PROTO + b"N" + b"".join(b"r" + struct.pack("<I", number) for number in range(240_000)) + b"K\x01s.",
    }


@pytest.mark.parametrize("name", list(bombs()))
def test_a_small_bomb_ends_at_once_and_takes_no_memory(name):
    stream = bombs()[name]
    start = time.process_time()
    with pytest.raises(PickleError) as caught:
        read_pickle(stream)
    assert time.process_time() - start < 1
    tracemalloc.start()
    with pytest.raises(PickleError):
        read_pickle(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert len(str(caught.value)) < 10_000


def test_what_an_honest_stream_copies_is_paid_for_by_its_own_bytes():
    hparams = [f"key{number}" for number in range(5000)]
    state = b"}(" + b"".join(b"\x8c" + bytes([len(key)]) + key.encode() + b"N" for key in hparams) + b"u"
    stream = PROTO + (b"cutils\nHParams\n)\x81" + state + b"b0").replace(b"b0", b"b") + b"."
    assert len(read_pickle(stream)) == 5000
