"""Graphs as ONNX Runtime optimised them here are kept: opened without doing it again, with the same samples."""

import os
import sys

import numpy as np
import onnxruntime
import pytest
from shelved import make

import gsvexport
from gsvexport.backends.onnxruntime import in_place, optimised
from gsvexport.stages import speaking
from gsvexport.untrusted.external import moved, places

PLAIN, READY = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


@pytest.fixture(scope="module")
def artifact(parts, tmp_path_factory):
    return make(parts, tmp_path_factory.mktemp("kept"), "alice")


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """(file, level of optimisation) of each session that is made, in a cache of its own."""
    found, real = [], onnxruntime.InferenceSession

    def session(graph, sess_options, **more):
        found.append((os.path.basename(graph), sess_options.graph_optimization_level))
        return real(graph, sess_options=sess_options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setenv("GSVEXPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(optimised.SWITCH, raising=False)
    return found


def said(path):
    """What the voice says; its graphs are closed again."""
    with gsvexport.load(path, threads=1) as voice:
        voice.open()
        samples = voice.synthesize(phones=[9, 30, 12, 7], seed=3, max_tokens=12).samples
        files = {stage: voice.model.files[stage] for stage in speaking(voice.model.version)}
    return samples, set(files.values())


def kept(cache):
    return sorted(path.parent for path in (cache / "unpacked").glob("*/index.json"))


def test_what_was_optimised_once_is_opened_as_it_is_and_sounds_the_same(artifact, seen, tmp_path, monkeypatch):
    monkeypatch.setenv(optimised.SWITCH, "0")
    alone, files = said(artifact)
    assert not kept(tmp_path / "cache")
    monkeypatch.delenv(optimised.SWITCH)
    assert sorted(seen) == sorted((file, PLAIN) for file in files)
    seen.clear()
    first, _ = said(artifact)
    assert sorted(seen) == sorted((file, PLAIN) for file in files)
    seen.clear()
    second, _ = said(artifact)
    assert seen == [("graph.onnx", READY)] * len(files)
    assert np.array_equal(alone, first)
    assert np.array_equal(alone, second)
    for folder in kept(tmp_path / "cache"):  # the artifact's weights are there under another name, not again
        weights = [path for path in folder.iterdir() if path.suffix == ".safetensors"]
        assert weights
        assert all(path.stat().st_nlink > 1 for path in weights)
        assert sum(path.stat().st_size for path in folder.iterdir() if path not in weights) < 1 << 20


def test_what_was_changed_or_is_another_runtimes_is_never_opened(artifact, seen, tmp_path, monkeypatch):
    expected, files = said(artifact)
    folders = kept(tmp_path / "cache")
    assert len(folders) == len(files)
    for folder, name in zip(folders, ("graph.onnx", "own.bin", "index.json", "graph.onnx"), strict=False):
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2 :] = b"?"
        (folder / name).write_bytes(data)
    (folders[-1] / "more").write_bytes(b"nobody listed this")
    seen.clear()
    samples, _ = said(artifact)
    assert sorted(seen) == sorted((file, PLAIN) for file in files)
    assert np.array_equal(samples, expected)
    assert kept(tmp_path / "cache") == folders  # made again
    for name, value in (("processor", lambda: "another one"), ("SCHEMA", 2)):
        with monkeypatch.context() as other:
            other.setattr(optimised, name, value)
            seen.clear()
            said(artifact)
            assert {level for _, level in seen} == {PLAIN}
    with monkeypatch.context() as other:
        other.setattr(onnxruntime, "__version__", "0.0")
        seen.clear()
        said(artifact)
        assert {level for _, level in seen} == {PLAIN}
    seen.clear()
    said(artifact)
    assert {level for _, level in seen} == {READY}


def test_rows_are_tried_once_for_a_voice_that_is_opened_again(artifact, seen, monkeypatch):
    tries, real = [], in_place.independent
    monkeypatch.setattr(in_place, "independent", lambda *how: tries.append(1) or real(*how))
    monkeypatch.setattr(in_place, "_tried", {})
    for _ in range(3):
        with gsvexport.load(artifact, threads=1) as voice:
            found = voice.rows(4)
    assert len(tries) == 1
    monkeypatch.setenv(optimised.SWITCH, "0")  # nobody knows what graph it is
    with gsvexport.load(artifact, threads=1) as voice:
        assert type(voice.rows(4)) is type(found)
    assert len(tries) == 2


def test_where_nothing_can_be_kept_the_voice_speaks_all_the_same(artifact, seen, tmp_path, monkeypatch):
    from gsvexport.artifact import container

    container.unpack(artifact, tmp_path / "folder")
    expected, files = said(tmp_path / "folder")  # not of the cache: nobody has looked at every byte for long

    def refuse(*_):
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", refuse)
    samples, _ = said(artifact)
    assert np.array_equal(samples, expected)
    assert not kept(tmp_path / "cache")
    assert sorted(seen) == sorted(2 * [(file, PLAIN) for file in files])  # and no graph is optimised twice for it
    real = onnxruntime.InferenceSession

    def full(graph, sess_options, **more):
        if sess_options.optimized_model_filepath:
            raise RuntimeError("no space left on device")
        return real(graph, sess_options=sess_options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", full)
    assert np.array_equal(said(artifact)[0], expected)
    assert not kept(tmp_path / "cache")


def test_a_graph_that_wants_bytes_from_elsewhere_is_the_same_graph_otherwise(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(600, dtype=np.float32)
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"]), helper.make_node("Add", ["y", "s"], ["z"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [600])],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [600])],
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(weight[:1], "s")],
        ),
        ir_version=9,
    )
    onnx.save_model(proto, tmp_path / "graph.onnx", save_as_external_data=True, location="a", size_threshold=1000)
    (place,) = places(tmp_path / "graph.onnx").values()
    assert (place.file, place.length) == ("a", weight.nbytes)
    (tmp_path / "b").write_bytes(b"?" * 300 + weight.tobytes())
    data = (tmp_path / "graph.onnx").read_bytes()
    same = moved(data, lambda _, one: one)
    assert moved(same, lambda _, one: one) == same
    other = moved(data, lambda name, one: type(one)("b", 300, one.length))
    (tmp_path / "other.onnx").write_bytes(other)
    (tmp_path / "a").unlink()
    found = onnx.load(tmp_path / "other.onnx")
    assert [one.SerializeToString() for one in found.graph.node] == [
        one.SerializeToString() for one in proto.graph.node
    ]
    assert np.array_equal(numpy_helper.to_array(found.graph.initializer[0]), weight)


@pytest.mark.skipif(sys.platform != "linux", reason="processors are told apart by /proc/cpuinfo")
def test_a_processor_is_told_by_its_kind_and_its_features_and_not_by_its_clock(tmp_path):
    from gsvexport.target.machine import processor

    one, other, third = (tmp_path / name for name in "abc")
    one.write_text("model name\t: A\nflags\t\t: fpu avx2\ncpu MHz\t\t: 2600.1\n")
    other.write_text("model name\t: A\nflags\t\t: fpu avx2\ncpu MHz\t\t: 1200.0\n")
    third.write_text("model name\t: A\nflags\t\t: fpu avx2 avx512f\ncpu MHz\t\t: 2600.1\n")
    assert processor(one) == processor(other) != processor(third)
