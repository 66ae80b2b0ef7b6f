"""What TensorRT for RTX alone has, for the double (`tensorrt_double.py`): headers of plans, their validity, a runtime
configuration with a cache of kernels, and the builder's log of an engine's layers.

As in tensorrt_rtx 1.7.1, seen on a machine without a GPU: a plan begins with 64 bytes, four letters and the release at
24 among them; `get_engine_validity` looks at these alone, calls what is shorter or no plan MALFORMED_ENGINE, and gives
(verdict, bits). What it says where there is a GPU is from NVIDIA's text.
"""

import struct

HEADER = 64
MAGIC = b"vtrt"
CAPABILITIES = (75, 80, 86, 89, 120, 121)
VERDICTS = {"VALID": 0, "SUBOPTIMAL": 1, "INVALID": 2}
BITS = {  # the numbers of 1.7.1
    "VERSION_MISMATCH": 1,
    "UNSUPPORTED_CC": 2,
    "OLD_CUDA_DRIVER": 4,
    "OLD_CUDA_RUNTIME": 8,
    "INSUFFICIENT_GPU_MEMORY": 16,
    "MALFORMED_ENGINE": 32,
    "CUDA_ERROR": 64,
}
STRATEGIES = {"LAZY": 0, "EAGER": 1, "NONE": 2}


def header(version, capabilities):
    """The first bytes of a plan; where 1.7.1 keeps the capabilities is not known, here they follow the release."""
    numbers = ([int(part) for part in version.split(".")] + [0] * 4)[:4]
    listed = [CAPABILITIES.index(one) for one in capabilities] if capabilities else range(1, 5)
    bits = sum(1 << index for index in listed)
    return struct.pack("<4s20xBBBBI", MAGIC, *numbers[:3], numbers[3] % 256, bits).ljust(HEADER, b"\0")


def validity(head, version, capability):
    """(name of the verdict, bits) for the first bytes of a plan on a device."""
    if len(head) < HEADER or head[:4] != MAGIC:
        return "INVALID", BITS["MALFORMED_ENGINE"]
    mine, found = header(version, [CAPABILITIES[0]]), 0
    if head[24:28] != mine[24:28]:
        found |= BITS["VERSION_MISMATCH"]
    known = CAPABILITIES.index(capability) if capability in CAPABILITIES else 31
    if not struct.unpack("<I", head[28:32])[0] & 1 << known:
        found |= BITS["UNSUPPORTED_CC"]
    return ("INVALID" if found else "VALID"), found


def told(network, profiles):
    """What a builder's log says of an engine with detailed profiling verbosity: three kernels for each profile."""
    for index, _ in enumerate(profiles or [None]):
        for kernel in range(3):
            output = "Outputs: [ { Name: y, Dimensions: [1], Datatype: Half } ]"
            name = f"k{kernel}_myl{index}_{kernel}"
            yield f"Name: {name}, LayerType: kgen, Inputs: [], {output}, TacticName: t, StreamId: 0"
        yield f"Max Scratch Memory: {4096 * (index + 1)} bytes"
    yield "Total Weights Memory: 4096 bytes"
    for name in network.inputs:
        place = "Location: Device, IsShapeInferenceIO: false"
        yield f"Name: {name}, IOMode: Input, Datatype: Half, {place}"


class RuntimeConfig:
    def __init__(self, trt, cache):
        self.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.LAZY
        self.allocation = trt.ExecutionContextAllocationStrategy.STATIC
        self.cache, self._make = None, cache

    def set_execution_context_allocation_strategy(self, strategy):
        self.allocation = strategy

    def create_runtime_cache(self):
        return self._make()

    def set_runtime_cache(self, cache):
        self.cache = cache

    def get_runtime_cache(self):
        return self.cache


class RuntimeCache:
    """`said` is the script of the device."""

    def __init__(self, said):
        self.compiled, self.known, self._said = 0, False, said

    def deserialize(self, blob):
        text = self.serialize()
        assert bytes(blob).startswith(b"kernels of "), "what is no cache of this library may end the process"
        self.known = bytes(blob) == text
        return self.known

    def serialize(self):
        said = self._said
        return f"kernels of {said['gpu']} {said['driver']} {said['version']}".encode()
