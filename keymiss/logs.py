"""One JSON object per line on stderr: ``{"t": unix seconds, "level": ..., "event": ..., ...}``.

Lines that are written while the API handles a request have its ``request_id``.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
import traceback
from typing import Any

from keymiss.request_id import current_request_id

_LOCK = threading.Lock()


def log_event(event: str, level: str = "info", **fields: Any) -> None:
    """Writes one line. Values that JSON cannot hold are written as their str()."""
    _write(time.time(), level, event, fields)


def _write(at_s: float, level: str, event: str, fields: dict[str, Any]) -> None:
    request_id = current_request_id.get()
    if request_id is not None:
        fields = {"request_id": request_id, **fields}
    line = json.dumps({"t": round(at_s, 3), "level": level, "event": event, **fields}, default=str)
    with _LOCK:
        print(line, file=sys.stderr, flush=True)


class JsonHandler(logging.Handler):
    """The same shape for the lines of ``logging``: event ``log``, the ``logger``, the ``message``, and the
    ``traceback`` of an exception."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line."""
        fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        _write(record.created, record.levelname.lower(), "log", fields)


def log_as_json(level: str) -> None:
    """From here on every line of ``logging``, and every Python warning, is such an object."""
    logging.basicConfig(level=level.upper(), handlers=[JsonHandler()])
    logging.captureWarnings(True)


def one_line(error: BaseException, limit: int = 1000) -> str:
    """``TypeName: text`` on one line, at most `limit` characters: what a client gets to read."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:limit]
