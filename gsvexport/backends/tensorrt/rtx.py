"""NVIDIA's TensorRT for RTX in the place of TensorRT: its parser and builder work without a GPU.

It comes from PyPI (`tensorrt-rtx-cu12`) and has the API of TensorRT 11: networks are strongly typed, flags of older
releases are gone. Builds are for compute capabilities that are named, not for the GPU that is there.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from gsvexport.backends.tensorrt.device import RTX, release
from gsvexport.errors import BackendError, EnvironmentProblem

DISTRIBUTION = "tensorrt-rtx-cu12"
OLDEST = "1.7"  # the release that this was written against; TensorScatter and Attention are there
_INSTALL = "pip install 'gsvexport[nvidia-check]'"


def installed() -> tuple[str, str]:
    """(version, why it cannot be used): the first empty where the package is absent, the second where it is fine.

    Nothing is imported: the library is 225 MB.
    """
    try:
        found = version(DISTRIBUTION)
    except PackageNotFoundError:
        return "", f"{DISTRIBUTION} is not installed: {_INSTALL}"
    if release(found) < release(OLDEST):
        return found, f"{DISTRIBUTION} is {found}, older than {OLDEST}: {_INSTALL}"
    return found, ""


def adapter(capabilities: Sequence[str]) -> Any:
    """What `builder.build` takes as TensorRT: the package, with builders for `capabilities` such as "8.6".

    Raises:
        EnvironmentProblem: the package is absent, too old, or cannot be loaded.
    """
    try:
        rtx = importlib.import_module(RTX)
    except (ImportError, OSError) as error:
        raise EnvironmentProblem(f"TensorRT for RTX cannot be loaded: {error}", fix=_INSTALL) from error
    if release(rtx.__version__) < release(OLDEST):
        raise EnvironmentProblem(f"{RTX} is {rtx.__version__}", limit=f">={OLDEST}", fix=_INSTALL)
    return _Adapter(rtx, tuple(capabilities))


class _Adapter:
    """The module, but for its builders."""

    def __init__(self, rtx: Any, capabilities: tuple[str, ...]) -> None:
        self._rtx, self.__name__ = rtx, RTX

        class Builder(rtx.Builder):  # type: ignore[misc]
            """Makes configurations that name the GPUs."""

            def create_builder_config(self) -> Any:
                config = super().create_builder_config()
                config.num_compute_capabilities = len(capabilities)
                for index, name in enumerate(capabilities):
                    known = getattr(rtx.ComputeCapability, f"SM{name.replace('.', '')}", None)
                    if known is None or not config.set_compute_capability(known, index):
                        raise BackendError(f"TensorRT for RTX {rtx.__version__} builds nothing for {name}")
                return config

        self.Builder = Builder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rtx, name)
