"""From an artifact to its page: run it here on its golden vectors and on sentences, and write the file."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from gsvexport.artifact.container import unpacked
from gsvexport.artifact.manifest import Manifest
from gsvexport.backends import Opener, emulation, open_session
from gsvexport.errors import GsvError
from gsvexport.files import atomic_file, refuse_existing
from gsvexport.progress import Progress
from gsvexport.report.listen import golden_sounds, spoken_sounds
from gsvexport.report.page import VERDICTS, Here, overall, page
from gsvexport.report.panel.heard import judged
from gsvexport.report.stored import Stored, read_stored
from gsvexport.verify.report import Report


def write_page(
    artifact: Path,
    out: Path,
    *,
    source: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    heard: Path | None = None,
) -> str:
    """Write the page about an artifact to `out`, and return its verdict in words.

    The artifact is run here, whatever it was made for; where that fails the page says why. `source`, a source folder,
    is heard beside it. `heard` are scores of people (`gsvexport listen --results -o`).

    Raises:
        InputError: `out` exists and `force` is false.
        ArtifactError: the artifact, or the source, is damaged or none.
    """
    refuse_existing(out, force=force)
    stored = read_stored(artifact)
    if heard is not None:
        stored = replace(stored, report=judged(stored.report or Report(()), stored.manifest.digest, heard))
    here = _run(stored, source, progress or (lambda _: None))
    text = page(stored, here)
    with atomic_file(out, force=force) as work:
        work.write_bytes(text.encode())
    return VERDICTS[overall(stored, here)]


def _run(stored: Stored, source: Path | None, say: Progress) -> Here:
    from gsvexport.runtime.pipeline import load
    from gsvexport.target.machine import mismatch
    from gsvexport.verify import GOLDEN, checks, golden
    from gsvexport.verify.gates import resolve

    manifest = stored.manifest
    opener, elsewhere = opener_of(manifest) or (open_session, mismatch(manifest.target))
    folder = stored.path if stored.path.is_dir() else unpacked(stored.path, stored.text)
    precision = {stage: entry.precision for stage, entry in manifest.stages.items()}
    with contextlib.ExitStack() as open_voices:
        original = open_voices.enter_context(load(source)) if source else None
        try:
            held = (folder / golden.FOLDER).is_dir()
            ruler = golden.read_ruler(folder / golden.FOLDER) if held else None
            gates = resolve(precision, manifest.target.get("gates"), ruler)
            voice = open_voices.enter_context(load(folder, any_machine=True, opener=opener))
            cases = golden.read(folder / golden.FOLDER) if held else ()
            found = checks.compare(voice, cases, gates, GOLDEN, say)
            say("listening")
            sounds = (*golden_sounds(voice, cases), *spoken_sounds(voice, original, say))
        except GsvError as error:
            return Here(elsewhere=elsewhere, problem=" ".join(str(error).split()))
    return Here(Report(tuple(found), _machine()), sounds, elsewhere)


def opener_of(manifest: Manifest) -> tuple[Opener, str] | None:
    """What stands in for a backend that cannot run here, and its name; None where every backend can."""
    for backend in sorted({entry.backend for entry in manifest.stages.values()}):
        if stand_in := emulation(backend):
            mode = next(iter(stand_in.MODES))
            return stand_in.opener(mode), f"an emulation of {backend} ({mode})"
    return None


def _machine() -> dict[str, str]:
    return {"on": f"{platform.machine()}, {platform.system()}", "with ONNX Runtime": version("onnxruntime")}
