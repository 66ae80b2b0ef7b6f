import numpy as np
import pytest

from gsvexport.errors import InputError
from gsvexport.model import Dims, Model, SamplingDefaults, Spectrogram
from gsvexport.runtime.ports import checked

DIMS = Dims(L=2, D=8, H=2, V=1025, I=4, G=16, phones=512, text_phones=322, codes=1024, positions=4000)
STAGES = Model(
    "test", "en", "v2Pro", "v2", 32000, 640, 1024, DIMS, Spectrogram(), SamplingDefaults(),
    {name: f"{name}.onnx" for name in ("prompt", "reference", "prefill", "step", "acoustic", "vocoder")},
).stages  # fmt: skip


def prefill(**changes):
    feeds = {
        "phones": np.ones((1, 5), np.int64),
        "bert": np.zeros((1, 1024, 5), np.float32),
        "prompt": np.ones((1, 3), np.int64),
    }
    return checked(STAGES["prefill"], {**feeds, **changes}, DIMS)


def refused(stage, feeds):
    with pytest.raises(InputError) as caught:
        checked(STAGES[stage], feeds, DIMS)
    return "\n".join(caught.value.problems)


def test_integers_and_floats_of_any_width_become_the_ports_own():
    out = prefill(phones=np.ones((1, 5), np.uint8), bert=np.zeros((1, 1024, 5)), prompt=[[1, 2]])
    assert [out[name].dtype for name in ("phones", "bert", "prompt")] == [np.int64, np.float32, np.int64]


def test_arrays_that_fit_are_not_copied():
    bert = np.zeros((1, 1024, 5), np.float32)
    assert prefill(bert=bert)["bert"] is bert


def test_a_prompt_may_be_empty_but_a_text_may_not():
    assert prefill(prompt=np.empty((1, 0)))["prompt"].shape == (1, 0)
    with pytest.raises(InputError, match=r"prefill\.phones: axis 1 is 0 long"):
        prefill(phones=np.empty((1, 0), np.int64))


def test_names_that_are_missing_or_unknown_are_listed_together():
    found = refused("step", {"token": [[1]], "pos": [0]})
    assert "step.position: missing" in found
    assert "step.keys: missing" in found
    assert "step.pos: no such input; it takes token, position, keys, values" in found


def test_everything_that_is_wrong_is_reported_at_once():
    with pytest.raises(InputError) as caught:
        prefill(phones=np.full((1, 5), 512), bert=np.zeros((1, 1000, 5), np.float32), prompt=np.array([[0.5]]))
    problems = caught.value.problems
    assert len(problems) == 3
    assert "512 at place 0 is out of range, and 4 more; ids run from 0 to 511" in problems[0]
    assert "axis 1 is 1000 long; it takes float32 [1, 1024, X]" in problems[1]
    assert "prefill.prompt: is float64; it takes int64 [1, Y]" in problems[2]


@pytest.mark.parametrize(
    ("stage", "port", "highest"),
    [("acoustic", "codes", 1023), ("acoustic", "phones", 321), ("step", "token", 1024), ("step", "position", 3999)],
)
def test_ids_beyond_a_table_are_refused_at_either_end(stage, port, highest):
    cache = np.zeros((2, 1, 4, 8), np.float32)
    feeds = {
        "acoustic": {
            "codes": [[0]], "phones": [[0]], "ge": np.zeros((1, 16, 1)), "ge_text": np.zeros((1, 512, 1)),
            "noise": np.zeros((1, 4, 2)), "noise_scale": 0.5,
        },
        "step": {"token": [[0]], "position": [0], "keys": cache, "values": cache},
    }[stage]  # fmt: skip
    shape = np.shape(feeds[port])
    checked(STAGES[stage], {**feeds, port: np.full(shape, highest)}, DIMS)
    for wrong in (-1, highest + 1):
        assert f"{stage}.{port}: {wrong} at place 0" in refused(stage, {**feeds, port: np.full(shape, wrong)})


def test_axes_with_one_letter_must_have_one_length():
    with pytest.raises(InputError, match="axis X must be one length, and is 5 in phones, 6 in bert"):
        prefill(bert=np.zeros((1, 1024, 6), np.float32))
    found = refused(
        "step",
        {"token": [[0]], "position": [0], "keys": np.zeros((2, 1, 4, 8)), "values": np.zeros((2, 1, 5, 8))},
    )
    assert "axis S must be one length, and is 4 in keys, 5 in values" in found


def test_a_text_longer_than_the_position_table_is_refused():
    with pytest.raises(InputError, match=r"axis 1 is 4001 long; X is at most 4000"):
        prefill(phones=np.ones((1, 4001), np.int64), bert=np.zeros((1, 1024, 4001), np.float32))


def test_values_that_are_not_finite_are_counted():
    spectrogram = np.zeros((1, 1025, 3), np.float32)
    spectrogram[0, 0, :2] = np.nan, np.inf
    found = refused("reference", {"spectrogram": spectrogram, "speaker": np.full((1, 20480), 1e300)})
    assert "2 of 3075 values are NaN, infinite" in found
    assert "20480 of 20480 values are NaN, infinite or beyond float32" in found


@pytest.mark.parametrize("value", ["abc", [[1, 2], [3]], None, [[True]], {"a": 1}])
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(InputError, match=r"prefill\.phones"):
        prefill(phones=value)


def test_the_number_of_axes_must_fit():
    with pytest.raises(InputError, match=r"prefill\.phones: has shape \[5\]; it takes int64 \[1, X\]"):
        prefill(phones=np.ones(5, np.int64))
