"""HTML that is safe by construction: text is escaped when it becomes part of an element, elements are not.

Names of voices, targets and tools come from strangers, so nothing here takes a string for markup by itself.
"""

from __future__ import annotations

import html
import re

# Control characters, which a terminal obeys and HTML forbids, and those that turn the direction of writing around.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_VOID = {"img", "meta", "br", "col", "image", "rect", "line", "path"}


class Html(str):
    """Markup that is finished: it is not escaped again."""

    __slots__ = ()


def plain(text: object) -> str:
    """Text without characters that could change what stands around it; each becomes U+FFFD, a line break a space."""
    return _UNSEEN.sub("\ufffd", str(text).replace("\n", " ").replace("\t", " "))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """`<name attributes>children</name>`; children that are no `Html` are escaped, `None` is left out.

    Attributes are escaped, too; `class_` gives `class`, other underscores become hyphens. None leaves an attribute out.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(plain(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID and not children:
        return Html(f"<{name}{told}/>")
    return Html(f"<{name}{told}>{joined(children)}</{name}>")


def joined(children: object) -> Html:
    """Children, nested lists included, one after the other."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, (list, tuple)):
        return Html("".join(joined(child) for child in children))
    return Html(html.escape(plain(children), quote=True))
