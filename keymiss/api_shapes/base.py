"""What all shapes share: the base classes, a concept's name, an example."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

SENTENCEKEY = "sentence:<article>:{tag}:<idx>: the hash that the sentence is in, and its field"
CREATED_AT = "`first_year` as a text, as The Pattern has it; null when no year is known."
EXAMPLE_QUESTION = "Who performs viral transmission among adults"


class Shape(BaseModel):
    """Cannot be changed. Members that it does not know are ignored: a newer service may send some."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Reply(Shape):
    """The whole body of a reply."""

    _request_id: str | None = PrivateAttr(None)

    @property
    def request_id(self) -> str | None:
        """The id of its request, which is in every log: the reply's header X-Request-ID. Not in the body."""
        return self._request_id

    def of_request(self, request_id: str) -> Self:
        """Itself, now with the id."""
        self._request_id = request_id
        return self


class ConceptName(Shape):
    """A concept of the concept table."""

    id: str
    name: str = Field(description="The id again when the concept table does not have the concept.")
