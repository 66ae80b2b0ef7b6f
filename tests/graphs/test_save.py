"""Weights on disk."""

from __future__ import annotations

import numpy as np
import pytest


def test_a_file_of_weights_is_the_librarys_own_byte_for_byte(tmp_path):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    from gsvexport.graphs.save import _TYPES, _store

    random = np.random.default_rng(0)
    arrays = {}
    for count, kind in enumerate(_TYPES):
        arrays[f"b.{kind}:ü"] = random.integers(0, 2, (3, count + 1)).astype(kind)
        arrays[f"a.{kind}"] = random.integers(0, 2, count + 2).astype(kind)
    arrays["turned"] = np.arange(12, dtype=np.float32).reshape(3, 4).T
    _store(arrays, tmp_path / "ours")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
