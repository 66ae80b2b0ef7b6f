"""The page at `/`: one file with its script and style in it, and the headers that keep anything else out of it.

It holds nothing that is anybody's, so it needs no key; what it asks for does.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response

from gsvexport.artifact import container
from gsvexport.artifact.manifest import REPORT
from gsvexport.errors import ArtifactError
from gsvexport.files import sha256_bytes
from gsvexport.serve.catalogue import Offer


async def front(_: Request) -> Response:
    """Answer with the page."""
    data, headers = _page()
    return Response(data, headers=dict(headers))


def report(offer: Offer) -> bytes | None:
    """The bytes of the report inside of what was judged; None where it has none.

    Raises:
        ArtifactError: the file was replaced since.
    """
    if offer.manifest.report is None:
        return None
    data = container.read_member(offer.path, REPORT)
    if sha256_bytes(data) != offer.manifest.report.sha256:
        raise ArtifactError(f"{offer.path} was replaced while it was read", fix="try again")
    return data


@functools.cache
def _page() -> tuple[bytes, tuple[tuple[str, str], ...]]:
    folder = resources.files("gsvexport.serve") / "page"
    html, style, script = ((folder / f"page.{kind}").read_text("utf-8") for kind in ("html", "css", "js"))
    rules = {
        "default-src": "'none'",
        "script-src": _named(script),
        "style-src": _named(style),
        "connect-src": "'self'",
        "media-src": "blob:",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(f"{name} {what}" for name, what in rules.items()),
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "cache-control": "no-cache",
    }
    return html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).encode(), tuple(headers.items())


def _named(text: str) -> str:
    """What a browser runs of it: exactly that."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
