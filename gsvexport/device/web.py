"""`gsvexport unpack --web`: an artifact with the page that speaks it, for any server of static files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gsvexport.artifact.manifest import Manifest
from gsvexport.artifact.trust import Key
from gsvexport.backends.web import site
from gsvexport.device.unpack import unpack_to
from gsvexport.files import atomic_directory, refuse_existing, refuse_others
from gsvexport.model import Model, read_model

Phrases = Callable[[Model], Mapping[str, Any]]


def unpack_web(
    path: Path,
    out: Path,
    phrases: Phrases,
    *,
    ort: Path | None = None,
    force: bool = False,
    key: Key | None = None,
    allow_unsigned: bool = False,
    progress: Callable[[str], None] | None = None,
) -> tuple[Manifest, int]:
    """Write the page, onnxruntime-web and the container `path` to the folder `out`; returns the manifest, and bytes.

    The folder appears complete or not at all. `phrases` gives what the page offers to say, as a pack's JSON has it.

    Raises:
        InputError: `out` exists and `force` is false, or it holds something else; the page cannot speak this artifact.
        ArtifactError: as `unpack_to`.
        EnvironmentProblem: onnxruntime-web cannot be had, or the disk is full.
    """
    refuse_existing(out, force=force)
    refuse_others(out, own=(out / site.SITE).is_file(), what="what --web wrote")
    with atomic_directory(out, force=force) as work:
        voice = work / site.VOICE
        manifest = unpack_to(path, voice, key=key, allow_unsigned=allow_unsigned, progress=progress)
        model = read_model(voice)
        site.refuse(model, manifest)
        size = site.write(work, model, manifest, phrases(model), ort=ort, say=progress or (lambda _: None))
    return manifest, size
