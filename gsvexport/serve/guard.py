"""Around every request: an id, the key, a place while the server stops, one line in the log."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import hmac
import ipaddress
import re
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gsvexport.errors import GsvError, InputError
from gsvexport.serve.faults import Fault, fault_of
from gsvexport.serve.logs import Log
from gsvexport.serve.metrics import Metrics
from gsvexport.serve.settings import Settings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = ("/healthz", "/readyz", "/")  # without a key: whoever watches a machine has none, and a browser not yet
PATHS = ("/v1/audio/speech", "/v1/audio/live", "/v1/models", "/voices", "/metrics", *OPEN)
_OWN_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")
_FRAME = 5  # of a traceback, in the log

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
told: contextvars.ContextVar[dict[str, Any]] = contextvars.ContextVar("told")  # for the request's line in the log


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: App, settings: Settings, log: Log, metrics: Metrics) -> None:
        self._app, self._settings, self._log, self._metrics = app, settings, log, metrics
        self._key = hashlib.sha256(settings.key.encode()).digest()
        self.stopping = False
        self.active = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        name = given if _OWN_ID.fullmatch(given) else secrets.token_hex(8)
        request_id.set(name)
        more: dict[str, Any] = {}
        told.set(more)
        began, status = time.monotonic(), 0
        scope["app"] = self  # so that a path or method that is not there raises, and is answered like everything else

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name.encode())]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        path = scope["path"] if scope["path"] in PATHS else "other"
        self.active += 1
        try:
            if refusal := self._refusal(scope, headers):
                raise refusal
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            status = status or 499
            raise
        except Exception as error:
            fault = fault_of(error, name)
            more |= self._words(error, fault)
            if not status:
                await refuse(scope, answer, fault)
            # Else it has begun. The server closes a connection whose answer was not ended, and so the caller knows.
        finally:
            self.active -= 1
            self._metrics.requests.labels(path, str(more.get("status", status))).inc()
            shown = {"method": scope.get("method", "WS"), "path": path, "status": status}
            self._log("request", request=name, **{**shown, **more}, seconds=time.monotonic() - began)

    def _refusal(self, scope: Message, headers: dict[str, str]) -> Fault | None:
        """Why a request is not looked at, or None."""
        path = scope["path"]
        if path == OPEN[0]:
            return None
        if self.stopping:
            after = (("retry-after", "5"), ("connection", "close"))
            return Fault(503, "the server is stopping", "stopping", headers=after)
        if path in OPEN:
            return None
        if self._settings.key:
            scheme, _, key = headers.get("authorization", "").partition(" ")
            found = hashlib.sha256(key.strip().encode()).digest()
            if not hmac.compare_digest(found, self._key) or scheme.lower() != "bearer":
                return Fault(401, "the API key is missing or wrong", "invalid_api_key")
            return None
        # Without a key, a web page in a browser on this machine must not reach what the machine's users may reach:
        # neither by a name of its own that leads here, nor by a WebSocket, which asks nobody.
        if not _this_machine(headers.get("host", "")):
            return Fault(403, "without an API key only this machine is answered", "forbidden_host")
        if scope["type"] == "websocket" and "origin" in headers:
            return Fault(403, "without an API key no web page is answered", "forbidden_origin")
        return None

    def _words(self, error: Exception, fault: Fault) -> dict[str, Any]:
        """What the log is told of an error. What is wrong with a text quotes it, so that stays out unless asked."""
        found: dict[str, Any] = {"code": fault.code}
        if isinstance(error, (Fault, InputError)):
            if self._settings.log_text:
                found["error"] = str(error)
        elif isinstance(error, GsvError):
            found["error"] = str(error)
        else:
            frames = traceback.extract_tb(error.__traceback__)[-_FRAME:]
            found["error"] = type(error).__name__
            found["at"] = [f"{one.filename}:{one.lineno}" for one in frames]
        return found


async def refuse(scope: Message, send: Send, fault: Fault) -> None:
    """Answer with an error instead of what was asked for."""
    before = "websocket.http" if scope["type"] == "websocket" else "http"
    body = fault.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in fault.headers]
    status = fault.status if fault.status != 499 else 400
    await send({"type": f"{before}.response.start", "status": status, "headers": headers})
    await send({"type": f"{before}.response.body", "body": body})


def _this_machine(host: str) -> bool:
    """Whether a Host header names this machine by a name that nobody can give it from outside."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]")
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
