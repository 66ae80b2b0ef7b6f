"""What a manifest says of engines that a vendor's compiler made ahead of time (`engines` in `artifact.manifest`).

Artifacts carry this module: the device reads it there. It runs on Python 3.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from gsvexport.untrusted import schema

_MOST = 16 << 30  # bytes
_SHA256 = schema.text(64, re.compile(r"[0-9a-f]{64}"))
_NAME = schema.text(200)
_SIZES = schema.rows(schema.whole(0, 1 << 30), 8)
_PROFILE = schema.record({"name": schema.text(100), "shapes": schema.table(schema.rows(_SIZES, 3, least=3), 64)})
_PLAN = schema.record(
    {
        "engine": schema.text(100),
        "graph": _NAME,
        "made_from": schema.table(_SHA256, 64, _NAME),
        "profiles": schema.rows(_PROFILE, 64, least=1),
        "serves": schema.table(schema.whole(0, 63), 64),
        "weights": schema.whole(0, _MOST),
        "scratch": schema.whole(0, _MOST),
        "kernels": schema.whole(0, 1 << 30),
    }
)
ENGINES = schema.record(
    {
        **dict.fromkeys(("backend", "library", "version", "portability", "notice"), schema.text()),
        "capabilities": schema.rows(schema.text(8), 16, least=1),
        "flags": schema.rows(schema.text(), 32),
        "reproducible": schema.flag,
        "plans": schema.table(_PLAN, 16, _NAME),
    }
)


def contradictions(engines: Mapping[str, Any], members: Mapping[str, str]) -> Iterator[str]:
    """What an artifact's `engines`, which have the shape, say that its members (SHA-256 by name) do not: all of it."""
    for name, one in engines["plans"].items():
        for file in (name, one["graph"], *one["made_from"]):
            if file not in members:
                yield f"engine {name!a} needs {file!a}, which is no member"
            elif one["made_from"].get(file, members[file]) != members[file]:
                yield f"engine {name!a} was built from another {file!a}"
        if one["graph"] not in one["made_from"]:
            yield f"engine {name!a} does not say which {one['graph']!a} it was built from"
        if any(index >= len(one["profiles"]) for index in one["serves"].values()):
            yield f"engine {name!a} has fewer profiles than it is said to serve with"
