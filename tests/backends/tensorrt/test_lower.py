"""From a source to typed graphs for TensorRT, and an artifact that says what is proven and what is not."""

import json
from dataclasses import asdict

import numpy as np
import onnx_ir as ir
import pytest

from gsvexport.artifact import container
from gsvexport.backends.tensorrt import emulate, recipe
from gsvexport.backends.tensorrt.check import check
from gsvexport.backends.tensorrt.lower import lower, refuse, releases_of, verdicts
from gsvexport.compiler.build import build
from gsvexport.compiler.source import write_source
from gsvexport.errors import BackendError
from gsvexport.passes.base import run_passes
from gsvexport.passes.one_t2s import OneT2S
from gsvexport.passes.types import type_errors
from gsvexport.runtime import pipeline
from gsvexport.synthetic import write_voice
from gsvexport.target.target import Limits
from gsvexport.verify import verify_artifact
from gsvexport.voice.voice import read_voice

DEVICE = {"runtimes": {"tensorrt": ">=8.5.2,<11"}, "limits": asdict(Limits(phones=100, tokens=300))}
HALVES = dict.fromkeys(("prefill", "step", "acoustic", "vocoder"), "fp16")


class Measured:
    """A calibration whose every tensor peaks at 1, but those named."""

    def __init__(self, **peaks):
        self.large = peaks

    def feeds(self, stage):
        return []

    def peaks(self, model, feeds):
        return {value.name: self.large.get(value.name, 1.0) for node in model.graph for value in node.outputs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorrt")
    write_voice(folder / "voice", "v2Pro", seed=3)
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return write_source(read_voice(folder / "voice"), folder / "source")


@pytest.fixture(scope="module")
def lowered(source, folder):
    out = folder / "lowered"
    out.mkdir()
    return out, lower(source.path, source.model, HALVES, out, device=DEVICE, calibration=Measured())


def engines(out):
    return json.loads((out / recipe.FILE).read_text())["engines"]


def test_prefill_and_step_are_one_engine_whose_weights_are_there_once(lowered):
    out, done = lowered
    assert done.files["prefill"] == done.files["step"] == "t2s.onnx"
    assert engines(out)["t2s"]["stages"] == ["prefill", "step"]
    shared = [one for one in done.weights if one.stages == ("prefill", "step")]
    assert {one.kind for one in shared} == {"fp16", "fp32"}  # the scores' product stays FP32


def test_both_forms_of_every_graph_are_typed_and_use_the_same_weights_files(lowered):
    out, _ = lowered
    for name in ("t2s", "acoustic", "vocoder"):
        for file in (f"{name}.onnx", f"{name}.trt8.onnx"):
            graph = ir.load(out / file)
            assert not list(type_errors(graph))
            ports = [port.dtype for port in graph.graph.inputs]
            assert ir.DataType.INT64 not in ports
    operators = {node.op_type for node in ir.load(out / "t2s.trt8.onnx").graph}
    assert "LayerNormalization" not in operators
    files = {path.name for path in out.iterdir() if path.suffix != ".onnx"}
    assert files == {"tensorrt.json", "t2s.safetensors", "weights.safetensors"}


def test_the_weak_form_names_the_layers_that_must_stay_single(lowered):
    out, _ = lowered
    single = set(engines(out)["t2s"]["single"])
    kinds = {node.op_type for node in ir.load(out / "t2s.trt8.onnx").graph if node.name in single}
    assert {"Softmax", "ReduceMean", "Sqrt"} <= kinds
    assert "Reshape" not in kinds


def test_profiles_follow_the_limits_and_the_prompt(lowered, source):
    out, _ = lowered
    prompt = sum(np.load(source.path / source.model.baked[name]).size for name in ("prompt", "prompt_phones"))
    profiles = {one["name"]: one["shapes"] for one in engines(out)["t2s"]["profiles"]}
    assert profiles["prefill"]["ids"][2] == [1, prompt + 100]
    longest = max(one["keys"][2][2] for one in profiles.values())
    assert longest >= prompt + 100 + 300
    steps = [one for name, one in profiles.items() if name.startswith("step")]
    assert all(low == high for one in steps for low, _, high in one.values())  # one recorded graph each


def test_an_operator_with_values_near_the_end_of_float16_stays_single(source, tmp_path):
    plain, careful = tmp_path / "plain", tmp_path / "careful"
    for out, calibration in ((plain, Measured()), (careful, Measured(**{"up0/ConvTranspose": 2e4}))):
        out.mkdir()
        done = lower(source.path, source.model, {"vocoder": "fp16"}, out, device=DEVICE, calibration=calibration)
    types = [
        next(node.outputs[0].dtype for node in ir.load(out / "vocoder.onnx").graph if node.name == "up0/ConvTranspose")
        for out in (plain, careful)
    ]
    assert types == [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    assert any(
        "2e+04 in up0/ConvTranspose" in note and "1 operators stay FP32" in note for note in done.notes["vocoder"]
    )


def test_t2s_has_a_form_that_writes_its_cache_on_the_same_weights(lowered, source):
    out, _ = lowered
    form, dims = engines(out)["t2s"]["in_place"], source.model.dims
    graph = ir.load(out / form["graph"])
    assert not list(type_errors(graph))
    assert not [one for one in check(graph, "10.15.1", stage="t2s") if one.severity != "info"]
    kinds = {"Attention": dims.L, "TensorScatter": 2 * dims.L, "Softmax": 0}
    assert {kind: sum(node.op_type == kind for node in graph.graph) for kind in kinds} == kinds
    assert {node.outputs[0].dtype for node in graph.graph if node.op_type == "Attention"} == {ir.DataType.FLOAT16}
    cache = next(port for port in graph.graph.inputs if port.name == "keys_0")
    longest = max(one["shapes"]["slots"][2][0] for one in form["profiles"])
    assert list(cache.shape) == [1, dims.H, longest, dims.D // dims.H]
    assert form["ports"]["inputs"]["keys_0"] == form["ports"]["outputs"]["new_keys_0"] == "float16"
    assert (out / form["graph"]).stat().st_size < 2 * (out / "t2s.onnx").stat().st_size
    stored = [
        {name for name, value in one.graph.initializers.items() if isinstance(value.const_value, ir.ExternalTensor)}
        for one in (graph, ir.load(out / "t2s.onnx"))
    ]
    assert stored[0] <= stored[1]
    assert engines(out)["vocoder"]["in_place"] is None
    assert not any("Attention" in node.op_type for node in ir.load(out / "t2s.onnx").graph)


def test_the_form_that_writes_its_cache_is_taken_from_10_15_on(source):
    told = verdicts(source.path, source.model, HALVES, DEVICE).splitlines()
    first = next(index for index, line in enumerate(told) if "--cache in-place" in line)
    found = dict(line.removeprefix("TensorRT ").split(maxsplit=1) for line in told[first + 1 :])
    assert found["10.16"].startswith("clean")
    assert all("error" in found[one] for one in ("8.5.2", "8.6.2", "10.3", "10.13"))
    assert "TensorScatter: no importer before 10.15" in found["10.13"]
    assert "Attention: no importer before 10.14" in found["10.13"]
    assert all("clean" in line for line in told[:first])


def test_a_target_whose_releases_are_older_gets_no_such_form(source, tmp_path):
    device = {**DEVICE, "runtimes": {"tensorrt": ">=10.3,<10.14"}}
    t2s = {"prefill": "fp16", "step": "fp16"}
    lower(source.path, source.model, t2s, tmp_path, device=device, calibration=Measured())
    assert engines(tmp_path)["t2s"]["in_place"] is None
    assert not list(tmp_path.glob("*kv*"))


def test_no_such_form_where_attention_was_measured_beyond_float16(source, tmp_path):
    t2s = {"prefill": "fp16", "step": "fp16"}
    joined = run_passes(ir.load(source.path / source.model.files["prefill"]), [OneT2S(*sizes(source))]).model
    scores = next(node.inputs[0] for node in joined.graph if node.op_type == "Softmax")
    careful = Measured(**{scores.name: 2e4})
    done = lower(source.path, source.model, t2s, tmp_path, device=DEVICE, calibration=careful)
    assert engines(tmp_path)["t2s"]["in_place"] is None
    assert any("no form that writes its cache in place" in note for note in done.notes["step"])


def sizes(source):
    return source.model.dims.H, source.model.dims.D, source.model.dims.L


def test_a_new_enough_target_gets_no_weak_form(source, tmp_path):
    device = {**DEVICE, "runtimes": {"tensorrt": ">=10.3,<11"}}
    lower(source.path, source.model, {"vocoder": "fp16"}, tmp_path, device=device, calibration=Measured())
    assert not list(tmp_path.glob("*trt8*"))
    assert engines(tmp_path)["vocoder"]["weak"] == ""


def test_two_precisions_in_one_engine_are_refused(source, tmp_path):
    with pytest.raises(BackendError) as error:
        lower(source.path, source.model, {"prefill": "fp16", "step": "fp32"}, tmp_path, device=DEVICE)
    assert "prefill and step are one engine" in str(error.value)


def test_a_range_without_a_known_release_is_refused():
    assert releases_of({"tensorrt": ">=10.3,<10.14"}) == ("10.3", "10.13")
    with pytest.raises(BackendError, match="no TensorRT release"):
        releases_of({"tensorrt": "<8"})


def test_an_error_of_the_checker_stops_the_build():
    from gsvexport.backends.tensorrt.check import Finding

    bad = Finding("vocoder", "n", "Clip", "dtype", "error", "INT64", None, None, "x")
    refuse({"10.3": [Finding("vocoder", "n", "Clip", "dtype", "warn", "INT64", None, None, "x")]})
    with pytest.raises(BackendError, match="would refuse"):
        refuse({"10.3": [bad]})


@pytest.fixture(scope="module")
def artifact(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    profile = folder / "orin.toml"
    profile.write_text('extends = "jetson-orin"\ntitle = "In a hurry"\n[calibration]\ncorpus = "en"\nsentences = 2\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GSVEXPORT_CACHE", str(cache))
        [path] = build(folder / "voice", [str(profile)], folder / "out")
        yield path, container.unpacked(path)


def test_the_report_says_what_was_emulated_and_that_no_engine_exists(artifact):
    report = json.loads((artifact[1] / "report.json").read_text())
    assert report["emulated"] == "FP16 values with FP32 sums and FP16 values with FP16 sums"
    [engine] = [check for check in report["checks"] if check["level"] == 4]
    assert engine["status"] == "not_run"
    assert "gsvexport finalize" in engine["reason"]
    found = {
        mode: min(
            one["value"] for one in report["checks"] if one["metric"] == "snr_db" and one["against"].endswith(mode)
        )
        for mode in ("FP32 sums", "FP16 sums")
    }
    assert found["FP32 sums"] > found["FP16 sums"] > 40


def test_an_artifact_without_engines_does_not_pretend_to_speak(artifact):
    with pipeline.load(artifact[0], any_machine=True) as voice, pytest.raises(BackendError, match="no TensorRT engine"):
        voice.tokens([1, 2, 3])


@pytest.mark.parametrize("mode", emulate.MODES)
def test_t2s_that_writes_its_cache_passes_the_same_checks_in_emulation(artifact, mode):
    found = verify_artifact(artifact[1], opener=emulate.opener(mode, in_place=True), precision=HALVES)
    rows = {(row.stage, row.metric): row.status for row in found.checks if row.against == "golden vectors"}
    wanted = [("prefill", "cache_error"), ("step", "cache_error"), ("step", "kl"), ("step", "top1")]
    assert [rows.get(one) for one in wanted] == ["pass"] * len(wanted)
    assert "fail" not in rows.values()


def test_the_sizes_of_a_voice_are_numbers_in_its_graphs(lowered, source):
    out, _ = lowered
    dims = source.model.dims
    shapes = {
        (path.stem, port.name): [axis if isinstance(axis, int) else axis.value for axis in port.shape]
        for path in out.glob("*.onnx")
        for graph in [ir.load(path).graph]
        for port in (*graph.inputs, *graph.outputs)
    }
    assert shapes["acoustic", "ge"] == shapes["vocoder.trt8", "ge"] == [1, dims.G, 1]
    assert shapes["acoustic", "noise"] == [1, dims.I, "F"]
    assert shapes["t2s", "logits"] == shapes["t2s.kv", "logits"] == [1, dims.V]
    assert not {"G", "I", "V", "L", "D"} & {axis for shape in shapes.values() for axis in shape}


def test_a_profile_that_leaves_a_length_open_stops_the_lowering(source, tmp_path, monkeypatch):
    made = recipe._vocoder
    empty = lambda *arguments: [recipe.Profile(one.name, {}) for one in made(*arguments)]  # noqa: E731
    monkeypatch.setattr(recipe, "_vocoder", empty)
    with pytest.raises(BackendError, match="profiles do not fit") as error:
        lower(source.path, source.model, {"vocoder": "fp16"}, tmp_path, device=DEVICE, calibration=Measured())
    assert "vocoder: profile codes-64 does not name latent" in str(error.value)


def test_the_vocoder_gets_one_short_profile_and_is_run_in_windows(lowered, source):
    out, _ = lowered
    entry = engines(out)["vocoder"]
    assert [one["name"] for one in entry["profiles"]] == ["codes-64"]
    assert entry["context"] == list(source.model.vocoder_context)
    assert engines(out)["acoustic"]["context"] is None
    assert len(engines(out)["acoustic"]["profiles"]) > 1


def test_ports_of_a_cloning_stage_are_int32_on_both_sides(source, tmp_path):
    lower(source.path, source.model, {"prompt": "fp32"}, tmp_path, device=DEVICE)
    ports = engines(tmp_path)["prompt"]["ports"]
    assert set(ports["outputs"].values()) == {"int32"}
    graphs = [ir.load(tmp_path / file).graph for file in ("prompt.onnx", "prompt.trt8.onnx")]
    kinds = {port.dtype for graph in graphs for port in graph.outputs}
    assert kinds == {ir.DataType.INT32}
