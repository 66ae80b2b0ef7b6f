"""Messages of protobuf, as far as an ML program needs them.

Nothing of coremltools reads here, so that what it wrote is looked at by somebody else, and on machines without it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from gsvexport.untrusted import protobuf
from gsvexport.untrusted.reading import Refused

_MOST = 2_000_000  # fields; a full-size vocoder has 40,000


class Message:
    """The fields of one message, by number. What is absent is empty, or 0.

    Raises:
        Refused: it is cut short, or no message.
    """

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        for number, value in _fields(data):
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def parts(self, number: int) -> list[bytes]:
        """All bytes of a field."""
        found = self._fields.get(number, [])
        if not all(isinstance(one, bytes) for one in found):
            raise Refused(f"is damaged: field {number} is a number")
        return found  # type: ignore[return-value]

    def messages(self, number: int) -> list[Message]:
        """All messages of a field."""
        return [Message(one) for one in self.parts(number)]

    def message(self, *numbers: int) -> Message:
        """The last message of a field; of several numbers the one inside it, and so on."""
        found = self
        for number in numbers:
            found = Message(next(iter(found.parts(number)[-1:]), b""))
        return found

    def table(self, number: int) -> dict[str, Message]:
        """A field that is a map from texts to messages."""
        return {entry.text(1): entry.message(2) for entry in self.messages(number)}

    def texts(self, number: int) -> list[str]:
        """All texts of a field."""
        return [one.decode("utf-8", "backslashreplace") for one in self.parts(number)]

    def text(self, number: int) -> str:
        """The last text of a field."""
        return next(iter(self.texts(number)[-1:]), "")

    def whole(self, number: int) -> int:
        """The last number of a field, from 0 on."""
        found = self._fields.get(number, [0])[-1]
        if not isinstance(found, int):
            raise Refused(f"is damaged: field {number} is no number")
        return found

    def wholes(self, number: int) -> list[int]:
        """All numbers of a field, of 32 bits with a sign, packed or not."""
        found: list[int] = []
        for one in self._fields.get(number, []):
            found += [one] if isinstance(one, int) else _packed(one)
        return [(value + (1 << 31)) % (1 << 32) - (1 << 31) for value in found]

    def floats(self, number: int) -> list[float]:
        """All floats of a field, packed or not."""
        data = b"".join(self.parts(number))
        if len(data) % 4:
            raise Refused("is damaged: a part of a float")
        return list(struct.unpack(f"<{len(data) // 4}f", data))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    for count, (number, _, first, last, kind) in enumerate(protobuf.fields(data, 0, len(data))):
        if count == _MOST:
            raise Refused(f"has more than {_MOST} fields")
        yield number, protobuf.varint(data, first, last)[0] if kind == protobuf.VARINT else data[first:last]


def _packed(data: bytes) -> list[int]:
    found, start = [], 0
    while start < len(data):
        value, start = protobuf.varint(data, start, len(data))
        found.append(value)
    return found
