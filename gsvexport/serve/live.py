"""A conversation by WebSocket: text comes in pieces, and a sentence is spoken as soon as it is whole.

caller   {"voice": "alice", "seed": 0, "speed": 1, "language": "en"}      once
server   {"type": "begin", "rate": 24000}
caller   {"text": "Good mor"}, {"text": "ning. It is"}, …, {"end": true}
server   {"type": "sentence", "number": 1}, then its sound: binary, 16 bits, little-endian, one channel
server   {"type": "end", "sentences": 2}, and closes; or {"type": "error", "error": {…}}, and closes
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from starlette.websockets import WebSocket, WebSocketDisconnect

from gsvexport.serve.catalogue import Catalogue
from gsvexport.serve.far import FarDesk
from gsvexport.serve.faults import Fault, fault_of
from gsvexport.serve.guard import request_id, told
from gsvexport.serve.metrics import Metrics
from gsvexport.serve.sentences import Sentences
from gsvexport.serve.settings import Settings
from gsvexport.serve.sound import PCM_RATE, Pieces
from gsvexport.serve.speech import Desk, Wish
from gsvexport.serve.wishes import begun, more

_AHEAD = 8  # sentences that wait to be spoken; then the caller's next message is not read before one was


class Live:
    """The WebSocket's endpoint is `run`."""

    def __init__(
        self, settings: Settings, voices: Callable[[], Catalogue], desk: Desk | FarDesk, metrics: Metrics
    ) -> None:
        self._settings, self._voices, self._desk, self._metrics = settings, voices, desk, metrics

    async def run(self, socket: WebSocket) -> None:
        """One conversation."""
        await socket.accept()
        try:
            await self._talk(socket)
        except WebSocketDisconnect:
            self._metrics.left.inc()
            told.get()["status"] = 499
        except Exception as error:
            fault = fault_of(error, request_id.get())
            told.get()["code"] = fault.code
            with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # the caller left meanwhile
                await _tell(socket, type="error", error=json.loads(fault.body())["error"])
                await socket.close(1013 if fault.status == 429 else 1008 if fault.status < 500 else 1011)
            if fault.status == 500:
                raise

    async def _talk(self, socket: WebSocket) -> None:
        try:
            first = await asyncio.wait_for(_received(socket, self._settings), self._settings.idle)
        except asyncio.TimeoutError:
            raise Fault(408, "no first message came", "slow") from None
        wish = begun(first, self._voices(), self._settings)
        told.get()["voice"] = wish.offer.id
        await _tell(socket, type="begin", rate=PCM_RATE)
        sentences: asyncio.Queue[str | None] = asyncio.Queue(_AHEAD)
        work = asyncio.ensure_future(self._speak(socket, wish, sentences))
        watch = asyncio.ensure_future(self._listen(socket, sentences))
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            count = work.result() if work.done() else watch.result()  # listening ends with an error alone
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)
        await _tell(socket, type="end", sentences=count)
        await socket.close()

    async def _listen(self, socket: WebSocket, sentences: asyncio.Queue[str | None]) -> NoReturn:
        """Read pieces until the last one, and hand on what is whole."""
        collected, characters, end = Sentences(), 0, False
        while not end:
            try:
                data = await asyncio.wait_for(_received(socket, self._settings), self._settings.deadline)
            except asyncio.TimeoutError:
                raise Fault(408, "no further message came", "slow") from None
            text, end = more(data, self._settings)
            characters += len(text)
            told.get()["characters"] = characters
            if characters > self._settings.longest_text:
                what = f"more than {self._settings.longest_text} characters in one conversation"
                raise Fault(400, what, "too_long", "text")
            for one in (*collected.add(text), *(collected.end() if end else ())):
                await sentences.put(one)
        await sentences.put(None)
        while True:  # so that a caller who leaves now is noticed
            await _received(socket, self._settings)

    async def _speak(self, socket: WebSocket, wish: Wish, sentences: asyncio.Queue[str | None]) -> int:
        """Speak each sentence in its turn; sentence n has the seed of the first one plus n - 1."""
        number = 0
        while (text := await sentences.get()) is not None:
            number += 1
            one = replace(wish, text=text, seed=wish.seed + number - 1)
            await asyncio.wait_for(self._say(socket, one, number), self._settings.deadline)
        return number

    async def _say(self, socket: WebSocket, wish: Wish, number: int) -> None:
        async with self._desk.speech(wish) as speech:
            coder = Pieces("pcm", speech.rate)
            seconds, piece = 0.0, await speech.next()
            await _tell(socket, type="sentence", number=number)
            while piece is not None:
                seconds += piece.seconds
                if data := coder.add(piece):
                    await socket.send_bytes(data)
                piece = await speech.next()
            if data := coder.end():
                await socket.send_bytes(data)
        self._metrics.sound.labels(wish.offer.id).inc(seconds)


async def _received(socket: WebSocket, settings: Settings) -> bytes:
    """One message's bytes.

    Raises:
        WebSocketDisconnect: the caller left.
    """
    message = await socket.receive()
    if message["type"] != "websocket.receive":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    data: bytes = text.encode("utf-8", "replace") if text is not None else message.get("bytes") or b""
    if len(data) > settings.largest_body:
        raise Fault(413, f"a message is larger than {settings.largest_body} bytes", "too_large")
    return data


async def _tell(socket: WebSocket, **values: Any) -> None:
    await socket.send_text(json.dumps(values))
