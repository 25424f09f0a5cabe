"""What retrieval finds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from keymiss.keys import SENTENCE_PREFIX, sentence_id


@dataclass(frozen=True)
class Candidate:
    """A sentence that may hold the answer.

    ``bm25``: 0 when it was not among the best by words. ``cosine``: of the vectors of question and sentence,
    with its neighbours; None when one of them was not there. ``coverage``: the share of the question's words,
    by how rare they are, that stand in the sentence or its neighbours, 0 to 1. ``found_by``: the signals
    ("bm25", "vectors", "graph") that had it among their best. ``score``: of the fused ranking, comparable
    within one question.
    """

    article: str
    tag: str
    idx: str
    sentence: str
    bm25: float
    cosine: float | None = None
    found_by: tuple[str, ...] = ("bm25",)
    score: float = 0.0
    coverage: float = 0.0

    @cached_property
    def sentencekey(self) -> str:
        """``<article>:{tag}:<idx>``, as in the answer's key."""
        return sentence_id(self.article, self.tag, self.idx)


def parse_sentence_key(key: bytes) -> tuple[str, str] | None:
    """``sentence:<article>:{tag}`` to (article, tag); None when the key is not of that form."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return None
    article, middle, tag = text.removeprefix(SENTENCE_PREFIX).rpartition(":{")
    if not (text.startswith(SENTENCE_PREFIX) and middle and tag.endswith("}")):
        return None
    try:
        sentence_id(article, tag, 0)  # raises when the article's name cannot be part of a key
    except ValueError:
        return None
    return article, tag[:-1]
