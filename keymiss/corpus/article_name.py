"""What an article is called: its paper_id, without the ending of a file."""

from __future__ import annotations

import re

from keymiss.corpus.prose import CONTROL
from keymiss.keys import check_article

MAX_NAME_CHARS = 256
_FILE_ENDING = re.compile(r"(?:\.(?:json|nxml|pdf|tei|txt|xml))+$", re.IGNORECASE)


def without_ending(paper_id: str) -> str:
    """``PMC1.xml`` or ``PMC1.xml.json``: ``PMC1``."""
    return _FILE_ENDING.sub("", paper_id.strip())


def checked_name(paper_id: str) -> str:
    """The name, if it can be part of a key; else ValueError says why not."""
    name = without_ending(paper_id)
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"paper_id is longer than {MAX_NAME_CHARS} characters")
    if CONTROL.search(name) or any(letter.isspace() for letter in name):
        raise ValueError("paper_id has blanks or control characters")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError("paper_id is not valid Unicode") from None
    try:
        return check_article(name)
    except ValueError as error:
        raise ValueError(f"paper_id: {error}") from None
