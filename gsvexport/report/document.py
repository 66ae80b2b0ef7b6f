"""An HTML file around a page's body: it loads nothing, and runs nothing but what its policy names."""

from __future__ import annotations

from collections.abc import Sequence

from gsvexport.report.markup import Html, element
from gsvexport.report.style import STYLE

_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def document(title: str, body: Sequence[object], script: str = "") -> str:
    """The whole file; `script` is the source expression, a hash, of the only script that may run."""
    head = (
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element(
            "meta", http_equiv="Content-Security-Policy", content=_POLICY + (f"; script-src {script}" if script else "")
        ),
        element("title", title),
        element("style", Html(STYLE)),
    )
    return "<!DOCTYPE html>\n" + element("html", element("head", head), element("body", *body), lang="en") + "\n"
