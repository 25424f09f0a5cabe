"""The OpenAPI document is complete: summaries, examples that fit their schemas, all errors of a route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from keymiss.api.app import create_app
from keymiss.api.http import problems
from keymiss.api.http.openapi import problem_docs
from keymiss.api.settings import ApiSettings

DOCUMENT = create_app(ApiSettings()).openapi()
METHODS = {"get", "post", "delete", "put", "patch"}
OPERATIONS = {
    (method, path): operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
    if method in METHODS
}
ERRORS = {
    ("post", "/qasearch"): {400, 408, 413, 422, 429, 503, 504},
    ("get", "/search"): {422, 503, 504},
    ("post", "/search"): {400, 408, 413, 422, 503, 504},
    ("get", "/edge/{source}:{target}"): {404, 422, 503, 504},
    ("get", "/edge/edges:{source}:{target}"): {404, 422, 503, 504},
    ("get", "/exclude"): {403, 409, 422},
    ("post", "/exclude"): {400, 403, 408, 409, 413, 422},
    ("delete", "/exclude"): {403},
    ("post", "/articles"): {400, 401, 403, 408, 413, 422, 429, 503, 504},
    ("get", "/articles/{article}"): {404, 422, 429, 503, 504},
    ("delete", "/articles/{article}"): {401, 403, 404, 422, 429, 503, 504},
    ("get", "/watch/dashboards"): set(),
    ("get", "/watch/dashboards/{uid}"): {404, 422},
    ("get", "/watch/dashboards/{uid}/panels/{panel_id}"): {404, 422, 429, 502, 503, 504},
    ("get", "/livez"): set(),
    ("get", "/readyz"): {503},
    ("get", "/healthz"): {503},
}
each_operation = pytest.mark.parametrize("at", list(OPERATIONS), ids=" ".join)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def assert_fits(value: object, schema: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError; references are looked up in the document."""
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def schemas_of(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for media in content.values():
        yield media["schema"]


def test_every_route_is_there() -> None:
    assert set(OPERATIONS) == set(ERRORS)


@each_operation
def test_it_has_a_summary_and_a_description(at: tuple[str, str]) -> None:
    assert OPERATIONS[at]["summary"]
    assert OPERATIONS[at]["description"]


@each_operation
def test_its_request_has_examples_that_fit(at: tuple[str, str]) -> None:
    operation = OPERATIONS[at]
    assert ("requestBody" in operation) == (at[0] == "post")
    for schema in schemas_of(operation.get("requestBody", {}).get("content", {})):
        examples = resolved(schema)["examples"]
        assert examples
        for example in examples:
            assert_fits(example, schema)
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter
        examples = parameter["schema"].get("examples") or [parameter["example"]]
        for example in examples:
            assert_fits(example, parameter["schema"])


@each_operation
def test_its_reply_has_examples_that_fit(at: tuple[str, str]) -> None:
    good = [reply for status, reply in OPERATIONS[at]["responses"].items() if status.startswith("2")]
    assert len(good) == 1
    (schema,) = schemas_of(good[0]["content"])
    examples = resolved(schema)["examples"]
    assert examples
    for example in examples:
        assert_fits(example, schema)


@each_operation
def test_its_reply_s_examples_show_every_member(at: tuple[str, str]) -> None:
    """So that a reader of the example knows them all."""
    good = next(reply for status, reply in OPERATIONS[at]["responses"].items() if status.startswith("2"))
    (schema,) = schemas_of(good["content"])
    for example in resolved(schema)["examples"]:
        assert set(example) == set(resolved(schema)["properties"])


@each_operation
def test_its_errors_are_listed_as_problems(at: tuple[str, str]) -> None:
    errors = {int(status): reply for status, reply in OPERATIONS[at]["responses"].items() if status >= "300"}
    assert set(errors) == ERRORS[at]
    for reply in errors.values():
        assert list(reply["content"]) == [problems.MEDIA_TYPE]
        (schema,) = schemas_of(reply["content"])
        assert schema == {"$ref": "#/components/schemas/ProblemDetail"}
        assert reply["description"]


def test_what_needs_the_admin_key_is_marked() -> None:
    marked = {at for at, operation in OPERATIONS.items() if operation.get("security")}
    assert marked == {("post", "/articles"), ("delete", "/articles/{article}")}
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert [(s["type"], s["in"], s["name"]) for s in schemes.values()] == [
        ("apiKey", "header", "X-Admin-Key")
    ]


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    found = set(references(DOCUMENT))
    assert found
    names = DOCUMENT["components"]["schemas"]
    assert {ref for ref in found if ref.rpartition("/")[2] not in names} == set()


def test_several_problems_of_one_status_are_all_described() -> None:
    docs = problem_docs(problems.BadQuestion, problems.UnusableArticle, problems.NotJson)
    assert set(docs) == {400, 422}
    for kind in (problems.BadQuestion, problems.UnusableArticle):
        assert problems.TABLE[kind][1] in docs[422]["description"]


def test_the_admin_key_is_not_shown_with_the_settings() -> None:
    assert "a secret of some length" not in repr(
        ApiSettings.from_env({"KEYMISS_API_ADMIN_KEY": "a secret of some length"})
    )
