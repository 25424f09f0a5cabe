"""What `/articles` takes and gives."""

from __future__ import annotations

import enum
from typing import Any

from pydantic import ConfigDict, Field

from keymiss.api_shapes.base import SENTENCEKEY, ConceptName, Reply, Shape


class ArticleState(enum.StrEnum):
    """How far an article is."""

    ACCEPTED = "accepted"  # its text is stored and not yet, or not in this version, split into sentences
    PROCESSED = "processed"  # its sentences are there; tensors, concepts and vectors follow from them
    SKIPPED = "skipped"  # not split: `skipped` says why
    REMOVING = "removing"  # its text was deleted, the rest is on its way out
    DELETED = "deleted"


EXAMPLE_ARTICLE: dict[str, Any] = {
    "paper_id": "KM0001",
    "metadata": {"title": "How respiratory viruses move", "year": 2020, "month": 3, "day": 14},
    "body_text": [
        {"text": "The virus is passed to adults by infected children. In them it is mild."},
        {"text": "Masks and open windows help."},
    ],
}


class Author(Shape):
    """Of an article."""

    first: str = ""
    middle: tuple[str, ...] = ()
    last: str = ""
    suffix: str = ""


class Metadata(Shape):
    """What is known of an article."""

    title: str = ""
    year: int | str | None = Field(None, description="At most four digits, as month and day.")
    month: int | str | None = None
    day: int | str | None = None
    authors: tuple[Author, ...] = ()
    journal: str = ""
    url: str = Field("", description="Where the article can be read, http or https.")


class Paragraph(Shape):
    """One paragraph."""

    text: str = Field(description="At most 1,000,000 characters.")


class PostedArticle(Shape):
    """An article in the CORD-19 format, as far as it is read (by keymiss.corpus.article_file)."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE_ARTICLE]})

    paper_id: str = Field(
        description="The article's name: no blanks, no underscore, no brace. The ending of a file (.xml, "
        ".json) is left out."
    )
    metadata: Metadata
    abstract: tuple[Paragraph, ...] = Field((), description="Left out where body_text has it too.")
    body_text: tuple[Paragraph, ...]


class Accepted(Reply):
    """The article is stored; its sentences follow."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "article": "KM0001",
                    "sentences": None,
                    "state": "accepted",
                    "replaced": False,
                    "notes": [],
                    "href": "/articles/KM0001",
                }
            ]
        }
    )

    article: str
    sentences: int | None = Field(description="Not known yet.")
    state: ArticleState
    replaced: bool = Field(description="There was an article of that name; it is this one now.")
    notes: tuple[str, ...] = Field(description="What was repaired in the text.")
    href: str = Field(description="Where to see how far it is; also in the header Location.")


class Sentence(Shape):
    """One sentence of the article."""

    idx: int
    sentence: str
    sentencekey: str = Field(description=SENTENCEKEY)
    paragraph: int | None = Field(description="Of the article's text, from 0; null when it is not known.")
    concepts: tuple[ConceptName, ...]


class ArticleReply(Reply):
    """An article and a page of its sentences."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "article": "KM0001",
                    "title": "How respiratory viruses move",
                    "year": 2020,
                    "month": 3,
                    "day": 14,
                    "authors": ["Ada Example"],
                    "journal": "Journal of Examples",
                    "url": "https://doi.org/10.1234/example",
                    "source": "KM0001.json",
                    "shard": "6fd",
                    "state": "processed",
                    "language": "en",
                    "skipped": None,
                    "sentences": [
                        {
                            "idx": 0,
                            "sentence": "The virus is passed to adults by infected children.",
                            "sentencekey": "sentence:KM0001:{hno}:0",
                            "paragraph": 0,
                            "concepts": [{"id": "KC0140", "name": "adult"}],
                        }
                    ],
                    "total": 3,
                    "limit": 1,
                    "offset": 0,
                }
            ]
        }
    )

    article: str
    title: str | None
    year: int | None
    month: int | None
    day: int | None
    authors: tuple[str, ...]
    journal: str | None
    url: str | None = Field(description="Where the article can be read.")
    source: str | None = Field(description="The file that it was loaded from; null when it came over HTTP.")
    shard: str = Field(description="The hash tag that names the shard.")
    state: ArticleState = Field(
        description="accepted: not split into sentences yet; processed; skipped: `skipped` says why; "
        "removing: its text was deleted, the rest follows."
    )
    language: str | None
    skipped: str | None = Field(description="Why it was not split into sentences.")
    sentences: tuple[Sentence, ...]
    total: int = Field(description="Sentences that there are.")
    limit: int
    offset: int


class Deleted(Reply):
    """The article's text is gone; the rest follows."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"article": "KM0001", "state": "deleted"}]})

    article: str
    state: ArticleState
