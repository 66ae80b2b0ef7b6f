"""The code that artifacts carry, so that a device without gsvexport can finish them: is it what this package has?

`python3 finalize.py` runs it, and Python looks into the folder it lies in first. So every member that could be
imported, or started, counts as code: one that no release carries (a `numpy.py`, say) would be run, too.
"""

from __future__ import annotations

import importlib.machinery
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from gsvexport.artifact.manifest import Manifest
from gsvexport.artifact.tools import OURS, tool_version
from gsvexport.backends import carriage
from gsvexport.errors import ArtifactError
from gsvexport.files import sha256_file

_IMPORTED = {suffix[suffix.rindex(".") :] for suffix in importlib.machinery.all_suffixes()}
_STARTED = {".pyw", ".pyo", ".pyd", ".pth", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".exe", ".com", ".dll", ".so"}
_CODE = {*_IMPORTED, *_STARTED, ".dylib", ".jar", ".js", ".whl", ".egg", ".zip"}


def code(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of every member that could be run, by name, in the order of names."""
    return {
        name: member.sha256
        for name, member in sorted(manifest.files.items())
        if PurePosixPath(name).suffix.lower() in _CODE
    }


def unproven(manifest: Manifest, where: str) -> str:
    """Why the code of an artifact cannot be compared with this package's, in words; empty where it is the same, or
    where there is none.

    Raises:
        ArtifactError: it is said to be this release's, and it differs.
    """
    found, release = code(manifest), manifest.tools.get(OURS)
    known: Mapping[str, Path] = {
        name: path
        for backend in {entry.backend for entry in manifest.stages.values()}
        if (offered := carriage(backend))
        for name, path in offered.carried().items()
    }
    if not found and not known:
        return ""
    if found and release != tool_version(OURS):
        return f"the code in {where} is of gsvexport {release}, and cannot be compared with this one's"
    problems = [f"{name} is no file that gsvexport {release} carries" for name in found if name not in known]
    problems += [f"{name} is missing" for name in known if found and name not in found]
    problems += [
        f"{name} is not that of gsvexport {release} (SHA-256 {digest})"
        for name, digest in found.items()
        if name in known and sha256_file(known[name]) != digest
    ]
    if problems:
        raise ArtifactError(
            f"{where}: carried code differs from this package's; running it would run something else",
            problems=problems,
            fix="get the artifact from its maker, or build it with this gsvexport; do not run its finalize.py",
        )
    return ""
