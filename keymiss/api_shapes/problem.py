"""How every error looks (RFC 9457)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

PROBLEM_EXAMPLE: JsonDict = {
    "type": "about:blank",
    "title": "The question is invalid",
    "status": 422,
    "detail": "search: Field required",
    "request_id": "0af7651916cd43dd8448eb211c80319c",
}


class ProblemDetail(BaseModel):
    """An error (RFC 9457). Some have more members, as ``errors`` or ``coverage``."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [PROBLEM_EXAMPLE]})
    __pydantic_extra__: dict[str, JsonValue]

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str | None = Field(None, description="That of the reply's X-Request-ID: every log has it.")
