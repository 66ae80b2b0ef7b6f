"""What TensorRT versions would say about the stages of real sources, and what surrounds the rules."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from conformance import conformance

from gsvexport.backends.tensorrt import check as checker
from gsvexport.backends.tensorrt.check import annotated, check, check_all, summary
from gsvexport.backends.tensorrt.table import OPERATORS, SEVERITIES, operators, read_operators, release
from gsvexport.compiler.source import open_source, write_source
from gsvexport.demo import demo_voice
from gsvexport.errors import BackendError
from gsvexport.voice.voice import read_voice

GOLDEN = Path(__file__).parents[2] / "golden" / "tensorrt"
VERSIONS = ("8.5.2", "8.6.2", "10.3", "10.13", "10.16")  # of JetPack 5, 6.0, 6.1 and 6.2, 7.0, 7.2
TOML = '[voice]\nname = "v2"\nlanguage = "en"\ngpt = "gpt.ckpt"\nsovits = "sovits.pth"\n'


def model(text, opset=17, functions=""):
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["": {opset}, "own": 1]> g {text} {functions}')


def kinds(text, version, **more):
    return [(one.kind, one.op, one.severity) for one in check(model(text, **more), version, stage="step")]


# --- real sources ---------------------------------------------------------------------------------------------------


def folder(name, tmp_path):
    if name == "demo":
        return demo_voice()
    for file in ("gpt.ckpt", "sovits.pth"):
        (tmp_path / file).symlink_to(conformance(name).folder / file)
    (tmp_path / "voice.toml").write_text(TOML)
    return tmp_path


def listing(findings):
    """Findings by version, equal ones of several nodes counted."""
    lines = [summary(findings)]
    for version, found in findings.items():
        groups = defaultdict(list)
        for one in sorted(found, key=lambda one: SEVERITIES.index(one.severity)):
            groups[one.severity, one.op or "graph", one.kind].append(one)
        lines.append(f"\nTensorRT {version}")
        for key, group in groups.items():
            stages = Counter(one.stage for one in group)
            lines.append(" ".join(key) + ": " + ", ".join(f"{stage} ×{count}" for stage, count in stages.items()))
            lines.append("    " + ": ".join(filter(None, (group[0].node, group[0].message))))
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", ["v2", "demo"])
def test_findings_in_the_stages_of_a_source_are_as_recorded(name, tmp_path, request):
    voice = dataclasses.replace(read_voice(folder(name, tmp_path)), reference=None)
    write_source(voice, tmp_path / "source")
    source = open_source(tmp_path / "source")
    models = {stage: ir.load(source.path / file) for stage, file in source.model.files.items()}
    text = listing(check_all(models, VERSIONS))
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "the findings changed; if that is right: pytest --golden"
    assert "unknown" not in text  # a shape or type that inference did not find would leave rules undecided


# --- versions -------------------------------------------------------------------------------------------------------


def test_versions_are_compared_as_integers():
    assert release("10.16") > release("10.3") > release("9.0") == release("9")
    assert release("10.3.0.30") > release("10.3") > release("8.6.2")


def test_versions_that_cannot_be_checked_are_refused_together():
    with pytest.raises(BackendError) as caught:
        check_all({}, ["8.2.1", "10.3", "ten", "10.3 (JetPack 6)"])
    assert [problem.split()[0] for problem in caught.value.problems] == ["8.2.1", "'ten'", "'10.3"]
    assert "JetPack 4.6" in str(caught.value)


def test_a_bound_of_a_rule_belongs_to_the_newer_side():
    text = "(float[2,3] x) => (float[2,3] y) <float[3] s = {1,1,1}> { y = LayerNormalization(x, s) }"
    (finding,) = check(model(text), "8.5.3", stage="step")
    assert (finding.kind, finding.until, finding.severity) == ("unsupported_op", "8.6", "error")
    assert "ReduceMean" in finding.advice
    assert kinds(text, "8.6") == [("discouraged", "LayerNormalization", "warn")]
    assert kinds(text, "10.15.0") == []
    assert kinds(text, "99.1") == [("not_surveyed", "", "info")]


# --- types, shapes, constants ---------------------------------------------------------------------------------------


def test_int64_counts_as_int32_before_it_was_native():
    text = "(int64[3] x, int64[3] z) => (int64[3] y) { y = Add(x, z) }"
    assert kinds(text, "8.6.2") == [("int64_io", "", "warn")] * 3
    assert kinds(text, "9.0") == []


def test_what_an_unknown_operator_hides_is_a_doubt_and_no_pass():
    text = "(float[1,3,8] x, float[3] s) => (float[1,3,8] y) { h = Odd(x) y = InstanceNormalization(h, s, s) }"
    assert kinds(text, "10.3") == [
        ("unknown_op", "Odd", "error"),
        ("dtype", "InstanceNormalization", "warn"),
        ("rank", "InstanceNormalization", "warn"),
        ("same_dtype", "InstanceNormalization", "warn"),
    ]


def test_a_constant_that_is_still_to_be_folded_is_only_a_warning():
    folds = "(float[3] x) => (float[1,3] y) <int64[1] a = {1}> { b = Sub(a, a) y = Unsqueeze(x, b) }"
    static = "(float[3] x, float[2,1] z) => (float[A,B] y) { s = Shape<start = 1>(z) y = Unsqueeze(x, s) }"
    random = "(float[3] x) => (float[A,B] y) { r = RandomNormal<shape = [1]>() a = Ceil(r) y = Unsqueeze(x, a) }"
    assert kinds(folds, "10.3") == kinds(static, "10.3") == [("const_input", "Unsqueeze", "warn")]
    assert ("const_input", "Unsqueeze", "error") in kinds(random, "10.3")


def test_a_constant_input_must_have_the_value_that_is_allowed():
    text = "(float[3] x) => (float[3] y) <float r = {{0.5}}, bool t = {{{}}}> {{ y = Dropout(x, r, t) }}"
    assert kinds(text.format(0), "10.3") == []
    assert kinds(text.format(1), "10.3") == [("const_input", "Dropout", "error")]


@pytest.mark.parametrize(
    ("equation", "ports", "faults"),
    [
        ("ij,jk->ik", "float[3,1] a, float[1,4] b", 0),
        ("ij,ij->ij", "float[3,4] a, float[1,4] b", 1),
        ("...j,...j->...j", "float[3,4] a, float[3,4] b", 1),
    ],
)
def test_einsum_neither_broadcasts_nor_has_an_ellipsis(equation, ports, faults):
    text = f'({ports}) => (float[A,B] y) {{ y = Einsum<equation = "{equation}">(a, b) }}'
    assert kinds(text, "8.6.2") == [("einsum_plain", "Einsum", "error")] * faults
    assert kinds(text, "10.3") == [("einsum_plain", "Einsum", "warn")] * faults
    assert kinds(text, "10.12") == []


def test_annotating_leaves_the_model_alone_and_is_skipped_where_nothing_is_missing():
    bare = model("(float[3] x) => (float[3] y) { h = Relu(x) y = Relu(h) }")
    full = annotated(bare)
    assert bare.graph[0].outputs[0].shape is None
    assert full.graph[0].outputs[0].shape == ir.Shape([3])
    assert annotated(full) is full


# --- graphs ---------------------------------------------------------------------------------------------------------

FUNCTION = '<domain: "own", opset_import: ["": 17]> Twice (a) => (b) { r = Det(a) b = Add(r, r) }'
CALL = "(float[3,3] x) => (float y) { y = own.Twice(x) }"


def test_functions_of_the_model_are_an_error_before_9_and_looked_into_always():
    det = ("unsupported_op", "Det", "error")
    assert kinds(CALL, "8.6.2", functions=FUNCTION) == [("local_functions", "", "error"), det]
    assert kinds(CALL, "10.3", functions=FUNCTION) == [det]
    assert kinds(CALL, "10.3", functions=FUNCTION.replace("Det", "ReduceSum")) == []


def test_weights_in_another_file_are_a_remark(tmp_path):
    (tmp_path / "w.bin").write_bytes(np.ones(3, np.float32).tobytes())
    graph = model("(float[3] x) => (float[3] y) <float[3] w = {1,1,1}> { y = Add(x, w) }")
    assert check(graph, "10.3", stage="step") == ()
    graph.graph.initializers["w"].const_value = ir.ExternalTensor(
        "w.bin", 0, 12, ir.DataType.FLOAT, shape=ir.Shape([3]), name="w", base_dir=tmp_path
    )
    (finding,) = check(graph, "10.3", stage="step")
    assert (finding.kind, finding.severity, finding.node) == ("external_data", "info", "")
    assert "w.bin" in finding.message


def test_nodes_of_branches_are_checked_too():
    text = (
        "(float[3,3] x, bool c) => (float y) { y = If(c) <then_branch = t () => (float a) { a = Det(x) },"
        " else_branch = e () => (float b) { b = ReduceSum<keepdims = 0>(x) }> }"
    )
    assert ("unsupported_op", "Det", "error") in kinds(text, "10.3")


def test_an_operator_of_another_domain_is_not_the_standard_one():
    assert kinds("(float[3] x) => (float[3] y) { y = own.Relu(x) }", "10.3") == [("unknown_op", "Relu", "error")]
    cache = "(float[3] x) => (float[3] y) { y = own.TRT_KVCacheUpdate(x) }"
    assert kinds(cache, "10.15") == [("unsupported_op", "TRT_KVCacheUpdate", "error")]
    assert kinds(cache, "11.0") == [("not_surveyed", "", "info")]
    plain = cache.replace("own.", "")
    assert kinds(plain, "11.0")[-1] == ("unknown_op", "TRT_KVCacheUpdate", "error")


def test_all_problems_of_all_stages_come_at_once():
    bad = model("(float[3,3] x) => (float y) { n = Det(x) y = Multinomial(n) }")
    findings = check_all({"acoustic": bad, "vocoder": bad}, ["8.5", "10.3"])
    assert [(one.stage, one.op) for one in findings["10.3"]] == [
        (stage, op) for stage in ("acoustic", "vocoder") for op in ("Det", "Multinomial")
    ]
    assert "Gumbel" in findings["8.5"][1].advice


def test_the_summary_has_a_line_a_version():
    good = model("(float[3] x) => (float[3] y) { y = Trilu(x) }")
    slow = model("(float[3] x) => (float[3] y) <int64 a = {0}> { h = CumSum(x, a) y = Trilu(h) }")
    text = summary(check_all({"step": good, "vocoder": slow}, ["8.4", "8.5", "10.8"]))
    assert text.splitlines() == [
        "TensorRT 8.4     2 errors, 1 warning: Trilu: no importer before 8.5 (×2: step, vocoder)",
        "TensorRT 8.5     clean, 1 warning",
        "TensorRT 10.8    clean",
    ]


# --- the table ------------------------------------------------------------------------------------------------------


def test_a_new_line_in_the_table_is_a_new_rule(tmp_path, monkeypatch):
    path = tmp_path / "operators.toml"
    line = 'rules = [{kind = "rank", input = 0, min = 1, max = 2, until = "10.4", note = "ours"}]'
    path.write_text(OPERATORS.read_text().replace("[op.Relu]", f"[op.Relu]\n{line}"))
    table = read_operators(path)
    monkeypatch.setattr(checker, "operators", lambda: table)
    (finding,) = check(model("(float[1,1,3] x) => (float[1,1,3] y) { y = Relu(x) }"), "10.3", stage="step")
    assert finding.message == "input 0 'x' has rank 3; allowed 1..2 (ours)"
    assert (finding.until, finding.source) == ("10.4", operators().operators["Relu"].source)


def test_every_mistake_in_a_table_is_named_with_its_line(tmp_path):
    rules = (
        '{kind = "ranks", input = 0}',
        '{kind = "rank", input = 0, min = 1, max = 2, low = 1}',
        '{kind = "slow", severity = "bad", since = 10.3}',
        '{kind = "max_rank", value = 8}',
    )
    path = tmp_path / "operators.toml"
    text = OPERATORS.read_text().replace("[op.Relu]", f"[op.Relu]\nrules = [{', '.join(rules)}]\ndtypes = []")
    fast = 'fast = {severity = "warn", meaning = "fast"}'
    path.write_text(text.replace("\n[kinds]\n", f"\n[kinds]\n{fast}\n"))
    with pytest.raises(BackendError) as caught:
        read_operators(path)
    problems = "\n".join(caught.value.problems)
    for wanted in (
        "'ranks' here; did you mean 'rank'",
        "rule 'rank': got an unexpected keyword",
        "severity is one of error, warn, info, not 'bad'",
        "not 10.3",
        "called 'max_rank' here",
        "unknown key 'dtypes'",
        "unknown key 'fast' in [kinds]",
    ):
        assert wanted in problems
    line = 1 + next(number for number, one in enumerate(path.read_text().splitlines(), 1) if one == "[op.Relu]")
    assert f"{path}:{line}: " in problems


def test_the_table_says_which_precision_each_operator_wants():
    table = operators().operators
    assert {table[op].policy for op in ("Softmax", "LayerNormalization", "Exp")} == {"fp32"}
    assert {table[op].policy for op in ("MatMul", "Conv", "ConvTranspose")} == {"fp16"}
