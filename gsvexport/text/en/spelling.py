"""Letters that are said by their names."""

from __future__ import annotations

LETTER = "~"  # before such a letter; `plain` lets no such character through


def spell(letters: str) -> str:
    """ "USA" → "~u ~s ~a"."""
    return " ".join(LETTER + one for one in letters.lower() if one.isalpha())
