"""What `gsvexport bench --sweep` does."""

from __future__ import annotations

from pathlib import Path

from gsvexport.artifact.trust import Key
from gsvexport.bench import bench_sweep
from gsvexport.bench.growth import AXES
from gsvexport.files import atomic_file, canonical_json, refuse_existing
from gsvexport.progress import Progress
from gsvexport.report.growth import growth


def swept(
    artifact: Path,
    html: Path | None,
    *,
    force: bool,
    as_json: bool,
    progress: Progress,
    threads: int,
    prompt: int,
    any_machine: bool,
    key: Key | None,
    **_: object,  # the bench's other options, which the command line refuses here
) -> str:
    """The table, or JSON; the charts go to `html`.

    Raises: as `bench_sweep`; InputError: `html` exists and `force` is false.
    """
    if html is not None:
        refuse_existing(html, force=force)
    found = bench_sweep(artifact, threads=threads, prompt=prompt, any_machine=any_machine, key=key, progress=progress)
    if html is not None:
        curves = {
            AXES[name][0]: [(point.value, point.sentence_s, point.sentence_s / point.straight) for point in row]
            for name, row in found.axes.items()
        }
        with atomic_file(html) as temporary:
            temporary.write_bytes(growth(f"Cost as work grows: {artifact.name}", curves, found.table()).encode())
    return canonical_json(found.to_json()) if as_json else found.table()
