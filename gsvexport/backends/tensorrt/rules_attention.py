# ruff: noqa: A002, D103 - as in rules.py
"""The kinds of rule about attention and its cache; see `rules.py`."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from gsvexport.backends.tensorrt.scope import Hit, Hits, Site, called
from gsvexport.passes.base import attribute


def cache_must_be_graph_io(site: Site) -> Hits:
    graph = site.scope.model.graph
    cache, updated = site.node.inputs[0], site.node.outputs[0]
    if not any(cache is value for value in graph.inputs):
        yield Hit(f"{called('input', 0, cache)} is no input of the graph; must be one")
    if not any(updated is value for value in graph.outputs):
        yield Hit(f"{called('output', 0, updated)} is no output of the graph; must be one")
    if cache is not None and cache.shape is not None and not isinstance(cache.shape[-2], int):
        shape = ", ".join(map(str, cache.shape))
        yield Hit(f"{called('input', 0, cache)} has shape [{shape}]; its length, dimension -2, must be static")


def cache_read_by_update_alone(site: Site) -> Hits:
    cache = site.node.inputs[0]
    others = sorted({str(node.name) for node, _ in _uses(cache) if node is not site.node})
    if others:
        yield Hit(f"{called('input', 0, cache)} is read by {', '.join(others)}, too, while it is written in place")


def bool_or_same_dtype(site: Site, *, input: int, of: int) -> Hits:
    for name, value in site.inputs([input]):
        for other, wanted in site.inputs([of]):
            found, expected = site.dtype(value), site.dtype(wanted)
            if found not in ("BOOL", expected) or found is None:
                text = f"{name} is {found or 'of an unknown type'}; must be BOOL or, as {other}, {expected}"
                yield Hit(text, unsure=None in (found, expected))


def attr_or_input(site: Site, *, attr: str, input: int) -> Hits:
    found = attribute(site.node, attr, 0)
    for name, _ in site.inputs([input]) if found else ():
        yield Hit(f"attribute {attr} is {found} and {name} is present; only one of them may be")


def _uses(value: ir.Value | None) -> list[tuple[ir.Node, int]]:
    return [] if value is None else [(node, index) for node, index in value.uses()]


ATTENTION_KINDS: dict[str, Callable[..., Hits]] = {
    function.__name__: function
    for function in (cache_must_be_graph_io, cache_read_by_update_alone, bool_or_same_dtype, attr_or_input)
}
