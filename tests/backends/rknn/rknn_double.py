"""A double of Rockchip's toolkit, asked as the real one's child is; how it misbehaves is its first argument.

What is no fault of its own it refuses as the real one does: chips that it does not know, graphs with a free axis; and
it hangs where that hangs. Where it computes, ONNX Runtime does, in FP32.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

CHIPS = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588")
ROW = "D RKNN: [12:00:00.000] {at} {kind} FLOAT16 {where} (1,8,1,64),(8,8,1,3) (1,8,1,64) 1/7/7 9 {kind}:n{at}"


class Double:
    def __init__(self, how):
        self.how, self.session = how, None

    def build(self, told):
        import onnx
        import onnxruntime

        model = onnx.load(told["graph"])
        shapes = {port.name: [axis.dim_value for axis in port.type.tensor_type.shape.dim] for port in model.graph.input}
        if told["chip"] not in CHIPS:
            raise RuntimeError("rknn-toolkit2: config returned -1")
        if not all(all(shape) for shape in shapes.values()):
            raise RuntimeError("rknn-toolkit2: load_onnx returned -1")
        if any(shape[2:] == [1] for shape in shapes.values()):
            time.sleep(600)  # a voice's condition as an input: it turns a convolution and a reshape into each other
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        kinds = ["InputOperator" for _ in shapes]
        kinds += [node.op_type for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Mul")]
        kinds.append("OutputOperator")
        rows = [
            ROW.format(at=at, kind=kind, where="CPU" if kind.endswith("putOperator") else "NPU")
            for at, kind in enumerate(kinds)
        ]
        if self.how == "rows":
            del rows[1]
        memory = ["D Total Internal Memory Size: 12.5KB", "D Total Weight Memory Size: 3KB"]
        Path(told["log"]).write_text("\n".join([*rows, *memory]) + "\n")
        chip = "rk3562" if self.how == "other" else told["chip"]
        data = b"RKNN" + Path(told["graph"]).read_bytes() + f'{{"target_platform":["{chip}"]}}'.encode()
        data += (os.urandom(900) if self.how == "drifts" else bytes(900)) + bytes(
            9000
        )  # the real one leaves some unset
        if self.how != "silent":
            Path(told["file"]).write_bytes({"empty": b"", "noise": b"\x7fELF" * 9}.get(self.how, data))
        return {"toolkit": "2.4.0" if self.how == "old" else "2.5.0"}

    def run(self, told):
        import numpy as np

        given = np.load(told["feeds"])
        count = 1 + max(int(name.rpartition("@")[2]) for name in given.files)
        names = [port.name for port in self.session.get_inputs()]
        found = [self.session.run(None, {name: given[f"{name}@{at}"] for name in names})[0] for at in range(count)]
        found = [one + (0.1 * one.std() if self.how == "wrong" else 0) for one in found]
        found = [np.full_like(one, np.nan) if self.how == "nan" else one for one in found]
        if self.how != "mute":
            np.savez(told["result"], **{str(at): one for at, one in enumerate(found)})
        return {}


def main(how, log):
    double = Double(how)
    for line in sys.stdin:
        told = json.loads(line)
        with open(log, "a", encoding="utf-8") as stream:
            stream.write(line)
        if how == "hang":
            time.sleep(600)
        if how == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if how == "end":
            sys.exit("\x1b[31mE build: the graph is not liked\x1b[m")
        try:
            answer = double.build(told) if told["do"] == "build" else double.run(told)
        except RuntimeError as error:
            sys.stderr.write("E load: it says why\n")
            answer = {"error": f"RuntimeError: {error}"}
        sys.stdout.write("no JSON\n" if how == "babble" else json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
