"""Compiles a GPT-SoVITS voice into one verified artifact per device, and runs it.

Everything public is found on first use, so that importing the package costs milliseconds and loads neither numpy nor
any machine-learning library.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gsvexport.compiler.build import build
    from gsvexport.runtime.audio import Audio
    from gsvexport.runtime.pipeline import load
    from gsvexport.runtime.sampling import Sampling

    __version__: str

# ONNX Runtime's official builds report to their maker over the network and leave a device's identifier in its cache
# folder (its Privacy.md). Only this, set before it is imported, keeps all of that from happening.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Audio", "Sampling", "__version__", "build", "load"]

_WHERE = {
    "Audio": "gsvexport.runtime.audio",
    "Sampling": "gsvexport.runtime.sampling",
    "build": "gsvexport.compiler.build",
    "load": "gsvexport.runtime.pipeline",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        value = _version()
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'gsvexport' has no attribute {name!r}")
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gsvexport")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "0+unknown"
