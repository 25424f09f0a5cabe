"""The text of a question or a search, and the limits that the requests with one share."""

from __future__ import annotations

MAX_BODY_BYTES = 64 * 1024
MAX_QUESTION_CHARACTERS = 512
MAX_OFFSET = 10_000


def clean_question(text: str) -> str:
    """White space at the ends goes, each run inside becomes one space: the cache key is the same then.

    ValueError: nothing is left, or a NUL is in it.
    """
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    text = " ".join(text.split())
    if not text:
        raise ValueError("must not be blank")
    return text
