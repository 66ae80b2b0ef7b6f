"""What callers send, read as if nobody could be trusted: each field checked, every size bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from gsvexport.errors import InputError
from gsvexport.runtime.speech import SPEEDS
from gsvexport.serve.catalogue import Catalogue
from gsvexport.serve.faults import Fault
from gsvexport.serve.settings import Settings
from gsvexport.serve.sound import IN_PIECES, check_format
from gsvexport.serve.speech import Wish
from gsvexport.text.phonemise import AUTO, languages
from gsvexport.untrusted.reading import parse_json

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

OWN = "gsvexport"
MODELS = (OWN, "tts-1", "tts-1-hd", "gpt-4o-mini-tts")  # OpenAI's own names, which clients send without being asked
_IGNORED = ("instructions",)  # as OpenAI's tts-1 does
_FIELDS = ("model", "input", "voice", "speed", "response_format", "stream", "stream_format", "seed", "language")
_MOST_VALUES = 100
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Asked:
    """A request for speech: what is said, and the form of the answer."""

    wish: Wish
    format: str


async def read_body(headers: Mapping[str, str], receive: Receive, settings: Settings) -> bytes:
    """The body of a request, which is refused as soon as it is known to be too large.

    Raises:
        Fault: too large, not JSON by its type, or not there in time.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # of other types any web page could send one to a server on its reader's machine
        raise Fault(415, "the body has to be application/json", "media_type")
    told = headers.get("content-length", "0")
    most = settings.largest_body
    too_large = Fault(413, f"the body is larger than {most} bytes", "too_large", headers=(("connection", "close"),))
    if not told.isascii() or not told.isdigit() or len(told) > 18 or int(told) > most:
        raise too_large
    data = bytearray()

    async def read() -> None:
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Fault(499, "the caller left", "left")
            data.extend(message.get("body", b""))
            if len(data) > most:
                raise too_large
            more = message.get("more_body", False)

    try:
        await asyncio.wait_for(read(), settings.idle)
    except asyncio.TimeoutError:
        what = f"the body did not come within {settings.idle:g} s"
        raise Fault(408, what, "slow", headers=(("connection", "close"),)) from None
    return bytes(data)


def asked(data: bytes, catalogue: Catalogue, settings: Settings) -> Asked:
    """The request for speech that a body is.

    Raises:
        Fault: it is none; says which field is wrong, and what is possible.
    """
    value = _table(data, settings)
    _known(value, _FIELDS)
    model = value.get("model")
    if not isinstance(model, str) or (model not in MODELS and catalogue.find(model) is None):
        raise Fault(404, f"there is no model {_shown(model)}; GET /v1/models lists them", "model_not_found", "model")
    text = _text(value.get("input"), "input", settings)
    form = _format(value.get("response_format", "mp3"))
    if value.get("stream_format", "audio") != "audio":
        raise Fault(400, "only 'audio' is streamed", "unsupported", "stream_format")
    pieces = value.get("stream", False)
    if not isinstance(pieces, bool):
        raise Fault(400, "stream is true or false", "invalid", "stream")
    if pieces and form not in IN_PIECES:
        what = f"{form} comes whole; only {' and '.join(IN_PIECES)} come in pieces"
        raise Fault(400, what, "unsupported", "stream")
    return Asked(_wish(value, text, catalogue, pieces), form)


def begun(data: bytes, catalogue: Catalogue, settings: Settings) -> Wish:
    """The first message of a conversation: voice and manner, without a text.

    Raises:
        Fault: as `asked`.
    """
    value = _table(data, settings)
    _known(value, ("voice", "speed", "seed", "language"))
    return _wish(value, "", catalogue, True)


def more(data: bytes, settings: Settings) -> tuple[str, bool]:
    """A further message: a piece of text, and whether it is the last one.

    Raises:
        Fault: it is neither {"text": …} nor {"end": true}.
    """
    value = _table(data, settings)
    _known(value, ("text", "end"))
    text, end = value.get("text", ""), value.get("end", False)
    if not isinstance(text, str) or not isinstance(end, bool) or not value:
        raise Fault(400, 'a message is {"text": "…"} or {"end": true}', "invalid", "text")
    return text, end


def _wish(value: Mapping[str, Any], text: str, catalogue: Catalogue, pieces: bool) -> Wish:
    name = value.get("voice")
    if isinstance(name, dict):
        name = name.get("id")
    offer = catalogue.find(name) if isinstance(name, str) else None
    if offer is None:
        raise Fault(404, f"there is no voice {_shown(name)}; GET /voices lists them", "voice_not_found", "voice")
    speed = value.get("speed", 1.0)
    if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise Fault(400, f"speed is a number from {SPEEDS[0]:g} to {SPEEDS[1]:g}", "invalid", "speed")
    seed = value.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        raise Fault(400, "seed is a whole number from 0 to 2^63-1", "invalid", "seed")
    language = value.get("language")
    known = (*languages(), AUTO)
    if language is not None and language not in known:
        raise Fault(400, f"language is one of {', '.join(known)}", "invalid", "language")
    return Wish(offer, text, seed, float(speed), language, pieces)


def _text(value: object, name: str, settings: Settings) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Fault(400, f"{name} is the text to say", "invalid", name)
    if len(value) > settings.longest_text:
        what = f"{name} has {len(value)} characters; at most {settings.longest_text} are spoken in one request"
        raise Fault(400, what, "too_long", name)
    return value


def _format(value: object) -> str:
    try:
        check_format(str(value))
    except InputError as error:
        raise Fault(400, str(error), "unsupported", "response_format") from error
    return str(value)


def _table(data: bytes, settings: Settings) -> dict[str, Any]:
    try:
        value = parse_json(data, limit=settings.largest_body, most=_MOST_VALUES)
    except ValueError as error:
        raise Fault(400, f"the message {error}", "invalid_json") from error
    if not isinstance(value, dict):
        raise Fault(400, "the message is no JSON object", "invalid_json")
    return value


def _known(value: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    strange = [name for name in value if name not in (*fields, *_IGNORED)]
    if strange:
        what = f"{_shown(strange[0])} is not known; there are {', '.join(fields)}"
        raise Fault(400, what, "unknown_parameter", strange[0][:80])


def _shown(value: object) -> str:
    return ascii(str(value)[:80])
