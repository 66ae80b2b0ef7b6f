"""Errors as OpenAI's API tells them, in our words."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from starlette.exceptions import HTTPException

from gsvexport.errors import GsvError, InputError, printable
from gsvexport.serve.pool import Withdrawn
from gsvexport.serve.turns import Busy

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


@dataclass(eq=False)  # not frozen: Python itself writes to an exception that is raised
class Fault(Exception):
    """An answer that is none: HTTP status, words, and what of the request they are about."""

    status: int
    message: str
    code: str
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def kind(self) -> str:
        """OpenAI's name for what went wrong."""
        return _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    def body(self) -> bytes:
        """The JSON that a client reads."""
        told = {"message": printable(self.message), "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": told}, ensure_ascii=False).encode("utf-8", "backslashreplace")


def fault_of(error: BaseException, request: str) -> Fault:
    """What a caller is told of an error. What is no fault of theirs is in the log alone: it may name files."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, Busy):
        return Fault(429, str(error), "busy", headers=(("retry-after", str(error.after)),))
    if isinstance(error, Withdrawn):
        return Fault(404, "that voice was taken back; GET /voices lists the others", "voice_not_found", "voice")
    if isinstance(error, HTTPException):  # of the router
        what = "there is nothing at this path" if error.status_code == 404 else "this path knows no such method"
        return Fault(error.status_code, what, "not_found" if error.status_code == 404 else "method_not_allowed")
    if isinstance(error, InputError):
        return Fault(400, str(error), "cannot_be_spoken", "input")
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Fault(504, "the deadline passed before it was spoken", "deadline")
    what = "the voice" if isinstance(error, GsvError) else "the server"
    return Fault(500, f"{what} failed; the server's log tells more of request {request}", "failed")
