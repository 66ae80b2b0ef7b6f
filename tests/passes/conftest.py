"""A small voice's source, and its T2S stages with their weights beside them."""

import onnx_ir as ir
import pytest

from gsvexport.compiler.source import write_source
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    write_voice(folder / "voice", "v2", seed=5)
    return write_source(read_voice(folder / "voice"), folder / "source")


@pytest.fixture(scope="module")
def stages(source):
    return {name: ir.load(source.path / source.model.files[name]) for name in ("prefill", "step")}
