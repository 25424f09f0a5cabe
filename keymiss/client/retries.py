"""How often and when a call is repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class Retries:
    """``Retries(attempts=1)`` repeats nothing.

    What is repeated: a reply of 429 or 503, a connection that failed or broke. Deleting is repeated only
    when it was not begun: 429, no connection. What took its whole time (504, `TimedOut`) is not repeated.
    """

    attempts: int = 4
    """Of one call, with the first."""
    total_s: float = 30.0
    """No attempt begins later than this after the call; the last error is raised instead."""
    first_wait_s: float = 0.25
    """Without Retry-After: at most this, then at most twice as long each time. How long is left to chance, so
    that many clients do not come back at once; up to so much is added to what Retry-After asks for, too."""
    longest_wait_s: float = 8.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be 1 or more, not {self.attempts}")
        if min(self.total_s, self.first_wait_s, self.longest_wait_s) < 0:
            raise ValueError("times must not be negative")

    def wait_s(self, attempt: int, spent_s: float, retry_after_s: float | None) -> float | None:
        """How long to wait after the failed `attempt` (the first is 1); None: no more attempts."""
        if attempt >= self.attempts:
            return None
        if retry_after_s is None:
            wait_s = random.uniform(0, min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1)))
        else:
            wait_s = retry_after_s + random.uniform(0, self.first_wait_s)
        return wait_s if spent_s + wait_s <= self.total_s else None


DEFAULT_RETRIES = Retries()


def retry_after_s(header: str | None) -> float | None:
    """Of a reply's Retry-After, seconds or a date (RFC 9110, 10.2.3); None when it is neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
