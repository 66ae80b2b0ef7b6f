"""How long a program of somebody else's may take."""

from __future__ import annotations

import os

from gsvexport.errors import InputError


def seconds_of(variable: str, default: float) -> float:
    """Seconds, as the environment's `variable` says, or `default`.

    Raises:
        InputError: it says no number above 0.
    """
    text = os.environ.get(variable)
    try:
        found = default if text is None else float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise InputError(f"{variable} is {text!r}", limit="seconds, more than 0", fix=f"unset {variable}")
    return found
