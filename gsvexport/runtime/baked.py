"""The stored results of a voice's reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gsvexport.errors import ArtifactError
from gsvexport.model import Model
from gsvexport.runtime.ports import Array, convert

# The port whose type and size each stored constant has.
_PORTS = {
    "prompt": ("prefill", "prompt"),
    "prompt_phones": ("prefill", "phones"),
    "ge": ("acoustic", "ge"),
    "ge_text": ("acoustic", "ge_text"),
}


def read_baked(folder: Path, model: Model) -> dict[str, Array]:
    """The stored constants, each checked against the port that takes it.

    Raises:
        ArtifactError: files that are absent, damaged or do not fit this voice (all listed).
    """
    table = model.stages
    arrays: dict[str, Array] = {}
    problems = []
    for name, file in model.baked.items():
        stage, port_name = _PORTS.get(name, ("", ""))
        port = next((port for port in table[stage].inputs if port.name == port_name), None) if stage in table else None
        if port is None:
            problems.append(f"{file}: no stage takes a constant called '{name}'")
            continue
        try:
            array = np.load(folder / file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            problems.append(f"{file}: {error}")
            continue
        if name == "prompt_phones" and array.size == 0:
            continue  # codes of a reference whose text is unknown: nothing to put in front
        arrays[name], found = convert(table[stage], port, array, model.dims)
        problems += [f"{file}: {one}" for one in found]
    if problems:
        raise ArtifactError(f"{folder}: stored constants cannot be used", problems=problems, fix="build it again")
    return arrays
