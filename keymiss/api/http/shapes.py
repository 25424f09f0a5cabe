"""What the requests and replies of several routes share: a question's text, limits, a concept's name."""

from __future__ import annotations

from pydantic import BaseModel

MAX_BODY_BYTES = 64 * 1024
MAX_QUESTION_CHARACTERS = 512
MAX_RESULTS = 100
MAX_OFFSET = 10_000
EXAMPLE_QUESTION = "Who performs viral transmission among adults"


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


class ConceptName(BaseModel):
    """A concept of the concept table."""

    id: str
    name: str
