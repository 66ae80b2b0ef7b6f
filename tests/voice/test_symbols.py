from __future__ import annotations

import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.text.symbols import phone_ids, symbols


def test_the_tables_are_upstreams():
    v1, v2 = symbols("v1"), symbols("v2")
    assert (len(v1), len(v2)) == (322, 732)
    assert v2[:322] == v1
    assert list(v1) == sorted(v1)
    assert (v1.index("!"), v1.index("UNK"), v1.index("_"), v1.index("…")) == (0, 86, 95, 321)
    assert v2[322:324] == ("[", "]")
    assert all(name.startswith("Y") for name in v2[353:])


def test_names_and_ids_may_be_mixed():
    assert phone_ids(["HH", 12, np.int64(63), "."], "v2") == (symbols("v2").index("HH"), 12, 63, 3)
    assert phone_ids([], "v1") == ()
    assert phone_ids(symbols("v2"), "v2") == tuple(range(732))


@pytest.mark.parametrize("bad", [-1, 322, 2**70, True, 1.0, None])
def test_an_id_out_of_range_is_refused(bad):
    with pytest.raises(InputError, match="not between 0 and 321"):
        phone_ids([0, bad], "v1")


def test_unknown_phones_are_listed_at_once_with_the_nearest_ones():
    with pytest.raises(InputError) as caught:
        phone_ids(["AH", "AH0", "nonsense", 900, "AH"], "v2")
    assert len(caught.value.problems) == 3
    assert "'AH'; did you mean" in caught.value.problems[0]
    assert "AH0" in caught.value.problems[0]


def test_a_phone_of_v2_is_unknown_to_v1():
    phone_ids(["["], "v2")
    with pytest.raises(InputError, match="v1 table"):
        phone_ids(["["], "v1")


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="v9"):
        symbols("v9")
