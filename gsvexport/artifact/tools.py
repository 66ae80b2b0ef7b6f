"""What made an artifact: versions of installed distributions, as manifests name them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

OURS = "gsvexport"


def tool_version(distribution: str) -> str:
    """The version of an installed distribution, or "absent"; "0+unknown" for a gsvexport that was never installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+unknown" if distribution == OURS else "absent"
