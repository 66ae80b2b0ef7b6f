"""Rockchip's toolkit in its own environment, which has neither this package nor its numpy. Started as a script, alone.

    {"do": "build", "graph": "g.onnx", "chip": "rk3588", "file": "g.rknn", "log": "log"}  →  {"toolkit": "2.5.0"}
    {"do": "run", "feeds": "feeds.npz", "result": "result.npz"}                           →  {}

One line of JSON in, one out. FEEDS holds NAME@0, NAME@1 … of every input, RESULT then 0, 1 … of the only output. What
the toolkit prints while it builds goes into the file `log`; it writes to file descriptors, and about 7 MB. A build that
says `w8a8` quantises, with the windows that the list of files `w8a8` names; no artifact has that.
"""

from __future__ import annotations

import ctypes
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

_SHOWN = 1 << 14  # bytes of the log that an error repeats


class _NoTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for torch where it is not installed: 5 GB with CUDA. The toolkit imports it for models in torch and for
    one way to quantise, and takes two names of it while it loads: a base class and a decorator. Neither is used here.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] != "torch":
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        if spec.name == "torch":
            module.no_grad = lambda: lambda function: function  # type: ignore[attr-defined]
        elif spec.name == "torch.nn":
            module.Module = type("Module", (), {})  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


class Toolkit:
    """One graph, built and then run in the simulator."""

    def __init__(self) -> None:
        self.rknn: Any = None
        self.names: list[str] = []

    def build(self, told: dict[str, str]) -> dict[str, str]:
        """Build `graph` for `chip`, and export `file`."""
        with open(told["log"], "wb") as log:
            kept = os.dup(1), os.dup(2)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            try:
                self._build(told)
            except BaseException:
                os.dup2(kept[1], 2)
                sys.stderr.write(Path(told["log"]).read_bytes()[-_SHOWN:].decode(errors="replace"))
                raise
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                ctypes.CDLL(None).fflush(None)  # what the compiler's C library keeps for a file
                os.dup2(kept[0], 1)
                os.dup2(kept[1], 2)
        return {"toolkit": importlib.metadata.version("rknn-toolkit2")}

    def _build(self, told: dict[str, str]) -> None:
        import onnx
        from rknn.api import RKNN

        self.names = [port.name for port in onnx.load(told["graph"]).graph.input]
        self.rknn = RKNN(verbose=True)
        # For one core: the file is smaller, and no other was asked for.
        how = {"target_platform": told["chip"], "optimization_level": 3, "single_core_mode": told["chip"] == "rk3588"}
        integers = {"quantized_dtype": "w8a8"} if "w8a8" in told else {}
        self._done("config", self.rknn.config(**how, **integers))
        self._done("load_onnx", self.rknn.load_onnx(model=told["graph"]))
        self._done("build", self.rknn.build(do_quantization=bool(integers), dataset=told.get("w8a8")))
        self._done("export_rknn", self.rknn.export_rknn(told["file"]))
        self._done("init_runtime", self.rknn.init_runtime())  # no device is named: the simulator

    def run(self, told: dict[str, str]) -> dict[str, str]:
        """Run the graph once for every set of feeds."""
        with np.load(told["feeds"]) as given:
            count = 1 + max(int(name.rpartition("@")[2]) for name in given.files)
            sets = [[given[f"{name}@{at}"] for name in self.names] for at in range(count)]
        form = ["nchw"] * len(self.names)  # of what has four axes; it wants a word for each input
        found = [self.rknn.inference(inputs=one, data_format=form)[0] for one in sets]
        np.savez(told["result"], **{str(at): one for at, one in enumerate(found)})
        return {}

    @staticmethod
    def _done(what: str, code: int) -> None:
        if code:
            raise RuntimeError(f"rknn-toolkit2: {what} returned {code}")


def main() -> int:
    """See the module."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever prints, does not answer
    if importlib.util.find_spec("torch") is None:
        sys.meta_path.append(_NoTorch())
    toolkit = Toolkit()
    for line in sys.stdin:
        told = json.loads(line)
        try:
            answer = toolkit.build(told) if told["do"] == "build" else toolkit.run(told)
        except (Exception, SystemExit) as error:  # the toolkit ends the program where it does not like a graph
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
