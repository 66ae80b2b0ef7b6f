"""A double of edgetpu_compiler: it takes the same arguments and writes files of the same form, and compiles nothing.

What it does is said by EDGETPU_DOUBLE: "ok", "refuse KIND", "crash", "sleep", "garbage", "disagree", "nothing",
"foreign". It has never been held against the real one.
"""

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from gsvexport.backends.tflite.flatbuffer import dump, parse
from gsvexport.backends.tflite.graph import Operator

VERSION = "16.0.384591198"
UNSUPPORTED, SECOND = "Operation not supported", "More than one subgraph is not supported"


def compiled(graph, mapped):
    """The graph with its first `mapped` operators behind one operator of the compiler's."""
    first, rest = graph.operators[:mapped], graph.operators[mapped:]
    made = {index for one in first for index in one.outputs}
    used = {*graph.outputs, *(index for one in rest for index in one.inputs)}
    custom = Operator("CUSTOM", 1, graph.inputs, tuple(sorted(made & used)), {"custom_code": "edgetpu-custom-op"})
    return replace(graph, operators=(custom, *rest))


def log(graph, mapped, less=0):
    lines = [f"Edge TPU Compiler version {VERSION}", "", f"{'Operator':<31}{'Count':<11}Status", ""]
    first = Counter(one.kind for one in graph.operators[:mapped])
    rows = [(kind, count - less * (kind == "CONV_2D"), "Mapped to Edge TPU") for kind, count in first.items()]
    rows += [("CONV_2D", less, "Operation is otherwise supported, but not mapped due to some unspecified limitation")]
    for number, one in enumerate(graph.operators[mapped:]):
        rows.append((one.kind, 1, SECOND if number else UNSUPPORTED))
    return "\n".join([*lines, *(f"{kind:<31}{count:<11}{status}" for kind, count, status in rows if count)]) + "\n"


def main():
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"Edge TPU Compiler version {VERSION}\n")
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true", required=True)
    parser.add_argument("-m", type=int, choices=range(10, 15))
    parser.add_argument("-t", type=int)
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("model", type=Path)
    options = parser.parse_args()
    mode, _, kind = os.environ["EDGETPU_DOUBLE"].partition(" ")
    sys.stdout.write(f"Edge TPU Compiler version {VERSION}\n")
    if mode == "crash":
        sys.exit("Internal compiler error. Aborting!")
    if mode == "sleep":
        time.sleep(60)
    if mode == "nothing":
        return
    graph = parse(options.model.read_bytes(), options.model.name)
    kinds = [one.kind for one in graph.operators]
    mapped = kinds.index(kind) if mode == "refuse" else len(kinds)
    other = graph
    if mode == "foreign":
        tensors = [replace(one, name=f"another {one.name}") for one in graph.tensors]
        other = replace(graph, tensors=tuple(tensors))
    stem = options.model.stem
    (options.o / f"{stem}_edgetpu.tflite").write_bytes(dump(compiled(other, mapped)))
    text = "what?" if mode == "garbage" else log(graph, mapped, less=mode == "disagree")
    (options.o / f"{stem}_edgetpu.log").write_text(text)
    sys.stdout.write("Model compiled successfully in 557 ms.\n")


if __name__ == "__main__":
    main()
