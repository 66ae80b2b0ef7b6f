"""The file of a phrase pack: a line, a JSON text, and sound that was made ahead of time (docs/phrases.md).

    gsvexport phrases 1 <bytes of JSON>\\n<JSON><FLAC of one phrase><FLAC of the next>…

The device side reads it here, and `native/src/pack.cpp` does in C++ by the same bounds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gsvexport.errors import InputError
from gsvexport.files import sha256_bytes
from gsvexport.stages import SYMBOL_COUNTS
from gsvexport.untrusted.reading import Refused, parse_json, read_bytes, why

MAGIC = b"gsvexport phrases 1 "
LARGEST = 1 << 30  # bytes of a pack
LARGEST_TEXT = 8 << 20  # bytes of its JSON
_HEADER = re.compile(rb"gsvexport phrases (\d{1,4}) (\d{1,9})\n")
_FIX = "make it again: gsvexport phrases"

Phones = tuple[str, ...]
Choice = tuple[int, ...]


class Filled(NamedTuple):
    """A part of a phrase that a slot fills, with the phones of each of its values."""

    slot: int
    phones: tuple[Phones, ...]


Piece = Phones | Filled


@dataclass(frozen=True)
class Phrase:
    """One phrase as phones.

    `pieces` in a row are the sentence; `others` are sentences that they do not give, by the places of their values in
    `slots`. `sound` is FLAC of it, where it was made ahead of time.
    """

    text: str
    slots: tuple[tuple[str, tuple[str, ...]], ...] = ()
    pieces: tuple[Piece, ...] = ()
    others: Mapping[Choice, Phones] = field(default_factory=dict)
    sound: bytes | None = None

    def joined(self, choice: Choice) -> Phones:
        """The pieces with the values at these places."""
        parts = (one.phones[choice[one.slot]] if isinstance(one, Filled) else one for one in self.pieces)
        return tuple(phone for part in parts for phone in part)

    def phones(self, values: Mapping[str, str]) -> Phones:
        """The sentence with these values of all slots.

        Raises:
            InputError: a slot that is missing or unknown, or a value that it does not have; all of them.
        """
        names = [name for name, _ in self.slots]
        problems = [f"it has no slot '{name}'" for name in values if name not in names]
        problems += [f"slot '{name}' has no value" for name in names if name not in values]
        choice = []
        for name, known in self.slots:
            if name in values and values[name] not in known:
                shown = ", ".join(known[:3]) + (f", … {known[-1]}" if len(known) > 3 else "")
                problems.append(f"slot '{name}' cannot be {values[name]!r}; it can be {shown}")
            elif name in values:
                choice.append(known.index(values[name]))
        if problems:
            raise InputError(f"{self.text!r} cannot be filled", problems=problems, limit=", ".join(names) or "no slot")
        return self.others.get(tuple(choice)) or self.joined(tuple(choice))


@dataclass(frozen=True)
class Pack:
    """The phrases of one voice, by name; its language, its phone table, and the rate of `sound` in samples a second."""

    voice: str
    language: str
    symbols: str
    rate: int
    phrases: Mapping[str, Phrase]

    def phrase(self, name: str) -> Phrase:
        """The phrase of that name.

        Raises:
            InputError: there is none.
        """
        if name not in self.phrases:
            limit = ", ".join(list(self.phrases)[:20])
            raise InputError(f"the pack has no phrase '{name}'", limit=limit, fix="name one of these")
        return self.phrases[name]

    def to_bytes(self) -> bytes:
        """The file; equal packs give equal bytes.

        Raises:
            InputError: it would be too large to be read again.
        """
        sound, told = b"", {}
        for name, phrase in sorted(self.phrases.items()):
            told[name] = as_json(phrase)
            if phrase.sound is not None:
                place = {"start": len(sound), "size": len(phrase.sound), "sha256": sha256_bytes(phrase.sound)}
                told[name]["sound"] = place
                sound += phrase.sound
        head = {"voice": self.voice, "language": self.language, "symbols": self.symbols, "rate": self.rate}
        text = json.dumps({**head, "phrases": told}, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > LARGEST_TEXT or len(text) + len(sound) > LARGEST - 100:
            what = f"{len(text)} bytes of phones, {len(sound)} of sound"
            limit = f"{LARGEST_TEXT} and {LARGEST} together"
            raise InputError("the pack is too large", found=what, limit=limit, fix="make several of it")
        data = MAGIC + f"{len(text)}\n".encode() + text + sound
        try:
            parse_pack(data)
        except Refused as error:  # what is written, everybody has to be able to read
            raise InputError(f"the pack {error}", fix="make several of it") from error
        return data


def read_pack(path: Path) -> Pack:
    """The pack in a file.

    Raises:
        InputError: absent, no pack, of another release, or damaged.
    """
    try:
        return parse_pack(read_bytes(path, LARGEST))
    except (OSError, Refused) as error:
        raise InputError(f"{path} {why(error)}", fix=_FIX) from error


def parse_pack(data: bytes) -> Pack:
    """The pack in these bytes.

    Raises:
        Refused: they are none, or damaged.
    """
    head = _HEADER.match(data[:64])
    if head is None:
        raise Refused("is no phrase pack")
    if head[1] != b"1":
        raise Refused(f"is a phrase pack of form {int(head[1])}; this release reads 1")
    start, size = head.end(), int(head[2])
    if start + size > len(data):
        raise Refused("is a phrase pack that was cut short")
    table = _Checked(parse_json(data[start : start + size], limit=LARGEST_TEXT))
    symbols, rate = table.text("symbols"), table.value("rate", int)
    if symbols not in SYMBOL_COUNTS or not 1000 <= rate <= 768_000:
        raise Refused(f"is a phrase pack for phone table {symbols[:20]!r} and {rate} samples a second, which is none")
    told = table.value("phrases", dict)
    phrases = {name: _phrase(name, _Checked(one), data[start + size :]) for name, one in told.items()}
    return Pack(table.text("voice"), table.text("language"), symbols, rate, phrases)


class _Checked:
    """A table of the JSON text, whose values are of the kinds that they have to be."""

    def __init__(self, values: Any) -> None:
        if not isinstance(values, dict):
            raise Refused("is a damaged phrase pack: a table is missing")
        self.values = values

    def value(self, name: str, kind: type[Any]) -> Any:
        found = self.values.get(name)
        if type(found) is not kind:
            raise Refused(f"is a damaged phrase pack: '{name}' is wrong")
        return found

    def text(self, name: str) -> str:
        return str(self.value(name, str))

    def texts(self, name: str) -> tuple[str, ...]:
        found = self.value(name, list)
        if not all(isinstance(one, str) for one in found):
            raise Refused(f"is a damaged phrase pack: '{name}' is wrong")
        return tuple(found)


def as_json(phrase: Phrase) -> dict[str, Any]:
    """A phrase as a pack holds it, without its sound."""
    pieces = [
        {"slot": one.slot, "phones": [" ".join(some) for some in one.phones]}
        if isinstance(one, Filled)
        else {"phones": " ".join(one)}
        for one in phrase.pieces
    ]
    found: dict[str, Any] = {"text": phrase.text, "pieces": pieces}
    if phrase.slots:
        found["slots"] = [{"name": name, "values": list(values)} for name, values in phrase.slots]
    if phrase.others:
        found["others"] = {" ".join(map(str, choice)): " ".join(some) for choice, some in phrase.others.items()}
    return found


def _phrase(name: str, table: _Checked, sound: bytes) -> Phrase:
    slots = []
    for one in map(_Checked, table.values.get("slots", ())):
        slots.append((one.text("name"), one.texts("values")))
        if not slots[-1][1]:
            raise Refused(f"is a damaged phrase pack: a slot of {name[:64]!r} has no value")
    pieces: list[Piece] = []
    for one in map(_Checked, table.value("pieces", list)):
        if "slot" not in one.values:
            pieces.append(_names(one.text("phones")))
            continue
        slot, some = one.value("slot", int), one.texts("phones")
        if not 0 <= slot < len(slots) or len(some) != len(slots[slot][1]):
            raise Refused(f"is a damaged phrase pack: a piece of {name[:64]!r} has no slot, or not all of its values")
        pieces.append(Filled(slot, tuple(map(_names, some))))
    others = {_choice(key, slots): _names(str(some)) for key, some in _others(table).items()}
    flac = _sound(table, sound) if "sound" in table.values else None
    return Phrase(table.text("text"), tuple(slots), tuple(pieces), others, flac)


def _others(table: _Checked) -> dict[str, Any]:
    return dict(table.value("others", dict)) if "others" in table.values else {}


def _names(text: str) -> Phones:
    return tuple(text.split())


def _choice(key: str, slots: Sequence[tuple[str, tuple[str, ...]]]) -> Choice:
    found = tuple(int(one) if one.isascii() and one.isdigit() and len(one) < 6 else math.inf for one in key.split())
    if len(found) != len(slots) or not all(at < len(values) for at, (_, values) in zip(found, slots, strict=False)):
        raise Refused("is a damaged phrase pack: a sentence of values that it does not have")
    return tuple(map(int, found))


def _sound(table: _Checked, data: bytes) -> bytes:
    place = _Checked(table.values["sound"])
    start, size = place.value("start", int), place.value("size", int)
    found = data[start : start + size] if start >= 0 and size >= 0 else b""
    if len(found) != size or sha256_bytes(found) != place.text("sha256"):
        raise Refused("is a phrase pack whose sound is damaged")
    return found
