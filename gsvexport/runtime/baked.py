"""The stored results of a voice's reference."""

from __future__ import annotations

from pathlib import Path

from gsvexport.errors import ArtifactError
from gsvexport.model import Model
from gsvexport.runtime.ports import Array, convert
from gsvexport.stages import sounding
from gsvexport.untrusted import reading


def _ports(version: str) -> dict[str, tuple[str, str]]:
    """The port whose type and size each stored constant has."""
    taker = sounding(version)
    found = {"prompt": ("prefill", "prompt"), "prompt_phones": ("prefill", "phones"), "ge": (taker, "ge")}
    found["prompt_bert"] = ("prefill", "bert")
    more = {"ge_text": (taker, "ge_text")} if taker == "acoustic" else {"prompt_mel": ("vocoder", "mel")}
    return found | more


def read_baked(folder: Path, model: Model) -> dict[str, Array]:
    """The stored constants, each checked against the port that takes it.

    Raises:
        ArtifactError: files that are absent, damaged or do not fit this voice (all listed).
    """
    table, ports = model.stages, _ports(model.version)
    arrays: dict[str, Array] = {}
    problems = []
    for name, file in model.baked.items():
        stage, port_name = ports.get(name, ("", ""))
        port = next((port for port in table[stage].inputs if port.name == port_name), None) if stage in table else None
        if port is None:
            problems.append(f"{file}: no stage takes a constant called '{name}'")
            continue
        try:
            array = reading.read_array(reading.inside(folder, file))
        except (OSError, ValueError) as error:
            problems.append(f"{file} {reading.why(error)}")
            continue
        if name == "prompt_phones" and array.size == 0:
            continue  # codes of a reference whose text is unknown: nothing to put in front
        arrays[name], found = convert(table[stage], port, array, model.dims)
        problems += [f"{file}: {one}" for one in found]
    if problems:
        raise ArtifactError(f"{folder}: stored constants cannot be used", problems=problems, fix="build it again")
    return arrays
