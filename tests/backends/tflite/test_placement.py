"""What the Edge TPU would run of a graph: every rule broken on purpose, and a graph that breaks none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_graphs import (
    BIAS,
    CONVOLVED,
    KERNEL,
    SHAPE,
    SLOPE,
    TPU,
    UP,
    WEIGHTS,
    X,
    activation,
    constant,
    graph,
    lone,
    with_operator,
    with_tensor,
)  # fmt: skip

from gsvexport.backends.tflite import report, table
from gsvexport.backends.tflite.graph import Operator
from gsvexport.backends.tflite.placement import AFTER, MAPPED, REFUSED, estimate, oldest_runtime, place
from gsvexport.backends.tflite.rules import KINDS
from gsvexport.errors import ArtifactError, BackendError


def numbers(name, *values):
    return constant(name, np.array(values, np.int32), None)


def placed(one, runtime=14):
    return place(one, "vocoder.tflite", TPU, runtime)


def rules_of(one, number=0, runtime=14):
    return {finding.rule for finding in placed(one, runtime).rows[number].findings}


def test_a_clean_graph_is_mapped_whole():
    found = placed(graph())
    assert [row.verdict for row in found.rows] == [MAPPED] * 4
    assert found.cut is None
    assert not any(row.findings for row in found.rows)
    assert found.since == 13  # TRANSPOSE_CONV's
    assert [row.macs for row in found.rows] == [16 * 6 * 3 * 4, 0, 0, 16 * 3 * 4 * 6]
    assert found.mapped_macs == found.macs == 16 * 72 * 2
    assert found.parameter_bytes == 72 + 24 + 1 + 16 + 72
    assert found.moved_bytes == 16 * 4 + 32 * 3
    assert found.largest == ("convolved", 96)
    assert found.streamed_bytes == 0


A = activation("a", 1, 2, 4, 8)
FLAT = activation("a", 1, 8)
GENERAL = {
    "operator": lambda: with_operator(graph(), 0, kind="LEAKY_RELU"),
    "version": lambda: with_operator(graph(), 0, version=5),
    "dtype": lambda: with_tensor(graph(), X, dtype="int16"),
    "fused": lambda: with_operator(graph(), 0, options={"fused_activation_function": "TANH"}),
    "constant": lambda: with_tensor(graph(), WEIGHTS, data=None),
    "static": lambda: with_tensor(graph(), X, signature=(1, 1, -1, 4)),
    "innermost": lambda: with_tensor(graph(), X, shape=(2, 1, 16, 4)),
}
LIMITS = {
    "equal": lambda: with_operator(graph(), 0, options={"dilation_h_factor": 1}),
    "option": lambda: lone("FULLY_CONNECTED", 4, [FLAT, constant("w", np.ones((3, 8), np.int8))],
                           activation("y", 1, 3), weights_format=1),
    "most_inputs": lambda: with_operator(with_tensor(graph(), 0), 3, inputs=(SHAPE, KERNEL, CONVOLVED, BIAS)),
    "zero_constants": lambda: lone("CONCATENATION", 2, [A, constant("c", np.ones((1, 2, 4, 8), np.int8))], A),
    "one_axis": lambda: lone("SOFTMAX", 2, [A], A),
    "most_elements": lambda: lone("SOFTMAX", 2, [activation("a", 1, 16001)], activation("y", 1, 16001)),
    "not_batch": lambda: lone("SUM", 2, [A, numbers("axes", 0)], activation("y", 2, 4, 8)),
    "not_channels": lambda: (lone("MEAN", 2, [A, numbers("axes", 3)], activation("y", 1, 2, 4)), 12),
    "channels_by": lambda: lone("MEAN", 2, [activation("a", 1, 2, 4, 7), numbers("axes", -1)],
                                activation("y", 1, 2, 4)),
    "axis_not_batch": lambda: lone("PACK", 2, [activation("a", 2, 4), activation("b", 2, 4)],
                                   activation("y", 2, 2, 4), axis=0),
    "no_padding": lambda: lone("PAD", 2, [A, constant("p", np.array([[1, 0], [0, 0], [0, 0], [0, 0]], np.int32), None)],
                               activation("y", 1, 2, 4, 8)),
    "ones": lambda: lone("STRIDED_SLICE", 2, [A, numbers("b", 0, 0, 0, 0), numbers("e", 1, 2, 4, 8),
                                              numbers("s", 1, 1, 2, 1)], activation("y", 1, 2, 2, 8)),
    "leading_axes": lambda: (lone("SQUEEZE", 1, [activation("a", 1, 4, 1, 8)], activation("y", 1, 4, 8),
                                  squeeze_dims=(2,)), 12),
}  # fmt: skip


@pytest.mark.parametrize("rule", [*GENERAL, *LIMITS])
def test_a_rule_that_is_broken_on_purpose_is_caught_and_named(rule):
    made = {**GENERAL, **LIMITS}[rule]()
    one, runtime = made if isinstance(made, tuple) else (made, 14)
    number = 3 if rule == "most_inputs" else 0
    found = placed(one, runtime).rows[number]
    assert found.verdict == REFUSED
    mine = [finding for finding in found.findings if finding.rule == rule]
    assert mine, found.findings
    assert mine[0].text
    assert mine[0].source
    assert mine[0].confidence in table.CONFIDENCE


def test_every_rule_of_the_table_has_a_test_that_breaks_it():
    known = table.table()
    assert {*GENERAL, "runtime", "limits", "single_partition"} == known.general.keys()
    assert LIMITS.keys() == KINDS.keys()
    assert {rule.kind for one in known.operators.values() for rule in one.rules} == KINDS.keys()


@pytest.mark.parametrize(
    ("kind", "version", "tensors", "needs"),
    [("TRANSPOSE", 2, [A, numbers("p", 0, 1, 3, 2)], 14), ("QUANTIZE", 2, [A], 13), ("MUL", 2, [A, A], 10)],
)
def test_an_operator_needs_its_runtime(kind, version, tensors, needs):
    one = lone(kind, version, tensors, activation("y", 1, 2, 4, 8))
    assert not rules_of(one, runtime=needs)
    assert needs == 10 or rules_of(one, runtime=needs - 1) == {"runtime"}


@pytest.mark.parametrize(
    ("index", "changes"),
    [
        (X, {"dtype": "float32"}),
        (WEIGHTS, {"dtype": "float32"}),
        (BIAS, {"dtype": "int64"}),
        (UP, {"dtype": "int16"}),
        (X, {"quantisation": None}),
        (SLOPE, {"dtype": "float32"}),
    ],
)
def test_every_tensor_has_the_type_that_its_place_asks(index, changes):
    made = with_tensor(graph(), index, **changes)
    assert [finding.rule for row in placed(made).rows for finding in row.findings if row.verdict == REFUSED] == [
        "dtype"
    ]


@pytest.mark.parametrize("index", [WEIGHTS, BIAS, SHAPE, KERNEL])
def test_weights_biases_and_shapes_are_constants(index):
    found = placed(with_tensor(graph(), index, data=None))
    assert found.rows[found.cut].findings[0].rule == "constant"


def test_the_first_refused_operator_takes_all_that_follow_to_the_processor():
    found = placed(with_operator(graph(), 1, kind="EXP"))
    assert [row.verdict for row in found.rows] == [MAPPED, REFUSED, AFTER, AFTER]
    assert found.cut == found.mapped == 1
    assert [finding.rule for finding in found.rows[3].findings] == ["single_partition"]
    assert "EXP 'slope'" in found.rows[3].findings[0].text
    assert found.mapped_macs == found.macs // 2
    assert found.moved_bytes == 16 * 4 + 16 * 6
    assert found.parameter_bytes == 72 + 24


def test_an_operator_that_nobody_knows_is_refused_by_name():
    made = with_operator(graph(), 0, kind="CUSTOM", options={"custom_code": "mine"})
    assert "CUSTOM mine" in placed(made).rows[0].findings[0].text


def test_every_broken_rule_is_named_at_once():
    made = with_tensor(with_operator(graph(), 0, version=9, options={"dilation_h_factor": 1}), X, dtype="int16")
    assert rules_of(made) == {"version", "dtype", "equal"}


def test_parameters_beyond_the_cache_are_streamed_and_the_estimate_counts_them():
    large = constant("weights", np.zeros((512, 1, 3, 8192), np.int8))
    made = with_tensor(graph(), WEIGHTS, shape=large.shape, data=large.data)
    found = placed(made)
    assert found.cache_bytes == 8 << 20
    assert found.streamed_bytes == found.parameter_bytes - found.cache_bytes > 0
    crossing = (found.streamed_bytes + found.moved_bytes) / 0.4e9
    assert found.estimate_ms == pytest.approx(1e3 * (2 * found.macs / 4e12 + crossing))
    assert estimate(2_000_000_000, 0, TPU) == pytest.approx(1.0)


def test_the_targets_runtime_is_its_oldest():
    assert oldest_runtime(">=14") == 14
    assert oldest_runtime("==13") == 13
    with pytest.raises(BackendError, match="no such Edge TPU runtime"):
        placed(graph(), 15)


def made_report(one=None, rest=()):
    told = report.Compile(report.NOT_RUN, "edgetpu_compiler is not on PATH")
    return report.Report("vocoder", placed(one or graph()), rest, 0.32, "usb3", told)


def test_a_report_is_written_and_read_again_and_nothing_else_is():
    one = made_report(with_operator(graph(), 1, kind="EXP"), (report.Share("vocoder-rest.tflite", 1000, 40),))
    assert report.Report.from_bytes(one.text().encode(), "placement.json") == one
    value = json.loads(one.text())
    for damage in (
        {"schema": 2}, {"placement": None}, {"rest": [1]}, {"seconds": "x"},
        {"placement": {**value["placement"], "rows": [{"verdict": "maybe"}]}},
        {"placement": {**value["placement"], "estimate_ms": "x"}}, {"link": 3}, {"seconds": float("nan")},
        {"placement": {**value["placement"], "largest": ["x"]}}, {"placement": {**value["placement"], "since": None}},
        {"placement": {**value["placement"], "rows": [{**value["placement"]["rows"][0], "macs": 1 << 62}]}},
        {"placement": {**value["placement"], "rows": [{**value["placement"]["rows"][0], "name": 1}]}},
        {"compile": {**value["compile"], "disagreements": "text"}}, {"compile": {**value["compile"], "file": []}},
        {"compile": {**value["compile"], "mapped": 99}}, {"compile": {**value["compile"], "status": "x"}},
    ):  # fmt: skip
        with pytest.raises(ArtifactError, match=r"placement\.json"):
            report.Report.from_bytes(json.dumps({**value, **damage}).encode(), "placement.json")
    for data in (b"[]", b"", b"[" * 9000, b"\xff", b'{"schema": 1, "schema": 1}'):
        with pytest.raises(ArtifactError, match=r"placement\.json"):
            report.Report.from_bytes(data, "placement.json")


def test_the_share_is_that_of_the_whole_stage():
    one = made_report(rest=(report.Share("vocoder-rest.tflite", 16 * 72 * 2, 40),))
    assert one.mapped_share == 0.5
    assert replace(one, placement=replace(one.placement, rows=()), rest=()).mapped_share == 0


def test_a_page_names_the_split_the_costs_and_why_an_operator_is_refused():
    said = report.page(made_report(with_operator(graph(), 1, kind="LEAKY_RELU")))
    for words in (
        "50.0% of", "up to operator 1, LEAKY_RELU 'slope'", "MAXIMUM(x, MUL(x, slope))", "issue", "ESTIMATE",
        "edge tpu compile: not_run: edgetpu_compiler is not on PATH", "no compiler has confirmed", "over usb3",
    ):  # fmt: skip
        assert words in said, words
    assert "all of it" in report.page(made_report())


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[op.ADD]\nsince = 10", "[op.ADD]\nsinse = 10", "sinse"),
        ('kind = "equal"', 'kind = "equals"', "equal"),
        ('kind = "most_inputs", value = 3', 'kind = "most_inputs", values = 3', "most_inputs"),
        ('source = "axis, i165"', 'source = "axiss, i165"', "axiss"),
        ('confidence = "issue"', 'confidence = "sure"', "sure"),
        ('= ["dtype"]', '= ["dtypes"]', "dtypes"),
    ],
)
def test_a_table_that_is_wrong_is_refused(tmp_path, old, new, problem):
    text = table.TABLE.read_text()
    assert old in text
    path = tmp_path / "edgetpu.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BackendError, match=problem):
        table.read_table(path)


def test_a_graph_without_operators_is_no_share():
    assert place(replace(graph(), operators=()), "x", TPU, 14).macs == 0
    assert Operator("RELU", 1, (0,), (1,)).name == ""
