"""Logs: one JSON object a line on standard error, without a word that callers sent unless that was asked for."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import datetime, timezone
from typing import IO, Any

_LONGEST = 4000  # characters of one value


class Log:
    """Writes lines; any thread may."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._lock = threading.Lock()

    def __call__(self, event: str, **values: Any) -> None:
        """One event; values that are None are left out."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        told: dict[str, Any] = {"time": now, "event": event}
        told |= {
            key: value[:_LONGEST] if isinstance(value, str) else round(value, 4) if isinstance(value, float) else value
            for key, value in values.items()
            if value is not None
        }
        line = json.dumps(told, default=str)  # ASCII: nothing in it steers a terminal
        with self._lock:
            try:
                self._out.write(f"{line}\n")
                self._out.flush()
            except (OSError, ValueError):  # nobody reads any more; that is no reason to stop speaking
                return


class Handler(logging.Handler):
    """Puts what a library logs into the same lines."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        what = record.exc_info[1] if record.exc_info else None
        self._log("library", logger=record.name, level=record.levelname, message=record.getMessage(), error=what)
