"""Whether the profiles of an engine say everything about its graph's inputs that a builder asks: found while lowering,
where the mistake was made, and not on the device.

A builder refuses a dynamic input that one profile does not name, and some of what it takes (a name that the network has
not, lengths that contradict each other) fails later or never; see the tests with NVIDIA's own library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from gsvexport.backends.tensorrt.recipe import Profile

if TYPE_CHECKING:
    import onnx_ir as ir

Axes = Sequence[int | str | None]
_PLACES = ("smallest", "usual", "largest")


def axes_of(graph: ir.Model) -> dict[str, list[int | str | None]]:
    """The shape of each input: numbers, names of what is dynamic, None for what has no name."""
    return {
        str(port.name): [axis if isinstance(axis, int) else axis.value for axis in port.shape or ()]
        for port in graph.graph.inputs
    }


def gaps(inputs: Mapping[str, Axes], profiles: Sequence[Profile]) -> list[str]:
    """Every reason for which a builder would refuse these profiles for these inputs, or a run would later."""
    dynamic = {name for name, axes in inputs.items() if not all(isinstance(axis, int) for axis in axes)}
    if dynamic and not profiles:
        return [f"no profile, but {', '.join(sorted(dynamic))} is dynamic"]
    found = []
    for profile in profiles:
        found += [f"profile {profile.name} does not name {name}" for name in sorted(dynamic - profile.shapes.keys())]
        found += [f"profile {profile.name} names {name}, which is no input" for name in profile.shapes.keys() - inputs]
        for name in profile.shapes.keys() & inputs.keys():
            found += [f"profile {profile.name}, {name}: {text}" for text in _wrong(inputs[name], profile.shapes[name])]
        found += [f"profile {profile.name}: {text}" for text in _contradictions(inputs, profile)]
    return found


def _wrong(axes: Axes, shapes: tuple[tuple[int, ...], ...]) -> list[str]:
    low, usual, high = shapes
    if {len(low), len(usual), len(high)} != {len(axes)}:
        return [f"{low}, {usual}, {high} instead of {len(axes)} dimensions"]
    return [
        f"dimension {index} is {low[index]}, {usual[index]}, {high[index]}; the graph has {axis}"
        for index, axis in enumerate(axes)
        if not 0 <= low[index] <= usual[index] <= high[index]
        or (isinstance(axis, int) and {low[index], usual[index], high[index]} != {axis})
    ]


def _contradictions(inputs: Mapping[str, Axes], profile: Profile) -> list[str]:
    """Axes of one name with different sizes in the same place."""
    sizes: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in profile.shapes.keys() & inputs.keys():
        for place, shape in zip(_PLACES, profile.shapes[name], strict=True):
            for axis, size in zip(inputs[name], shape, strict=False):
                if isinstance(axis, str):
                    sizes.setdefault((axis, place), {}).setdefault(size, []).append(name)
    found = []
    for (axis, place), several in sorted(sizes.items()):
        told = ", ".join(f"{size} in {' and '.join(sorted(names))}" for size, names in sorted(several.items()))
        found += [f"the {place} {axis} is {told}"] if len(several) > 1 else []
    return found
