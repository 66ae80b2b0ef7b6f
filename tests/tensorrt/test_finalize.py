"""What `gsvexport finalize` does on a device, against a scripted double of TensorRT (`tensorrt_double.py`)."""

import pytest

from gsvexport.backends.tensorrt.finalize import finalize


def quiet(text):
    pass


def test_every_engine_is_built_proven_and_measured(unpacked, device):
    double = device()
    said = []
    report = finalize(unpacked, said.append)
    assert report["passed"]
    assert report["recorded"]
    builds = double.log()
    assert [one["graph"] for one in builds] == ["acoustic.onnx", "t2s.onnx", "vocoder.onnx"]
