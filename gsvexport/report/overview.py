"""What `inspect` prints: an artifact's identity, stages, decisions, sizes and verdict, within a terminal's width."""

from __future__ import annotations

from gsvexport.artifact.manifest import StageEntry
from gsvexport.backends.carried import code
from gsvexport.report.markup import plain
from gsvexport.report.stored import Stored, members, weights
from gsvexport.report.terminal import columns, number, paint, percent, verdict_lines, wrapped


def artifact_page(stored: Stored, *, colour: bool = False) -> str:
    """A page of text about an artifact, from what it says of itself."""
    manifest, kinds = stored.manifest, members(stored.manifest)
    total = sum(kinds.values())
    lines = columns(
        [
            ("voice", f"{stored.voice[:-1]}, {'baked' if manifest.baked_key else 'not baked'})"),
            ("target", plain(f"{manifest.target['name']}: {manifest.target.get('title', '')}")),
            ("digest", manifest.digest),
            ("source", plain(manifest.source)),
            ("size", f"{stored.size / 1e6:.1f} MB, {total / 1e6:.1f} MB unpacked, {len(manifest.files) + 1} files"),
        ]
    )
    tools = ", ".join(f"{tool} {version}" for tool, version in sorted(manifest.tools.items()))
    lines += [*wrapped(f"tools   {plain(tools)}", indent=""), "", paint("STAGES", "head", colour)]
    for name, entry in manifest.stages.items():
        lines += wrapped(f"{plain(name)}  {plain(entry.backend)}  {plain(entry.precision)}")
        for note in entry.notes:
            lines += wrapped(plain(note), indent="    ")
        lines += _decisions(entry)
    lines += ["", paint("BYTES", "head", colour)]
    stored_kinds = members(manifest, stored=True)
    sizes = [("", "PLAIN", "STORED"), *((kind, f"{size:,}", f"{stored_kinds[kind]:,}") for kind, size in kinds.items())]
    lines += [f"  {line}" for line in columns(sizes, right=(1, 2))]
    lines += wrapped(f"compressed by {plain(manifest.compression)}") if manifest.compression else []
    if stored_as := weights(manifest):
        cells = [
            (plain(stages) if index == 0 else "", plain(kind), f"{size:,}")
            for stages, kinds in stored_as.items()
            for index, (kind, size) in enumerate(kinds.items())
        ]
        lines += ["", paint("WEIGHTS by the stages that use them", "head", colour)]
        lines += [f"  {line}" for line in columns(cells, right=(2,))]
    if carried := code(manifest):
        lines += ["", paint("CODE that finishes it on a device; `sha256sum -c` takes these lines", "head", colour)]
        lines += [f"  {digest}  {name}" for name, digest in carried.items()]
    lines += [line for reason in stored.told for line in wrapped(plain(f"warning: {reason}"), indent="")]
    if stored.described:
        lines += ["", paint("PLACEMENT", "head", colour), *(f"  {plain(one)}" for one in stored.described.splitlines())]
    lines.append("")
    if stored.report is None:
        lines.append(paint("verification: the artifact holds no report", "not_run", colour))
    else:
        lines += ["verification when it was built:", *verdict_lines(stored.report, colour=colour)]
    return "\n".join(lines) + "\n"


def _decisions(entry: StageEntry) -> list[str]:
    """What was measured of each group of layers, and what it became."""
    if entry.decisions is None:
        return []
    head = ("GROUP", "LAYERS", "COST", "ALONE", "BECAME")
    rows = [
        (plain(group.name), str(group.layers), f"{group.cost:,}", number(group.alone), plain(group.precision))
        for group in entry.decisions.groups
    ]
    told = [f"      {line}" for line in columns([head, *rows], right=(1, 2, 3))]
    reached, allowed = percent(entry.decisions.reached), percent(entry.decisions.allowed)
    return [*told, *wrapped(f"together {reached} of the gates for sound, {allowed} allowed", indent="      ")]
