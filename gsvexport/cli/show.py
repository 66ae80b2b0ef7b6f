"""Text pages for a person: the cache; and columns."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from gsvexport.artifact.kept import prune_unpacked
from gsvexport.files import cache_directory

_MEMBERS = "members"


def table(rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    rows = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def cache_page() -> str:
    """What the cache holds, and where."""
    from gsvexport.compiler.store import Store

    store = Store()
    rows = [("STEP", "MB", "LAST USED", "RESULT")]
    for entry in store.entries():
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        rows.append((entry.key[:12], f"{entry.size / 1e6:.1f}", used, entry.label))
    lines = table(rows) if len(rows) > 1 else "no finished steps\n"
    total = sum(_size(cache_directory() / name) for name in ("store", "unpacked", "demo", _MEMBERS))
    unpacked, members = (_size(cache_directory() / name) for name in ("unpacked", _MEMBERS))
    parts = f"{unpacked / 1e6:.1f} MB of it unpacked artifacts, {members / 1e6:.1f} MB members of pulled ones"
    return f"{lines}\n{cache_directory()}: {total / 1e6:.1f} MB, {parts}\n"


def prune_cache(older_than_days: float) -> str:
    """Remove what has not been used for so long; returns what was freed in words."""
    from gsvexport.compiler.store import Store
    from gsvexport.registry.pull import prune_members

    freed = Store().prune(older_than_days) + prune_unpacked(older_than_days) + prune_members(older_than_days)
    return f"{freed / 1e6:.1f} MB freed in {cache_directory()}\n"


def _size(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
