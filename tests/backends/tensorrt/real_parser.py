"""Asks tensorrt_rtx about graphs, each in a process of its own: a parser that dies has refused, too.

Reads a JSON list of ONNX texts from standard input and writes one of ["built" | "parse" | "build" | "died", text].
"""

import faulthandler
import json
import os
import sys
import tempfile
from pathlib import Path

import onnx

from gsvexport.backends.tensorrt import builder, rtx


def asked(trt, text, folder):
    """What becomes of one graph, all of whose axes that have no size get 1 to 8."""
    model = onnx.parser.parse_model(text)
    path = Path(folder) / "graph.onnx"
    path.write_bytes(model.SerializeToString())
    shapes = {}
    for port in model.graph.input:
        axes = [axis.dim_value if axis.HasField("dim_value") else None for axis in port.type.tensor_type.shape.dim]
        if None in axes:
            shapes[port.name] = [[size if axis is None else axis for axis in axes] for size in (1, 4, 8)]
    request = {"graph": str(path), "strong": True, "half": True, "single": [], "workspace": 0, "level": None}
    request |= {"timing_cache": "", "plan": str(path.with_suffix(".plan")), "profiles": []}
    if shapes:
        request["profiles"] = [{"name": "any", "shapes": shapes}]
    try:
        builder.build(trt, {**request, "parse_only": True}, lambda text: None)
    except builder.Refused as error:
        return ["parse", "; ".join(error.problems)]
    try:
        builder.build(trt, request, lambda text: None)
    except builder.Refused as error:
        return ["build", "; ".join(error.problems)]
    return ["built", ""]


def forked(work):
    """What `work` gives (plain values) in a process of its own; ["died", how] where that ends before."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        faulthandler.disable()  # that it dies is told by its silence
        try:
            os.write(theirs, json.dumps(work()).encode()[:60000])
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else ["died", f"exit status {status}"]


def main():
    trt, found = rtx.adapter(["8.9"]), []
    for text in json.load(sys.stdin):
        with tempfile.TemporaryDirectory() as folder:
            found.append(forked(lambda text=text, folder=folder: asked(trt, text, folder)))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
