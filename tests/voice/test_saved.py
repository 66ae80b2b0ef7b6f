"""The ways in which people save a checkpoint: read, or named in one line with what to do."""

import numpy as np
import pytest
from torch_files import HParams, Name, content, write

from gsvexport.errors import VoiceError
from gsvexport.signal.audio import clipped_share
from gsvexport.voice.checkpoint import read_checkpoint
from gsvexport.voice.saved import renamed, unwrapped

CONFIG = HParams(model=HParams(hidden_dim=8))
WEIGHT = {"dec.conv_pre.weight": np.arange(6, dtype="f4").reshape(2, 3), "dec.conv_pre.bias": np.ones(2, "f4")}


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "ema_model.", "model_ema.module."],
)
def test_prefixes_of_all_names_are_taken_off(prefix):
    assert renamed({prefix + name: 0 for name in WEIGHT}) == dict.fromkeys(WEIGHT, 0)


def test_a_prefix_of_some_names_is_a_name():
    weights = {"module.a": 0, "b": 0}
    assert renamed(weights) == weights


def test_parametrised_weight_norm_is_weight_norm():
    old = {"a.parametrizations.weight.original0": "g", "a.parametrizations.weight.original1": "v", "a.bias": "b"}
    assert renamed(old) == {"a.weight_g": "g", "a.weight_v": "v", "a.bias": "b"}
    with pytest.raises(ValueError, match="under two names"):
        renamed({**old, "a.weight_g": "g"})


def test_tables_in_tables_are_opened():
    table = {"a": object()}
    for wrapped in ({"state_dict": table}, {"model": {"state_dict": table}}, {"ema": table, "step": 3}, table):
        assert unwrapped(wrapped) is table


def saved(tmp_path, weight):
    return write(tmp_path / "a.pth", content(weight, CONFIG))


@pytest.mark.parametrize("kind", ["f2", "f4", "i8"])
def test_types_come_back_as_they_are(tmp_path, kind):
    found = read_checkpoint(saved(tmp_path, {"a": np.arange(3).astype(kind)}))
    assert found.tensors["a"].tolist() == [0, 1, 2]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def tensors(torch):
    return {name: torch.from_numpy(array.copy()) for name, array in WEIGHT.items()}


@pytest.mark.parametrize(
    "way", ["plain", "double", "half", "bfloat16", "parameter", "data parallel", "compiled", "nested", "ema", "ordered"]
)
def test_what_torch_saves_in_common_ways_is_read(tmp_path, torch, way):
    from collections import OrderedDict

    plain = tensors(torch)
    weight = {
        "plain": plain,
        "double": {name: item.double() for name, item in plain.items()},
        "half": {name: item.half() for name, item in plain.items()},
        "bfloat16": {name: item.bfloat16() for name, item in plain.items()},
        "parameter": {name: torch.nn.Parameter(item) for name, item in plain.items()},
        "data parallel": {f"module.{name}": item for name, item in plain.items()},
        "compiled": {f"_orig_mod.{name}": item for name, item in plain.items()},
        "nested": {"state_dict": plain},
        "ema": {"ema_state_dict": plain, "step": 10},
        "ordered": OrderedDict(plain),
    }[way]
    torch.save({"weight": weight, "config": {"model": {"hidden_dim": 8}}, "info": "x"}, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth").tensors
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in WEIGHT.items()}


def test_weight_norm_as_torch_parametrises_it_is_read(tmp_path, torch):
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(2, 3, 1))
    torch.save({"weight": layer.state_dict(), "config": {"a": 1}, "info": "x"}, tmp_path / "a.pth")
    assert {*read_checkpoint(tmp_path / "a.pth").tensors} == {"bias", "weight_g", "weight_v"}


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ({"model": {}, "optimizer": {}, "iteration": 3}, "use what training exports beside it"),
        ({"shadow_params": [], "decay": 0.9}, "copy them into the model"),
        ({"state_dict": {"a": 1}}, "without the config"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(tmp_path, torch, value, advice):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(VoiceError, match=advice) as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert len(str(caught.value).splitlines()) <= 3


def test_types_that_are_not_read_are_named_and_accused_of_nothing(tmp_path, torch):
    torch.save({"weight": {"a": torch.zeros(2, dtype=torch.complex64)}, "config": {}, "info": ""}, tmp_path / "a.pth")
    with pytest.raises(VoiceError, match=r"ComplexFloatStorage.*save them as float32") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert "can run code" not in str(caught.value)


def test_a_name_that_runs_code_is_still_accused(tmp_path):
    path = write(tmp_path / "a.pth", content({"a": Name("os.system")}, CONFIG))
    with pytest.raises(VoiceError, match="can run code"):
        read_checkpoint(path)


def test_a_silent_channel_cuts_nothing_off():
    speech = np.sin(np.arange(32000) / 7)[:, None].astype(np.float32) * 0.3
    for other in (np.zeros_like(speech), np.full_like(speech, 0.01), speech):
        assert clipped_share(np.hstack([speech, other])) < 0.001
    assert clipped_share(np.hstack([np.clip(speech, -0.1, 0.1), 0 * speech])) > 0.5
    assert clipped_share(np.zeros((10, 2), np.float32)) == 0
