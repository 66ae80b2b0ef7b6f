"""The application: OpenAI's speech API, what the server has, and how it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router, WebSocketRoute

from gsvexport.errors import GsvError
from gsvexport.runtime.audio import Audio
from gsvexport.serve.catalogue import Catalogue
from gsvexport.serve.far import FarDesk
from gsvexport.serve.faults import Fault
from gsvexport.serve.front import front, report
from gsvexport.serve.gather import Gatherer
from gsvexport.serve.guard import App, Guard, Message, Receive, Send, told
from gsvexport.serve.live import Live
from gsvexport.serve.logs import Log
from gsvexport.serve.metrics import MEDIA as METRICS_MEDIA
from gsvexport.serve.metrics import Metrics
from gsvexport.serve.pool import Pool
from gsvexport.serve.settings import Settings
from gsvexport.serve.sound import MEDIA, Pieces, encoded
from gsvexport.serve.speech import Desk
from gsvexport.serve.warm import warm
from gsvexport.serve.watch import Watch
from gsvexport.serve.wishes import OWN, Asked, asked, read_body

_MOST_NOTES = 10  # sentences that ran away, told of in a header


class Service:
    """One server: its voices, its pool and its application, `guard`. It has to be made inside of the event loop."""

    def __init__(
        self, settings: Settings, gatherer: Gatherer, log: Log, desk: FarDesk | None = None, **pool: Any
    ) -> None:
        self.settings, self.log, self.metrics = settings, log, Metrics()
        self.catalogue = gatherer.look()
        self.watch = Watch(gatherer.look, self.change, settings.watch, log)
        self.watch.begun(self.catalogue)
        self.desk: Desk | FarDesk = desk or Desk(settings, Pool(settings, told=self._told, **pool))
        self.ready = False
        self.guard = Guard(self._app(), settings, log, self.metrics)

    async def start(self) -> None:
        """Load what all voices need, and open the pinned ones.

        Raises:
            InputError: the budget of memory holds no voice.
            ArtifactError, BackendError: a pinned one cannot be opened.
        """
        if isinstance(self.desk, Desk):
            await warm(self.desk.pool, self.catalogue.offers.values(), self.settings.memory, self.log)
        for name in self.settings.pin:
            await self.desk.open(self.catalogue.offers[name])
        self.ready = True

    async def change(self, catalogue: Catalogue) -> None:
        """Serve these voices from now on. Who is being spoken to by another version hears it to its end."""
        before, self.catalogue = self.catalogue, catalogue
        for name in {**before.offers, **catalogue.offers}:
            old, new = before.offers.get(name), catalogue.offers.get(name)
            if old is None or new is None or old.key != new.key:
                what = "voice_new" if old is None else "voice_gone" if new is None else "voice_replaced"
                self.log(what, voice=name, digest=(new or before.offers[name]).manifest.digest)
        self.desk.keep(one.key for one in catalogue.offers.values())
        for name in self.settings.pin:
            if name in catalogue.offers:
                try:
                    await self.desk.open(catalogue.offers[name])
                except GsvError as error:  # told of again to whoever asks for it
                    self.log("not_opened", voice=name, error=str(error))

    async def stop(self) -> None:
        """Refuse what comes, wait for what is being answered (as long as the settings say), close every voice."""
        self.guard.stopping, self.ready = True, False
        ends = time.monotonic() + self.settings.grace
        while self.guard.active and time.monotonic() < ends:
            await asyncio.sleep(0.02)

    def _told(self, what: str, voice: str, seconds: float, growth: int) -> None:
        if what == "opened":
            self.metrics.loads.observe(seconds)
        else:
            self.metrics.closed.inc()
        self.log(what, voice=voice, seconds=seconds, grown=growth or None)

    def _app(self) -> App:
        live = Live(self.settings, lambda: self.catalogue, self.desk, self.metrics)
        return Router(
            routes=[
                Route("/v1/audio/speech", _Asgi(self._speak), methods=["POST"]),
                Route("/v1/models", self._models),
                Route("/v1/models/{name}", self._model),
                Route("/voices", self._voices),
                Route("/voices/{name}/report", self._report),
                Route("/", front),
                Route("/healthz", _healthy),
                Route("/readyz", self._readiness),
                Route("/metrics", self._measured),
                WebSocketRoute("/v1/audio/live", live.run),
            ],
        )

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_model(name) for name in (OWN, *self.catalogue.offers)]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in (OWN, *self.catalogue.offers):
            raise Fault(404, f"there is no model {name[:80]!a}", "model_not_found", "model")
        return JSONResponse(_model(name))

    async def _voices(self, _: Request) -> Response:
        opened = self.desk.opened
        rows = [
            {**one.to_json(), **({} if opened is None else {"open": one.key in opened})}
            for one in self.catalogue.offers.values()
        ]
        return JSONResponse({"voices": rows, "aliases": dict(self.catalogue.aliases)})

    async def _report(self, request: Request) -> Response:
        offer = self.catalogue.find(request.path_params["name"])
        data = None if offer is None else await asyncio.to_thread(report, offer)
        if data is None:
            raise Fault(404, "there is no such voice, or it has no report", "voice_not_found", "voice")
        return Response(data, media_type="application/json")

    async def _readiness(self, _: Request) -> Response:
        return JSONResponse({"ready": self.ready}, 200 if self.ready else 503)

    async def _measured(self, _: Request) -> Response:
        self.metrics.open.set(len(self.desk.opened or ()))
        self.metrics.grown.set(self.desk.growth or 0)
        self.metrics.waiting.set(self.desk.waiting)
        self.metrics.active.set(self.guard.active)
        return Response(self.metrics.page(), headers={"content-type": METRICS_MEDIA})

    async def _speak(self, scope: Message, receive: Receive, send: Send) -> None:
        request = Request(scope)
        data = await read_body(request.headers, receive, self.settings)
        ended = False

        async def sending(message: Message) -> None:
            nonlocal ended
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        work = asyncio.ensure_future(self._answer(asked(data, self.catalogue, self.settings), sending))
        watch = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({work, watch}, timeout=self.settings.deadline, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or ended:  # who has heard all of it may go
                return await work
            if watch.done():
                self.metrics.left.inc()
                told.get()["status"] = 499
                return None
            raise TimeoutError
        finally:
            for task in (work, watch):
                task.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _answer(self, one: Asked, send: Send) -> None:
        began, line, wish = time.monotonic(), told.get(), one.wish
        line |= {"voice": wish.offer.id, "characters": len(wish.text), "format": one.format}
        if self.settings.log_text:
            line["text"] = wish.text
        async with self.desk.speech(wish) as speech:
            line["waited"] = time.monotonic() - began
            first = await speech.next()
            assert first is not None
            line["first_sound"] = time.monotonic() - began
            self.metrics.first.observe(line["first_sound"])
            if wish.pieces:
                line["sound"] = await _send_pieces(one.format, first, speech.next, send)
            else:
                line["sound"] = first.seconds
        if not wish.pieces:  # the turn is somebody else's by now
            await _send_whole(await asyncio.to_thread(encoded, first, one.format), one.format, first, send)
        self.metrics.sound.labels(wish.offer.id).inc(line["sound"])
        self.metrics.total.observe(time.monotonic() - began)


class _Asgi:
    """An endpoint that gets the raw application, so that it alone decides when what is sent."""

    def __init__(self, run: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._run = run

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._run(scope, receive, send)


async def _send_whole(data: bytes, form: str, audio: Audio, send: Send) -> None:
    headers = [(b"content-type", MEDIA[form].encode()), (b"content-length", str(len(data)).encode())]
    if audio.notes:  # a text of ours; what ran away is worth knowing before it is heard
        headers.append((b"x-notes", json.dumps(audio.notes[:_MOST_NOTES]).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def _send_pieces(form: str, first: Audio, more: Callable[[], Awaitable[Audio | None]], send: Send) -> float:
    """Send each piece as soon as it is there and the one before was taken; returns the seconds of sound."""
    coder = Pieces(form, first.rate)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", MEDIA[form].encode())]})
    seconds, piece = 0.0, first
    async for piece in _all(first, more):
        seconds += piece.seconds
        if data := coder.add(piece):
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": coder.end()})
    return seconds


async def _all(first: Audio, more: Callable[[], Awaitable[Audio | None]]) -> AsyncIterator[Audio]:
    piece: Audio | None = first
    while piece is not None:
        yield piece
        piece = await more()


async def _left(receive: Receive) -> None:
    """Until the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _healthy(_: Request) -> Response:
    return JSONResponse({"ok": True})


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "gsvexport"}
