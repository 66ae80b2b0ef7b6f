"""A double of Qualcomm's compiler and emulation, called as the real one is; how it misbehaves is its first argument.

What is no fault of its own it refuses as the real one does: chips and graphs that cannot be, contexts for another chip.
Where it computes, ONNX Runtime does, in FP32.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

KNOWN = {"69": ("36", "42"), "73": ("43", "66"), "75": ("57",), "79": ("69",), "81": ("87",)}
ABOUT = "ep_compatibility_info.QNNExecutionProvider"


def compile_graph(how, graph, context, chip):
    import onnx

    model = onnx.load(graph)
    if any(not axis.dim_value for port in model.graph.input for axis in port.type.tensor_type.shape.dim):
        sys.exit("This session contains graph nodes that are assigned to the default CPU EP")
    if chip["soc_model"] not in sum(KNOWN.values(), ()):
        sys.exit("Failed to create device. Error: QNN_DEVICE_ERROR_INVALID_CONFIG: Invalid config values")
    arch = chip["htp_arch"] if chip["htp_arch"] in KNOWN else "0"  # without a word
    arch = "73" if how == "other" else arch
    inside = onnx.helper.make_node(
        "EPContext", [one.name for one in model.graph.input], [one.name for one in model.graph.output],
        domain="com.microsoft", ep_cache_context=graph.read_bytes(), embed_mode=1, main_context=1,
    )  # fmt: skip
    made = onnx.helper.make_graph([inside], "context", model.graph.input, model.graph.output)
    found = onnx.helper.make_model(made, ir_version=8)
    found.metadata_props.add(key=ABOUT, value=f"v2:6:2.51.0:5.51.0:{arch}:{chip['soc_model']}:0:0")
    context.write_bytes(found.SerializeToString())


def run(how, context, feeds, result, chip):
    import numpy as np
    import onnx
    import onnxruntime

    model = onnx.load(context)
    if model.graph.node[0].op_type == "EPContext":
        words = model.metadata_props[0].value.split(":")
        if int(words[4]) > int(chip["htp_arch"]):
            sys.exit("Failed to load from EpContext model. contextCreateFromBinary failed.")
        inside = next(one.s for one in model.graph.node[0].attribute if one.name == "ep_cache_context")
    else:
        inside = context.read_bytes()
    session = onnxruntime.InferenceSession(inside, providers=["CPUExecutionProvider"])
    given = np.load(feeds)
    count = 1 + max(int(name.rpartition("@")[2]) for name in given.files)
    found = [
        session.run(None, {port.name: given[f"{port.name}@{at}"] for port in session.get_inputs()})[0]
        for at in range(count)
    ]
    found = [one + (0.1 * one.std() if how == "wrong" else 0) for one in found]
    found = [np.full_like(one, np.nan) if how == "nan" else one for one in found]
    np.savez(result, **{str(at): one for at, one in enumerate(found)})


def main(how, log, what, *rest):
    with open(log, "a", encoding="utf-8") as stream:
        stream.write(json.dumps([what, *map(str, rest)]) + "\n")
    if how == "hang":
        time.sleep(600)
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "fail":
        sys.exit("\x1b[31mQNN SetupBackend failed\x1b[m")
    if how == "silent":
        return
    paths = [Path(one) for one in rest if "=" not in one]
    chip = dict(one.split("=") for one in rest if "=" in one)
    if how == "empty":
        paths[1].write_bytes(b"")
    elif what == "compile":
        compile_graph(how, *paths, chip)
    elif how == "mute":
        return
    else:
        run(how, *paths, chip)


if __name__ == "__main__":
    main(*sys.argv[1:])
