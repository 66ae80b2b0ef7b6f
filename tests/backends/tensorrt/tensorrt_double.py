"""A scripted double of TensorRT's Python API and of the CUDA runtime. It is NOT TensorRT and proves nothing about it.

No engine is built and no GPU is used: a "plan" names its ONNX graph, and a run computes that graph with ONNX Runtime,
FP16 values rounded (`passes/emulate_half.py`). What it is for: the finaliser's and the session's own logic, against an
API that refuses what the real one does (`test_real_library.py` asks both the same) and whose other answers a test
writes down beforehand in a JSON script:

    module      tensorrt, or tensorrt_rtx, which counts its releases from 1
    version, gpu, capability [major, minor], total_mb, free_mb, cuda, driver    what the device is
    builds      one word for each build, in order, then "ok": ok, none, no_tactic, tight, full, usage, killed, waits
    unopened    engines that cannot be opened here, as without a driver or memory
    parse       messages of a parser that refuses every graph
    nameless    whether layers of a network have other names than the graph's nodes
    fp32        engines whose layers all come out FP32       host      inputs that lie on the host
    wrong       engines whose outputs are off by 1           silent    an inspector that tells nothing
    copies      outputs that share memory with no input, although the graph writes them in place
    capture     "fails" or "differs": what recording a stream does

"Device" memory is filled with NaN when it is allocated, addresses are checked against allocations and alignment, and a
recorded run keeps the addresses that it was recorded with, as on a GPU.
"""

from __future__ import annotations

import ctypes
import enum
import json
import mmap
import os
import signal
import sys
import time
import types
from pathlib import Path

import double_rtx
import numpy as np

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = "TENSORRT_DOUBLE"  # the path of the script
DEFAULTS = {
    "module": "tensorrt",
    "version": "10.3.0",
    "gpu": "Orin",
    "capability": [8, 7],
    "total_mb": 7620,
    "free_mb": 5000,
    "cuda": 12060,
    "driver": 12060,
    "builds": [],
    "unopened": [],
    "parse": [],
    "nameless": False,
    "fp32": [],
    "host": [],
    "wrong": [],
    "silent": False,
    "copies": [],
    "capture": "works",
}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT32": np.int32, "INT64": np.int64, "BOOL": np.bool_}
_ONNX = {1: "FLOAT", 10: "HALF", 6: "INT32", 7: "INT64", 9: "BOOL"}
_SCRATCH = 4096  # bytes that a profile needs, times its number from 1
_NO_GPU = "[checkMacros.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (… cudaError 35: CUDA driver version …)"
_FAILURES = {
    "none": "no reason at all",
    "no_tactic": "Could not find any implementation for node {ForeignNode[x]}.",
    "tight": "IBuilder::buildSerializedNetwork: Error Code 2: OutOfMemory (Requested size was 1102592868 bytes.)",
    "full": "Requested amount of GPU memory (8589934592 bytes) could not be allocated.",
    "usage": "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Dynamic input tensor ge is missing …)",
}


class Word(enum.Enum):
    """As pybind11's enumerations: str() is "Type.NAME", int() the number."""

    def __int__(self):
        return self.value

    def __str__(self):
        return f"{type(self).__name__}.{self.name}"


def script():
    said = json.loads(Path(os.environ[VARIABLE]).read_text())
    assert not set(said) - set(DEFAULTS), "a word that the double does not know"
    return {**DEFAULTS, **said}


def log(path=None):
    """What was asked of the double so far: one dict for each build."""
    file = Path(path or os.environ[VARIABLE]).with_suffix(".log")
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _note(**value):
    with Path(os.environ[VARIABLE]).with_suffix(".log").open("a") as stream:
        stream.write(json.dumps(value) + "\n")


# --- the module `tensorrt` ---


def module():
    """The module for the script's version: what a release has not, this has not."""
    said = script()
    major = 11 if said["module"] == "tensorrt_rtx" else int(said["version"].split(".")[0])
    made = types.ModuleType(said["module"])
    made.__version__ = said["version"]
    flags = {"STRONGLY_TYPED": 0} if major >= 11 else {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
    made.NetworkDefinitionCreationFlag = Word(
        "NetworkDefinitionCreationFlag", flags if major >= 10 else {"EXPLICIT_BATCH": 0}
    )
    weak = {} if major >= 11 else {"FP16": 0, "OBEY_PRECISION_CONSTRAINTS": 1}
    made.BuilderFlag = Word("BuilderFlag", {"TF32": 7, **weak})
    made.MemoryPoolType = Word("MemoryPoolType", {"WORKSPACE": 0})
    made.ProfilingVerbosity = Word("ProfilingVerbosity", {"LAYER_NAMES_ONLY": 0, "DETAILED": 2})
    made.TensorIOMode = Word("TensorIOMode", {"INPUT": 1, "OUTPUT": 2})
    made.TensorLocation = Word("TensorLocation", {"DEVICE": 0, "HOST": 1})
    made.LayerInformationFormat = Word("LayerInformationFormat", {"ONELINE": 0, "JSON": 1})
    made.DataType = Word("DataType", {"FLOAT": 0, "HALF": 1, "INT32": 3, "BOOL": 4, "INT64": 8})
    if major >= 10:
        strategies = {"STATIC": 0, "ON_PROFILE_CHANGE": 1, "USER_MANAGED": 2}
        made.ExecutionContextAllocationStrategy = Word("ExecutionContextAllocationStrategy", strategies)
    made.float32, made.float16, made.int32 = made.DataType.FLOAT, made.DataType.HALF, made.DataType.INT32
    if said["module"] == "tensorrt_rtx":
        made.ComputeCapability = Word("ComputeCapability", {f"SM{n}": n for n in double_rtx.CAPABILITIES})
        strategies = Word("DynamicShapesKernelSpecializationStrategy", double_rtx.STRATEGIES)
        made.DynamicShapesKernelSpecializationStrategy = strategies
        made.EngineValidity = Word("EngineValidity", double_rtx.VERDICTS)
        made.EngineInvalidityDiagnostics = Word("EngineInvalidityDiagnostics", double_rtx.BITS)
    made.ILogger, made.Builder, made.OnnxParser, made.Runtime = ILogger, Builder, OnnxParser, Runtime
    if major >= 10:
        made.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
    for kind in (Builder, OnnxParser, Runtime):
        kind.trt = made
    return made


def released(trt):
    """The release of TensorRT whose API this has."""
    return (11, 0) if trt.__name__ == "tensorrt_rtx" else tuple(map(int, trt.__version__.split(".")[:2]))


class Severity(Word):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = Severity

    def __init__(self):
        pass


class Builder:
    trt = None

    def __init__(self, logger):
        self.logger = logger

    def create_network(self, flags=0):
        known = sum(1 << int(flag) for flag in self.trt.NetworkDefinitionCreationFlag)
        if flags & ~known:
            said = "Error Code 3: API Usage Error (Parameter check failed, condition: flagSet.toU32() < (1U << …))"
            self.logger.log(Severity.ERROR, f"IBuilder::createNetworkV2: {said}")
            return None
        return Network(flags)

    def create_builder_config(self):
        return Config(self.trt, self.logger)

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        said = script()
        if problem := _refused(network, config.profiles):
            self.logger.log(Severity.ERROR, f"IBuilder::buildSerializedNetwork: Error Code 4: {problem}")
            self.logger.log(Severity.ERROR, _NO_GPU)
            return None
        number = len(log())
        word = said["builds"][number] if number < len(said["builds"]) else "ok"
        constrained = sorted(layer.name for layer in network.layers if layer.precision is not None)
        _note(
            graph=Path(network.path).name,
            flags=network.flags,
            set=[str(flag) for flag in config.flags],
            cleared=[str(flag) for flag in config.cleared],
            workspace=config.workspace,
            level=getattr(config, "builder_optimization_level", None),
            profiles=len(config.profiles),
            capabilities=config.capabilities,
            constrained=constrained,
            timing=config.timing,
            outcome=word,
        )
        if getattr(config, "progress_monitor", None):
            config.progress_monitor.phase_start("Building", None, 3)
            for part in ("Tactics", "Tactics", "Kernels"):  # each begins anew, within the other
                config.progress_monitor.phase_start(part, "Building", 2)
                config.progress_monitor.step_complete(part, 1)
                config.progress_monitor.phase_finish(part)
            config.progress_monitor.step_complete("Building", 1)
            config.progress_monitor.phase_finish("Building")
        if word == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "waits":
            time.sleep(120)
        if word in _FAILURES:
            self.logger.log(Severity.ERROR, _FAILURES[word])
            return None
        config.measured = True
        name = Path(network.path).name.split(".")[0]
        plan = {"version": self.trt.__version__, "graph": network.path, "profiles": config.profiles, "name": name}
        data = json.dumps({**plan, "gpu": said["gpu"], "at": time.time_ns()}).encode()
        if self.trt.__name__ != "tensorrt_rtx":
            return data
        if config.profiling_verbosity == self.trt.ProfilingVerbosity.DETAILED:
            for line in double_rtx.told(network, config.profiles):
                self.logger.log(Severity.VERBOSE, line)
        return double_rtx.header(self.trt.__version__, config.capabilities) + data


def _refused(network, profiles):
    """What a builder says of profiles that do not fit the inputs; the real one's words (tensorrt_rtx 1.7.1)."""
    dynamic = {name for name, (axes, _) in network.inputs.items() if -1 in axes}
    if dynamic and not profiles:
        return "API Usage Error (Network has dynamic or shape inputs, but no optimization profile has been defined."
    for number, profile in enumerate(profiles):
        names = {}
        for name, (axes, letters) in network.inputs.items():
            if name not in profile:
                if name in dynamic:
                    return f"API Usage Error (Dynamic input tensor {name} is missing dimensions in profile {number}."
                continue
            if len(profile[name][0]) != len(axes):
                counts = f"{len(axes)} dimensions but profile {number} has {len(profile[name][0])} dimensions"
                return f"API Usage Error (Dynamic-shaped input tensor {name} has {counts}."
            for axis, (size, letter) in enumerate(zip(axes, letters, strict=True)):
                three = [shape[axis] for shape in profile[name]]
                if size >= 0 and set(three) != {size}:
                    return f"API Usage Error (Dimension mismatch for tensor {name} and profile {number}. At axis {axis}"
                if letter and names.setdefault(letter, three) != three:
                    text = "Internal Error (Profile kOPT values are not self-consistent. Dimensions with name"
                    return f"{text} {letter} must be equal."
    return ""


class Network:
    def __init__(self, flags):
        self.flags, self.path, self.layers, self.inputs = flags, "", [], {}

    @property
    def num_inputs(self):
        return len(self.inputs)

    def get_input(self, index):
        name = list(self.inputs)[index]
        return types.SimpleNamespace(name=name, shape=tuple(self.inputs[name][0]))

    @property
    def num_layers(self):
        return len(self.layers)

    def get_layer(self, index):
        return self.layers[index]


class Layer:
    def __init__(self, name, kinds):
        self.name = "(Unnamed Layer* 0)" if script()["nameless"] else name
        self.precision, self.outputs = None, {}
        self._kinds = kinds

    @property
    def num_outputs(self):
        return len(self._kinds)

    def get_output(self, index):
        return types.SimpleNamespace(dtype=self._kinds[index])

    def set_output_type(self, index, kind):
        self.outputs[index] = kind


class Profile(dict):
    def set_shape(self, name, low, usual, high):
        if min(*low, *usual, *high, 0) < 0:
            raise RuntimeError("Shape provided for min is inconsistent with other shapes.")
        self[name] = [low, usual, high]  # in any order: `add_optimization_profile` looks, the builder again

    def disorder(self):
        return [
            name
            for name, (low, usual, high) in self.items()
            if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=False))
        ]


class Config:
    def __init__(self, trt, logger):
        self.logger, self.cache, self.measured, self.capabilities = logger, None, False, []
        self.flags, self.cleared, self.profiles, self.workspace, self.timing = [], [], [], 0, "none"
        if trt.__version__ >= "8.6" or trt.__version__.startswith("1"):
            self.builder_optimization_level = 3
        if hasattr(trt, "IProgressMonitor"):
            self.progress_monitor = None

    @property
    def num_compute_capabilities(self):
        return len(self.capabilities)

    @num_compute_capabilities.setter
    def num_compute_capabilities(self, count):
        self.capabilities = [0] * count

    def set_compute_capability(self, capability, index):
        if index >= len(self.capabilities):
            return False
        self.capabilities[index] = int(capability)
        return True

    def set_memory_pool_limit(self, pool, size):
        self.workspace = size

    def clear_flag(self, flag):
        self.cleared.append(flag)

    def set_flag(self, flag):
        self.flags.append(flag)

    def add_optimization_profile(self, profile):
        if wrong := profile.disorder():
            text = f"Error Code 4: API Usage Error (Invalid optimization profiles for input tensors {', '.join(wrong)}"
            self.logger.log(Severity.ERROR, f"IOptimizationProfile::isValid: {text}, … MIN<=OPT<=MAX.")
            return -1
        self.profiles.append(dict(profile))
        return len(self.profiles) - 1

    def create_timing_cache(self, data):
        assert script()["module"] == "tensorrt", "TensorRT for RTX has no use for one, and asks for a GPU to read it"
        """An object whatever the bytes are: of those that it does not know only the log tells."""
        known = bytes(data).endswith(script()["version"].encode())
        if data and not known:
            text = "Failed to deserialize timing cache. Returning an empty timing cache"
            self.logger.log(Severity.WARNING, text)
        return types.SimpleNamespace(full=known, serialize=lambda: b"times of " + script()["version"].encode())

    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache, self.timing = cache, "full" if cache.full else "empty"
        return True

    def get_timing_cache(self):
        return self.cache


class OnnxParser:
    trt = None

    def __init__(self, network, logger):
        self._network = network
        self._errors = [types.SimpleNamespace(text=text, name="") for text in script()["parse"]]

    def parse_from_file(self, path):
        import onnx

        assert Path(path).is_absolute(), "the parser resolves external data from the graph's own folder"
        model = onnx.load(path, load_external_data=False)
        release = released(self.trt)
        if model.opset_import[0].version > 20 and release < (10, 15):
            self._refuse("", "No importer registered for op: TensorScatter")
        for node, text in _parse_errors(model, Path(path).parent):
            self._refuse(node, text)
        if self._errors:
            return False
        kinds = {info.name: info.type.tensor_type.elem_type for info in (*model.graph.value_info, *model.graph.output)}
        kinds = {name: self.trt.DataType[_ONNX[kind]] for name, kind in kinds.items() if kind in _ONNX}
        network = self._network
        for node in model.graph.node:  # one layer under its own name, and helpers of the parser
            network.layers.append(Layer(node.name, [kinds.get(name) for name in node.output]))
            network.layers += [Layer(f"ONNXTRT_Broadcast_{len(network.layers)}", [None])]
        network.layers += [Layer(one.name, [None]) for one in model.graph.initializer]
        network.path = path
        for port in model.graph.input:
            axes = port.type.tensor_type.shape.dim
            sizes = [axis.dim_value if axis.HasField("dim_value") else -1 for axis in axes]
            network.inputs[port.name] = (sizes, [axis.dim_param for axis in axes])
        return True

    def _refuse(self, node, text):
        self._errors.append(types.SimpleNamespace(text=text, name=node))

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        """As real ones are: several lines, the first names the node again and the last a GPU that is not there."""
        one = self._errors[index]
        text = f"Invalid Node - {one.name}\n{one.text}\n{_NO_GPU}" if one.name else one.text
        error = types.SimpleNamespace(desc=lambda: text, node=lambda: index)
        if self.trt.__version__.split(".")[0] != "8":
            error.node_name = lambda: one.name
        return error


def _parse_errors(model, folder):
    """(node, text) of what a parser of strongly typed networks refuses; our graphs for older ones are typed, too."""
    import onnx

    graph = model.graph
    known = {port.name for port in graph.input} | {""}
    opset = model.opset_import[0].version
    for one in graph.initializer:
        known.add(one.name)
        place = {entry.key: entry.value for entry in one.external_data}
        if place:
            file, end = folder / place["location"], int(place.get("offset", 0)) + int(place.get("length", 0))
            if not file.is_file() or end > file.stat().st_size:
                yield "", f"Failed to import initializer: {one.name}"
                return
    for node in graph.node:
        if missing := [name for name in node.input if name not in known]:
            text = "Assertion failed: (ctx->tensors().count(inputName)): Node input was not registered."
            yield node.name, f"{text} {missing[0]}"
            return
        known.update(node.output)
        if not onnx.defs.has(node.op_type, opset, node.domain):
            yield node.name, 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
            return
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:
        yield "", f"must have same input types: {error}"


class Runtime:
    trt = None

    def __init__(self, logger):
        self._logger = logger

        if self.trt.__name__ == "tensorrt_rtx":
            self.engine_header_size, self.get_engine_validity = double_rtx.HEADER, self._validity

    def _validity(self, buffer):
        said = script()
        major, minor = said["capability"]
        verdict, bits = double_rtx.validity(bytes(buffer), said["version"], 10 * major + minor)
        return self.trt.EngineValidity[verdict], bits

    def deserialize_cuda_engine(self, data):
        assert isinstance(data, mmap.mmap), "a plan that is read is held twice where the GPU shares the memory"
        body = bytes(data)
        if self.trt.__name__ == "tensorrt_rtx":
            verdict, _ = self._validity(body)
            body = body[double_rtx.HEADER :] if verdict.name == "VALID" else b""
        try:
            plan = json.loads(body)
        except ValueError:
            self._logger.log(Severity.ERROR, "Serialization (Serialization assertion stdVersionRead == failed.")
            return None
        if plan["name"] in script()["unopened"]:
            self._logger.log(Severity.ERROR, f"IRuntime::deserializeCudaEngine: {_NO_GPU}")
            return None
        if plan["version"] != self.trt.__version__:
            self._logger.log(Severity.ERROR, "Version tag does not match.")
            return None
        return Engine(plan, self.trt)


# --- running ---

_LOADED = {}


def _computed(path):
    """The graph with every FP16 value rounded, in ONNX Runtime."""
    if path not in _LOADED:
        packages = ["gsvexport", "gsvexport.backends", "gsvexport.backends.tensorrt"]
        for name in packages:  # an artifact's own gsvexport has no passes
            sys.modules[name].__path__.append(str(ROOT.joinpath(*name.split("."))))
        from gsvexport.backends.tensorrt.emulate import _load

        _LOADED[path] = _load(Path(path), "single", 1)
        for name in packages:
            sys.modules[name].__path__.pop()
    return _LOADED[path]


class Engine:
    def __init__(self, plan, trt):
        import onnx

        self.plan, self.trt, self.said = plan, trt, script()
        graph = onnx.load(plan["graph"], load_external_data=False).graph
        self.ports, self.axes = {}, {}
        for side, ports in (("INPUT", graph.input), ("OUTPUT", graph.output)):
            for port in ports:
                kind = trt.DataType[_ONNX[port.type.tensor_type.elem_type]]
                if kind.name == "INT64" and self._release() < (9, 0):
                    kind = trt.DataType.INT32  # until native INT64 came
                axes = port.type.tensor_type.shape.dim
                self.axes[port.name] = [(axis.dim_value, axis.dim_param) for axis in axes]
                self.ports[port.name] = (trt.TensorIOMode[side], kind)
        self.nodes = [node.op_type for node in graph.node]
        updates = [node for node in graph.node if node.op_type == "TensorScatter"]
        self.aliases = {n.output[0]: n.input[0] for n in updates if n.output[0] not in self.said["copies"]}
        if self._release() >= (10, 15):
            self.get_aliased_input_tensor = self.aliases.get
        if self._release() >= (10, 1):
            self.get_device_memory_size_for_profile_v2 = self._scratch
        self.device_memory_size = max(map(self._scratch, range(len(plan["profiles"]))))

    def _scratch(self, index):
        return _SCRATCH * (index + 1)

    def _release(self):
        return released(self.trt)

    @property
    def num_io_tensors(self):
        return len(self.ports)

    def get_tensor_name(self, index):
        return list(self.ports)[index]

    def get_tensor_mode(self, name):
        return self.ports[name][0]

    def get_tensor_dtype(self, name):
        return self.ports[name][1]

    def get_tensor_location(self, name):
        return self.trt.TensorLocation.HOST if name in self.said["host"] else self.trt.TensorLocation.DEVICE

    def create_runtime_config(self):
        assert self.trt.__name__ == "tensorrt_rtx"
        return double_rtx.RuntimeConfig(self.trt, lambda: double_rtx.RuntimeCache(script()))

    def create_execution_context(self, strategy=None):
        if isinstance(strategy, double_rtx.RuntimeConfig):
            assert strategy.dynamic_shapes_kernel_specialization_strategy.name == "EAGER", "a record would stay slow"
            strategy.cache.compiled += 1
            strategy = strategy.allocation
        return Context(self, managed=strategy is not None and strategy.name == "USER_MANAGED")

    def create_execution_context_without_device_memory(self):
        return Context(self, managed=True)

    def create_engine_inspector(self):
        return Inspector(self)


class Inspector:
    def __init__(self, engine):
        self._engine, self.execution_context = engine, None

    def get_engine_information(self, form):
        said, engine = self._engine.said, self._engine
        assert form == engine.trt.LayerInformationFormat.JSON
        if said["silent"] or self.execution_context is None:
            return json.dumps({"Layers": ["only a name"]})
        word = "Row major linear FP32" if engine.plan["name"] in said["fp32"] else "Row major linear FP16 format"
        shape = {"Name": "s", "Format/Datatype": "Row major linear INT32"}
        layers = [{"Name": "l", "Outputs": [{"Name": "x", "Format/Datatype": word}]}, {"Name": "s", "Outputs": [shape]}]
        return json.dumps({"Layers": layers, "Bindings": list(engine.ports)})


class Context:
    def __init__(self, engine, managed):
        self._engine, self._shapes, self._addresses, self._profile = engine, {}, {}, None
        self._managed, self._index = managed, None
        if engine._release() >= (10, 1):
            self.set_device_memory = self._set_device_memory

    def _set_device_memory(self, address, size):
        assert self._managed, "this context has memory of its own"
        assert address, "scratch memory at address 0"
        self._memory = (address, size)

    @property
    def device_memory(self):
        return self._memory[0]

    @device_memory.setter
    def device_memory(self, address):
        self._set_device_memory(address, self._engine.device_memory_size)

    def set_optimization_profile_async(self, index, stream):
        self._index, self._profile = index, self._engine.plan["profiles"][index]
        return True

    def set_input_shape(self, name, shape):
        known = [[size or 0] * 3 for size, _ in self._engine.axes[name]]
        low, _, high = (self._profile or {}).get(name, list(zip(*known, strict=True)) or ((), (), ()))
        if len(low) != len(shape) or not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self):
        named = {}
        for name, shape in self._shapes.items():
            for size, (_, letter) in zip(shape, self._engine.axes[name], strict=True):
                if letter and named.setdefault(letter, size) != size:
                    raise RuntimeError(f"Dimensions with name {letter} must be equal: {named[letter]} and {size}")
        wanted = [name for name, (mode, _) in self._engine.ports.items() if mode.name == "INPUT"]
        return [name for name in wanted if name not in self._shapes]

    def get_tensor_shape(self, name):
        given = {port: np.zeros(shape, self._kind(port)) for port, shape in self._shapes.items()}
        return self._run(given)[name].shape

    def set_tensor_address(self, name, address):
        if address % 256:
            return False
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        shapes, addresses = dict(self._shapes), dict(self._addresses)  # as recorded, whatever is set later

        if self._managed:
            start, size = self._memory
            need = self._engine._scratch(self._index)
            if self._engine._release() >= (10, 1):
                assert size >= need, f"{size} bytes of scratch memory, {need} are needed"

            def scribble():
                RUNTIME.check(start, need)
                ctypes.memset(start, 0xA5, need)  # nobody else's results are safe there

            RUNTIME.put(stream, scribble)
        for output, name in self._engine.aliases.items():
            assert addresses[output] == addresses[name], f"{output} is not where {name} is"

        def work():
            given = {name: RUNTIME.read(addresses[name], shape, self._kind(name)) for name, shape in shapes.items()}
            for name, value in self._run(given).items():
                RUNTIME.write(addresses[name], value)

        RUNTIME.put(stream, work, is_engine=True)
        return True

    def _kind(self, name):
        return _NUMPY[self._engine.ports[name][1].name]

    def _run(self, given):
        outputs = [name for name, (mode, _) in self._engine.ports.items() if mode.name == "OUTPUT"]
        found = _computed(self._engine.plan["graph"]).run(outputs, given)
        off = 1 if self._engine.plan["name"] in self._engine.said["wrong"] else 0
        return {name: (value + off).astype(self._kind(name)) for name, value in zip(outputs, found, strict=True)}


# --- libcudart ---

_UNSUPPORTED = 900  # cudaErrorStreamCaptureUnsupported
_MEMORY = 2


class Cudart:
    """The functions of libcudart that gsvexport calls, on the memory of this process."""

    def __init__(self):
        self.blocks, self.graphs, self.next = {}, {}, 1
        self.cudaGetErrorString = Text(lambda code: f"double's error {code.value}".encode())
        self.forget()

    def forget(self):
        """Begin to count anew; memory stays, as somebody may still refer to it."""
        self.recording, self.launched, self.plain, self.rows_copied = None, 0, 0, 0

    def put(self, stream, work, *, is_engine=False):
        if self.recording is not None:
            self.recording.append(work)
        else:
            self.plain += is_engine
            work()

    def check(self, address, size):
        for start, (block, length) in self.blocks.items():
            if start <= address and address + size <= start + length:
                return block
        raise AssertionError(f"illegal memory access: {size} bytes at {address}")

    def read(self, address, shape, kind):
        count = int(np.prod(shape))
        self.check(address, count * np.dtype(kind).itemsize)
        raw = ctypes.string_at(address, count * np.dtype(kind).itemsize)
        return np.frombuffer(raw, kind).reshape(shape)

    def write(self, address, value):
        value = np.ascontiguousarray(value)
        self.check(address, value.nbytes)
        ctypes.memmove(address, value.ctypes.data, value.nbytes)

    def _new(self, size):
        block = ctypes.create_string_buffer(b"\xff" * (size + 256), size + 256)  # NaN in every float
        start = -(-ctypes.addressof(block) // 256) * 256
        self.blocks[start] = (block, size)
        return start

    def cudaGetDeviceCount(self, count):  # noqa: N802
        count._obj.value = 1
        return 0

    def cudaGetDeviceProperties(self, properties, device):  # noqa: N802
        properties.value = script()["gpu"].encode()
        return 0

    def cudaDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        major, minor = script()["capability"]
        value._obj.value = {75: major, 76: minor, 18: 1}[attribute.value]
        return 0

    def cudaMemGetInfo(self, free, total):  # noqa: N802
        used = sum(size for _, size in self.blocks.values())
        free._obj.value, total._obj.value = script()["free_mb"] * 2**20 - used, script()["total_mb"] * 2**20
        return 0

    def cudaRuntimeGetVersion(self, value):  # noqa: N802
        value._obj.value = script()["cuda"]
        return 0

    def cudaDriverGetVersion(self, value):  # noqa: N802
        value._obj.value = script()["driver"]
        return 0

    def cudaGetLastError(self):  # noqa: N802
        return 0

    def cudaMalloc(self, address, size):  # noqa: N802
        if size.value > script()["free_mb"] * 2**20:
            return _MEMORY
        address._obj.value = self._new(size.value)
        return 0

    def cudaHostAlloc(self, address, size, flags):  # noqa: N802
        address._obj.value = self._new(size.value)
        return 0

    def cudaFree(self, address):  # noqa: N802
        self.blocks.pop(address.value, None)
        return 0

    cudaFreeHost = cudaFree  # noqa: N815

    def cudaMemsetAsync(self, address, value, size, stream):  # noqa: N802
        self.check(address.value, size.value)
        self.put(stream, lambda: ctypes.memset(address.value, value.value, size.value))
        return 0

    def cudaMemcpyAsync(self, to, of, size, kind, stream):  # noqa: N802
        if kind.value in (1, 3):
            self.check(to.value, size.value)
        if kind.value in (2, 3):
            self.check(of.value, size.value)
        self.put(stream, lambda: ctypes.memmove(to.value, of.value, size.value))
        return 0

    def cudaMemcpy2DAsync(self, to, to_pitch, of, of_pitch, width, height, kind, stream):  # noqa: N802
        assert width.value <= min(to_pitch.value, of_pitch.value)
        self.rows_copied += 1
        for address, pitch in ((to, to_pitch), (of, of_pitch)):
            self.check(address.value, pitch.value * (height.value - 1) + width.value)

        def work():
            for row in range(height.value):
                ctypes.memmove(to.value + row * to_pitch.value, of.value + row * of_pitch.value, width.value)

        self.put(stream, work)
        return 0

    def cudaStreamCreate(self, stream):  # noqa: N802
        stream._obj.value = self._number()
        return 0

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        return _UNSUPPORTED if self.recording is not None else 0

    def cudaStreamBeginCapture(self, stream, mode):  # noqa: N802
        self.recording = []
        return 0

    def cudaStreamEndCapture(self, stream, graph):  # noqa: N802
        found, self.recording = self.recording, None
        if script()["capture"] == "fails":
            return _UNSUPPORTED
        graph._obj.value = self._number()
        self.graphs[graph._obj.value] = found
        return 0

    def cudaGraphInstantiateWithFlags(self, made, graph, flags):  # noqa: N802
        made._obj.value = self._number()
        self.graphs[made._obj.value] = self.graphs[graph.value]
        return 0

    def cudaGraphDestroy(self, graph):  # noqa: N802
        self.graphs.pop(graph.value)
        return 0

    cudaGraphExecDestroy = cudaGraphDestroy  # noqa: N815

    def cudaGraphLaunch(self, graph, stream):  # noqa: N802
        self.launched += 1
        works = self.graphs[graph.value]
        for work in works[:-1] if script()["capture"] == "differs" and self.launched > 1 else works:
            work()
        return 0

    def cudaEventCreate(self, event):  # noqa: N802
        event._obj.value = self._number()
        return 0

    def cudaEventRecord(self, event, stream):  # noqa: N802
        self.graphs[event.value] = time.perf_counter()
        return 0

    def cudaEventSynchronize(self, event):  # noqa: N802
        return 0

    def cudaEventElapsedTime(self, elapsed, first, last):  # noqa: N802
        elapsed._obj.value = 1000 * (self.graphs[last.value] - self.graphs[first.value])
        return 0

    def cudaEventDestroy(self, event):  # noqa: N802
        self.graphs.pop(event.value, None)
        return 0

    def _number(self):
        self.next += 1
        return self.next


class Text:
    """A function whose result type can be set."""

    def __init__(self, call):
        self._call, self.restype = call, None

    def __call__(self, *arguments):
        return self._call(*arguments)


RUNTIME = Cudart()
_CDLL = ctypes.CDLL


def _open(name, *arguments, **options):
    return RUNTIME if name and "libcudart" in str(name) else _CDLL(name, *arguments, **options)


def install():
    """Take the places of TensorRT and libcudart in this process."""
    RUNTIME.forget()
    made = module()
    sys.modules.update({"tensorrt": None, "tensorrt_rtx": None, made.__name__: made})
    ctypes.CDLL = _open


def remove():
    """Give both places back."""
    for name in ("tensorrt", "tensorrt_rtx"):
        sys.modules.pop(name, None)
    ctypes.CDLL = _CDLL
