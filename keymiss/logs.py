"""One JSON object per line on stderr: ``{"t": unix seconds, "level": ..., "event": ..., ...}``."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

_LOCK = threading.Lock()


def log_event(event: str, level: str = "info", **fields: Any) -> None:
    """Writes one line. Values that JSON cannot hold are written as their str()."""
    line = json.dumps({"t": round(time.time(), 3), "level": level, "event": event, **fields}, default=str)
    with _LOCK:
        print(line, file=sys.stderr, flush=True)


def one_line(error: BaseException, limit: int = 1000) -> str:
    """``TypeName: text`` on one line, at most `limit` characters: what a client gets to read."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:limit]
