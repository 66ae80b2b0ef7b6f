"""The compiler in a process of its own, which can be killed when it hangs and may crash alone.

    python -m gsvexport.backends.qnn.child compile GRAPH CONTEXT htp_arch=75 soc_model=57
    python -m gsvexport.backends.qnn.child run GRAPH-OR-CONTEXT FEEDS.npz RESULT.npz htp_arch=75 soc_model=57

FEEDS holds NAME@0, NAME@1 … of every input, RESULT then 0, 1 … of the only output.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from gsvexport.backends.qnn.plugin import compile_graph, device, open_graph


def run(graph: Path, feeds: Path, result: Path, options: dict[str, str]) -> None:
    """Run a graph, or a context, once for every set of feeds."""
    session = open_graph(graph, options, {}, device())
    with np.load(feeds) as given:
        count = 1 + max(int(name.rpartition("@")[2]) for name in given.files)
        names = [port.name for port in session.get_inputs()]
        found = [session.run(None, {name: given[f"{name}@{at}"] for name in names})[0] for at in range(count)]
    np.savez(result, **{str(at): one for at, one in enumerate(found)})


def main(arguments: list[str]) -> int:
    """See the module."""
    what, *rest = arguments
    paths = [Path(one) for one in rest if "=" not in one]
    options = dict(one.split("=", 1) for one in rest if "=" in one)
    if what == "compile":
        context = paths[1].absolute()
        os.chdir(paths[0].parent)  # the provider names its node after the graph's path, and the context has that name
        compile_graph(Path(paths[0].name), context, options)
    else:
        run(paths[0], paths[1], paths[2], options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
