"""Text that arrives in pieces, cut into sentences as soon as each is whole."""

from __future__ import annotations

import re

LONGEST = 400  # characters after which a sentence without an end is cut at a comma, or else between two words
# An end is a sign and the space after it, so that 3.5 stays one number; the signs of Chinese and Japanese need none.
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|\n")
_NO_END = re.compile(r"(?:^|\s|\()(?:[A-Za-z]|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|Jr|Sr)\.$")
_SOUND = re.compile(r"\w")


class Sentences:
    """Collects pieces of text and hands out whole sentences."""

    def __init__(self) -> None:
        self._text = ""

    @property
    def held(self) -> int:
        """Characters that wait for the end of their sentence."""
        return len(self._text)

    def add(self, piece: str) -> list[str]:
        """The sentences that are whole with this piece."""
        self._text += piece
        found, start, place = [], 0, 0
        while match := _END.search(self._text, place):
            place = match.end()
            if _NO_END.search(self._text[start:place]):
                continue
            if _SOUND.search(self._text, start, place):
                found.append(self._text[start:place].strip())
                start = place
        self._text = self._text[start:]
        while len(self._text) > LONGEST:
            at = max(self._text.rfind(one, 0, LONGEST) for one in (", ", "; ", "，", "、"))
            at = at if at > 0 else self._text.rfind(" ", 0, LONGEST)
            at = at if at > 0 else LONGEST - 1
            found.append(self._text[: at + 1].strip())
            self._text = self._text[at + 1 :]
        return [one for one in found if _SOUND.search(one)]

    def end(self) -> list[str]:
        """What is left, which is the last sentence."""
        rest, self._text = self._text.strip(), ""
        return [rest] if _SOUND.search(rest) else []
