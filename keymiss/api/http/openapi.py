"""Parts of the OpenAPI document that the framework does not write by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.config import JsonDict

from keymiss.api.http.problems import MEDIA_TYPE, RETRY_AFTER_S, TABLE, Problem

PROBLEM_EXAMPLE: JsonDict = {
    "type": "about:blank",
    "title": "The question is invalid",
    "status": 422,
    "detail": "search: Field required",
    "request_id": "0af7651916cd43dd8448eb211c80319c",
}


RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {
        "description": "Seconds after which it is worth while to ask again.",
        "schema": {"type": "integer", "minimum": 1},
    }
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


def problem_docs(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: these problems, by status."""
    titles: dict[int, list[str]] = {}
    for kind in kinds:
        status, title = TABLE[kind]
        titles.setdefault(status, []).append(title)
    schema = {"$ref": "#/components/schemas/ProblemDetail"}
    docs: dict[int | str, dict[str, Any]] = {}
    for status, said in titles.items():
        docs[status] = {"description": "; or: ".join(said), "content": {MEDIA_TYPE: {"schema": schema}}}
        if status in RETRY_AFTER_S:
            docs[status]["headers"] = RETRY_AFTER
    return docs


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its body by hand; the model goes to `describe` too."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe(app: FastAPI, *models: type[BaseModel]) -> None:
    """Adds the shapes that are read or made by hand, and examples whole: the framework drops their nulls."""
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        document = generated()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        shapes: tuple[type[BaseModel], ...] = (ProblemDetail, *models)
        for model in shapes:
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            for name, inner in schema.pop("$defs", {}).items():
                schemas.setdefault(name, inner)
            schemas.setdefault(model.__name__, schema)["examples"] = schema["examples"]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
