"""One planted fault for each kind of rule: found by that rule and by nothing else, and gone in the counterpart."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import pytest

from gsvexport.backends.tensorrt.check import check
from gsvexport.backends.tensorrt.rules import GRAPH_KINDS, NODE_KINDS


@dataclass(frozen=True)
class Case:
    """A fault and its clean counterpart, both as "version: graph"; `always` is found in either, `op` has the fault."""

    kind: str
    op: str
    severity: str
    fault: str
    clean: str
    always: tuple[str, ...] = ()


def model(text, opset=17):
    """A graph in ONNX's own notation."""
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')


def found(case_text):
    """Findings of "version: graph", or "version @opset: graph"."""
    version, text = case_text.split(":", 1)
    version, _, opset = version.partition(" @")
    return check(model(text.strip(), int(opset or 17)), version, stage="step")


X = "(float[2,3] x) => (float[2,3] y)"
QKV = "float16[1,2,4,16] q, float16[1,2,4,16] k, float16[1,2,4,16] v"
IF = "(float[3] x, float z) => (float[3] y) <float zero = {{0}}> {{ c = Greater(z, zero) y = If(c) {} }}"
BRANCH = "<then_branch = then () => ({0} {1}) {{ {1} = Relu(x) }}, else_branch = els () => ({2} {3}) {{ {4} }}>"
LOOP = "(float[3] x{}) => ({} y) <int64 trips = {{4}}, bool go = {{1}}> {{ {} }}"
BODY = "<body = body (int64 i, bool c, {0} a) => (bool d, {1}) {{ d = Identity(c) {2} }}>"

CASES = (
    Case("unknown_op", "Frobnicate", "error", f"10.3: {X} {{ y = Frobnicate(x) }}", f"10.3: {X} {{ y = Relu(x) }}"),
    Case("unsupported_op", "Trilu", "error", f"8.4: {X} {{ y = Trilu(x) }}", f"8.5: {X} {{ y = Trilu(x) }}"),
    Case(
        "dtype",
        "Clip",
        "error",
        "10.3: (int64[3] x) => (int64[3] y) { y = Clip(x) }",
        "10.3: (float[3] x) => (float[3] y) { y = Clip(x) }",
    ),
    Case("opset", "", "error", f"8.6.2 @18: {X} {{ y = Relu(x) }}", f"8.6.2 @17: {X} {{ y = Relu(x) }}"),
    Case(
        "const_or_integer",
        "Range",
        "error",
        "10.3: (float limit) => (float[N] y) <float zero = {0}, float one = {1}> { y = Range(zero, limit, one) }",
        "10.3: (float[S] x) => (int64[N] y) <int64 o = {0}, int64 i = {1}> { n = Size(x) y = Range(o, n, i) }",
    ),
    Case("not_surveyed", "", "info", f"10.16.2.10: {X} {{ y = Relu(x) }}", f"10.15.1: {X} {{ y = Relu(x) }}"),
    Case(
        "int64_io",
        "",
        "warn",
        "8.6.2: (int64[3] x) => (float[3] y) { y = Cast<to = 1>(x) }",
        "8.6.2: (int32[3] x) => (float[3] y) { y = Cast<to = 1>(x) }",
    ),
    Case(
        "int64_range",
        "",
        "warn",
        "8.6.2: (float[3] x) => (float[N] y) <int64[1] s = {0}, int64[1] e = {9223372036854775807}>"
        " { y = Slice(x, s, e) }",
        "8.6.2: (float[3] x) => (float[N] y) <int64[1] s = {0}, int64[1] e = {2147483647}> { y = Slice(x, s, e) }",
    ),
    Case(
        "double",
        "",
        "warn",
        f"10.3: {X} {{ d = Cast<to = 11>(x) y = Cast<to = 1>(d) }}",
        f"10.3: {X} {{ d = Cast<to = 10>(x) y = Cast<to = 1>(d) }}",
    ),
    Case(
        "bool_io",
        "",
        "info",
        "10.3: (float[3] x, float[3] z) => (bool[3] y) { y = Greater(x, z) }",
        "10.3: (float[3] x, float[3] z) => (float[3] y) { c = Greater(x, z) y = Cast<to = 1>(c) }",
    ),
    Case(
        "uint8_inside",
        "",
        "error",
        f"10.3: {X} {{ u = Cast<to = 2>(x) y = Cast<to = 1>(u) }}",
        "10.3: (float[2,3] x) => (uint8[2,3] y) { y = Cast<to = 2>(x) }",
    ),
    Case(
        "max_rank",
        "",
        "error",
        "10.3: (float[1] x) => (float[1,1,1,1,1,1,1,1,1] y) <int64[9] s = {1,1,1,1,1,1,1,1,1}> { y = Reshape(x, s) }",
        "10.3: (float[1] x) => (float[1,1,1,1,1,1,1,1] y) <int64[8] s = {1,1,1,1,1,1,1,1}> { y = Reshape(x, s) }",
    ),
    Case(
        "empty_tensor",
        "",
        "warn",
        "10.3: (float[0,3] x, float[2,3] z) => (float[2,3] y) { y = Concat<axis = 0>(x, z) }",
        "10.3: (float[1,3] x, float[2,3] z) => (float[3,3] y) { y = Concat<axis = 0>(x, z) }",
    ),
    Case(
        "const_input",
        "Unsqueeze",
        "error",
        "10.3: (float[3] x, int64[1] a) => (float[1,3] y) { y = Unsqueeze(x, a) }",
        "10.3: (float[3] x) => (float[1,3] y) { a = Constant<value = int64[1] {0}>() y = Unsqueeze(x, a) }",
    ),
    Case(
        "tensor_input",
        "RandomNormalLike",
        "error",
        "10.3: () => (float[3] y) <float[3] w = {1,2,3}> { y = RandomNormalLike(w) }",
        "10.3: (float[3] x) => (float[3] y) { y = RandomNormalLike(x) }",
        always=("nondeterministic",),
    ),
    Case(
        "rank",
        "InstanceNormalization",
        "error",
        "10.3: (float[2,3] x, float[3] s, float[3] b) => (float[2,3] y) { y = InstanceNormalization(x, s, b) }",
        "10.3: (float[2,3,4] x, float[3] s, float[3] b) => (float[2,3,4] y) { y = InstanceNormalization(x, s, b) }",
    ),
    Case(
        "spatial_rank",
        "MaxPool",
        "error",
        "10.3: (float[1,3,8] x) => (float[1,3,7] y) { y = MaxPool<kernel_shape = [2]>(x) }",
        "10.3: (float[1,3,1,8] x) => (float[1,3,1,7] y) { y = MaxPool<kernel_shape = [1, 2]>(x) }",
    ),
    Case(
        "attr_in",
        "LpNormalization",
        "error",
        f"10.3: {X} {{ y = LpNormalization<p = 3>(x) }}",
        f"10.3: {X} {{ y = LpNormalization<p = 2>(x) }}",
    ),
    Case(
        "attr_forbidden",
        "Attention",
        "error",
        f"10.15 @23: ({QKV}) => (float16[1,2,4,16] y) {{ y = Attention<softcap = 30.0>(q, k, v) }}",
        f"10.15 @23: ({QKV}) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v) }}",
    ),
    Case(
        "attr_forbidden_if",
        "ConvTranspose",
        "error",
        "8.4: (float[1,1,4] x) => (float[1,1,N] y) <float[1,1,2] w = {1,2}>"
        " { y = ConvTranspose<strides = [2], output_padding = [1]>(x, w) }",
        "8.4: (float[1,1,4] x) => (float[1,1,N] y) <float[1,1,2] w = {1,2}> { y = ConvTranspose<strides = [2]>(x, w) }",
    ),
    Case(
        "attr_all_ones",
        "MaxPool",
        "error",
        "10.3: (float[1,3,8,8] x) => (float[1,3,A,B] y) { y = MaxPool<kernel_shape = [2, 2], dilations = [1, 2]>(x) }",
        "10.3: (float[1,3,8,8] x) => (float[1,3,A,B] y) { y = MaxPool<kernel_shape = [2, 2], dilations = [1, 1]>(x) }",
    ),
    Case(
        "max_outputs",
        "MaxPool",
        "error",
        "10.3: (float[1,3,8,8] x) => (float[1,3,7,7] y) { y, i = MaxPool<kernel_shape = [2, 2]>(x) }",
        "10.3: (float[1,3,8,8] x) => (float[1,3,7,7] y) { y = MaxPool<kernel_shape = [2, 2]>(x) }",
    ),
    Case(
        "max_inputs",
        "Einsum",
        "warn",
        '10.3: (float[3] a, float[3] b, float[3] c) => (float[3] y) { y = Einsum<equation = "i,i,i->i">(a, b, c) }',
        '10.3: (float[3] a, float[3] b) => (float[3] y) { y = Einsum<equation = "i,i->i">(a, b) }',
    ),
    Case(
        "forbidden_inputs",
        "Attention",
        "error",
        f"10.15 @24: ({QKV}, int64[1] n) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v, , , , n) }}",
        f"10.15 @24: ({QKV}, float16[1,1,4,4] m) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v, m) }}",
    ),
    Case(
        "requires_input",
        "Squeeze",
        "error",
        "10.3: (float[1,3] x) => (float[3] y) { y = Squeeze(x) }",
        "10.3: (float[1,3] x) => (float[3] y) <int64[1] a = {0}> { y = Squeeze(x, a) }",
    ),
    Case(
        "max_value",
        "TopK",
        "error",
        "10.3: (float[1,9000] x) => (float[1,4000] y, int64[1,4000] i) <int64[1] k = {4000}> { y, i = TopK(x, k) }",
        "10.3: (float[1,9000] x) => (float[1,3840] y, int64[1,3840] i) <int64[1] k = {3840}> { y, i = TopK(x, k) }",
    ),
    Case(
        "dtype_in",
        "TopK",
        "error",
        "8.5: (int32[1,9] x) => (int32[1,2] y) <int64[1] k = {2}> { y, i = TopK(x, k) }",
        "8.5: (float[1,9] x) => (float[1,2] y) <int64[1] k = {2}> { y, i = TopK(x, k) }",
    ),
    Case(
        "same_dtype",
        "Pow",
        "error",
        "10.3: (float[3] x, float16[3] e) => (float[3] y) { y = Pow(x, e) }",
        "10.3: (float[3] x, float[3] e) => (float[3] y) { y = Pow(x, e) }",
    ),
    Case(
        "keep_fp32_inputs",
        "Resize",
        "error",
        "10.3: (float[1,1,4] x, float16[6] roi) => (float[1,1,8] y) <float[3] s = {1,1,2}> { y = Resize(x, roi, s) }",
        "10.3: (float[1,1,4] x, float[6] roi) => (float[1,1,8] y) <float[3] s = {1,1,2}> { y = Resize(x, roi, s) }",
    ),
    Case(
        "zero_point_zero",
        "QuantizeLinear",
        "error",
        "10.3: (float[3] x) => (int8[3] y) <float s = {0.5}, int8 z = {3}> { y = QuantizeLinear(x, s, z) }",
        "10.3: (float[3] x) => (int8[3] y) <float s = {0.5}, int8 z = {0}> { y = QuantizeLinear(x, s, z) }",
    ),
    Case(
        "static_shape",
        "EyeLike",
        "error",
        "10.3: (float[N,3] x) => (float[N,3] y) { y = EyeLike(x) }",
        "10.3: (float[3,3] x) => (float[3,3] y) { y = EyeLike(x) }",
    ),
    Case(
        "static_dim",
        "Hardmax",
        "error",
        "10.3: (float[2,N] x) => (float[2,N] y) { y = Hardmax<axis = 1>(x) }",
        "10.3: (float[N,3] x) => (float[N,3] y) { y = Hardmax<axis = 1>(x) }",
    ),
    Case(
        "einsum_plain",
        "Einsum",
        "error",
        '8.6.2: (float[3,3] x) => (float[3] y) { y = Einsum<equation = "ii->i">(x) }',
        '8.6.2: (float[3,3] x) => (float[3] y) { y = Einsum<equation = "ij->i">(x) }',
    ),
    Case(
        "opset_max",
        "ScatterND",
        "warn",
        "10.3 @18: (float[3] x, int64[1,1] i, float[1] u) => (float[3] y) { y = ScatterND(x, i, u) }",
        "10.3 @17: (float[3] x, int64[1,1] i, float[1] u) => (float[3] y) { y = ScatterND(x, i, u) }",
    ),
    Case(
        "real_input",
        "STFT",
        "error",
        "10.13: (float[1,64,2] x) => (float[1,A,B,2] y) <int64 s = {4}, float[4] w = {1,1,1,1}> { y = STFT(x, s, w) }",
        "10.13: (float[1,64,1] x) => (float[1,A,B,2] y) <int64 s = {4}, float[4] w = {1,1,1,1}> { y = STFT(x, s, w) }",
    ),
    Case(
        "bidir_same_activations",
        "RNN",
        "error",
        "10.3: (float[2,1,3] x, float[2,4,3] w, float[2,4,4] r) => (float[2,2,1,4] y)"
        ' { y = RNN<hidden_size = 4, direction = "bidirectional", activations = ["Tanh", "Relu"]>(x, w, r) }',
        "10.3: (float[2,1,3] x, float[2,4,3] w, float[2,4,4] r) => (float[2,2,1,4] y)"
        ' { y = RNN<hidden_size = 4, direction = "bidirectional", activations = ["Relu", "Relu"]>(x, w, r) }',
    ),
    Case(
        "branch_outputs_same_rank",
        "If",
        "error",
        "10.3: " + IF.format(BRANCH.format("float[3]", "a", "float", "b", "b = Identity(z)")),
        "10.3: " + IF.format(BRANCH.format("float[3]", "a", "float[3]", "b", "b = Tanh(x)")),
        always=("control_flow",),
    ),
    Case(
        "branch_output_names_differ",
        "If",
        "error",
        "10.3: " + IF.format(BRANCH.format("float[3]", "a", "float[3]", "a", "a = Tanh(x)")),
        "10.3: " + IF.format(BRANCH.format("float[3]", "a", "float[3]", "b", "b = Tanh(x)")),
        always=("control_flow",),
    ),
    Case(
        "control_flow",
        "If",
        "warn",
        "10.3: " + IF.format(BRANCH.format("float[3]", "a", "float[3]", "b", "b = Tanh(x)")),
        "10.3: (float[3] x, float[3] z) => (float[3] y) { c = Greater(x, z) y = Where(c, x, z) }",
    ),
    Case(
        "loop_static_scan_length",
        "Loop",
        "error",
        "10.3: " + LOOP.format(", int64 n", "float[N,3]", "l, y = Loop(n, go, x) "
        + BODY.format("float[3]", "float[3] b, float[3] s", "b = Relu(a) s = Tanh(a)")),
        "10.3: " + LOOP.format("", "float[4,3]", "l, y = Loop(trips, go, x) "
        + BODY.format("float[3]", "float[3] b, float[3] s", "b = Relu(a) s = Tanh(a)")),
        always=("control_flow",),
    ),
    Case(
        "loop_carried_shape_invariant",
        "Loop",
        "error",
        "10.3: " + LOOP.format("", "float[N]", "y = Loop(trips, go, x) "
        + BODY.format("float[N]", "float[6] b", "b = Concat<axis = 0>(x, x)")),
        "10.3: " + LOOP.format("", "float[3]", "y = Loop(trips, go, x) "
        + BODY.format("float[3]", "float[3] b", "b = Relu(a)")),
        always=("control_flow",),
    ),
    Case(
        "cache_must_be_graph_io",
        "TensorScatter",
        "error",
        "10.15 @24: (float[1,2,16,8] c, float[1,2,1,8] u, int64[1] i) => (float[1,2,16,8] y)"
        " { t = Relu(c) y = TensorScatter<axis = -2>(t, u, i) }",
        "10.15 @24: (float[1,2,16,8] c, float[1,2,1,8] u, int64[1] i) => (float[1,2,16,8] y)"
        " { y = TensorScatter<axis = -2>(c, u, i) }",
    ),
    Case(
        "cache_read_by_update_alone",
        "TensorScatter",
        "error",
        "10.15 @24: (float[1,2,16,8] c, float[1,2,1,8] u, int64[1] i) => (float[1,2,16,8] y, float[1,2,16,8] z)"
        " { y = TensorScatter<axis = -2>(c, u, i) z = Relu(c) }",
        "10.15 @24: (float[1,2,16,8] c, float[1,2,1,8] u, int64[1] i) => (float[1,2,16,8] y, float[1,2,16,8] z)"
        " { y = TensorScatter<axis = -2>(c, u, i) z = Relu(y) }",
    ),
    Case(
        "bool_or_same_dtype",
        "Attention",
        "error",
        f"10.15 @24: ({QKV}, float[1,1,4,4] m) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v, m) }}",
        f"10.15 @24: ({QKV}, float16[1,1,4,4] m) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v, m) }}",
    ),
    Case(
        "attr_or_input",
        "Attention",
        "error",
        f"10.15 @24: ({QKV}, float16[1,1,4,4] m) => (float16[1,2,4,16] y)"
        " { y = Attention<is_causal = 1>(q, k, v, m) }",
        f"10.15 @24: ({QKV}) => (float16[1,2,4,16] y) {{ y = Attention<is_causal = 1>(q, k, v) }}",
    ),
    Case(
        "precision",
        "Softmax",
        "warn",
        "10.3: (float16[2,3] x) => (float16[2,3] y) { y = Softmax(x) }",
        "10.3: (float16[2,3] x) => (float[2,3] y) { f = Cast<to = 1>(x) y = Softmax(f) }",
    ),
    Case(
        "data_dependent_output",
        "NonZero",
        "warn",
        "10.3: (float[3] x) => (int64[1,N] y) { y = NonZero(x) }",
        "10.3: (float[3] x) => (int64[1] y) { y = Shape(x) }",
    ),
    Case(
        "nondeterministic",
        "RandomNormal",
        "error",
        "10.3: () => (float[3] y) { y = RandomNormal<shape = [3], seed = 1.0>() }",
        "10.3: (float[3] noise) => (float[3] y) { y = Identity(noise) }",
    ),
    Case(
        "slow",
        "CumSum",
        "warn",
        "10.7: (float[3] x) => (float[3] y) <int64 a = {0}> { y = CumSum(x, a) }",
        "10.8: (float[3] x) => (float[3] y) <int64 a = {0}> { y = CumSum(x, a) }",
    ),
    Case(
        "discouraged",
        "LayerNormalization",
        "warn",
        f"8.6.2: {X} <float[3] s = {{1,1,1}}> {{ y = LayerNormalization(x, s) }}",
        f"10.3: {X} <float[3] s = {{1,1,1}}> {{ y = LayerNormalization(x, s) }}",
    ),
)  # fmt: skip
ELSEWHERE = {"external_data", "local_functions"}  # test_check.py: not to be had in the notation, or in one version


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_a_planted_fault_is_found_by_its_rule_alone(case):
    faults = [finding for finding in found(case.fault) if finding.kind not in case.always]
    assert [(one.kind, one.op, one.severity) for one in faults] == [(case.kind, case.op, case.severity)]
    assert faults[0].stage == "step"
    assert faults[0].message
    assert faults[0].source
    assert bool(faults[0].node) == bool(case.op)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_its_clean_counterpart_passes(case):
    assert {finding.kind for finding in found(case.clean)} == set(case.always)


def test_every_kind_of_rule_has_its_fault():
    kinds = {"unknown_op", "unsupported_op", *NODE_KINDS, *GRAPH_KINDS}
    assert {case.kind for case in CASES} | ELSEWHERE == kinds


CACHE = "(float[1,2,16,8] c, float[1,2,1,8] u, int64[1] i) => (float[1,2,16,8] y)"
UPDATE = "{ y = TensorScatter<axis = -2>(c, u, i) }"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("attr_in", f'10.15 @24: {CACHE} {{ y = TensorScatter<axis = -2, mode = "circular">(c, u, i) }}'),
        ("attr_in", f"10.15 @24: {CACHE} {{ y = TensorScatter<axis = 2>(c, u, i) }}"),
        ("dtype_in", f"10.15 @24: {CACHE.replace('float', 'int32')} {UPDATE}"),
        ("cache_must_be_graph_io", f"10.15 @24: {CACHE.replace('16', 'C')} {UPDATE}"),
        ("unsupported_op", f"10.14 @24: {CACHE} {UPDATE}"),
        ("unsupported_op", f"10.13 @23: ({QKV}) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v) }}"),
        ("forbidden_inputs", f"10.15 @24: ({QKV}) => (float16[1,2,4,16] y) {{ y = Attention(q, k, v, , k, v) }}"),
    ],
)
def test_what_an_update_in_place_may_not_be(kind, text):
    assert kind in [finding.kind for finding in found(text) if finding.severity == "error" and finding.op]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("dtype", "11.4: (int32[3] x) => (int32[3] y) { y = Relu(x) }"),
        ("dtype", "11.4 @20: (int32[3] x) => (int32[3] y) { y = Gelu(x) }"),
        ("dtype_in", "11.4: (float[5] x, float[2] i) => (float[2] y) { y = Gather(x, i) }"),
        ("dtype_in", "11.4: (int32[3] c, float[3] a, float[3] b) => (float[3] y) { y = Where(c, a, b) }"),
        ("dtype", "11.4: (float16 n) => (float16[N] y) <float16 z = {0}, float16 o = {1}> { y = Range(z, n, o) }"),
        ("const_or_integer", "11.4: (float n) => (float[N] y) <float z = {0}, float o = {1}> { y = Range(z, n, o) }"),
        ("dtype", f"11.4 @23: ({QKV.replace('float16', 'float')}) => (float[1,2,4,16] y) {{ y = Attention(q, k, v) }}"),
    ],
)
def test_what_the_real_parser_was_seen_to_refuse_is_an_error(kind, text):
    assert kind in [finding.kind for finding in found(text) if finding.severity == "error" and finding.op]
