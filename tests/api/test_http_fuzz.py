"""Requests made up from the OpenAPI document, right and wrong, to the API in front of real shards: each reply
is one that the document has, and none a 500. KEYMISS_TEST_FUZZ says how many requests to each operation."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi import checks

from keymiss.api.app import create_app
from keymiss.api.settings import ApiSettings
from tests.api.processes import ApiProcess
from tests.patience import patient
from tests.servers import RedisClusterServers

REQUESTS = int(os.environ.get("KEYMISS_TEST_FUZZ", "20"))
ADMIN_KEY = "an admin key of this test"
SCHEMA = schemathesis.openapi.from_dict(create_app(ApiSettings()).openapi())
CHECKED: list[CheckFunction] = [
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(filled: RedisClusterServers) -> Iterator[ApiProcess]:
    env = {"KEYMISS_API_ADMIN_KEY": ADMIN_KEY, "KEYMISS_API_TIME_LIMIT_S": "1"}
    with ApiProcess(filled.addresses, wait_indexed=2, env=env) as running:
        yield running


TRY = settings(max_examples=REQUESTS, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@SCHEMA.parametrize()
@TRY
def test_requests(case: schemathesis.Case, fuzzed: ApiProcess) -> None:
    key = {"X-Admin-Key": ADMIN_KEY} if "/articles" in case.path else {}
    reply = case.call(base_url=fuzzed.url, headers=key, timeout=patient(30))
    case.validate_response(reply, checks=CHECKED)
    assert reply.status_code != 500
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == ["application/problem+json"]


@TRY
@given(
    path=st.sampled_from(["/qasearch", "/search", "/articles"]),
    body=st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]":,\\u0eE-9 ', max_size=60).map(str.encode)),
    kind=st.one_of(st.just("application/json"), st.text(alphabet='aj/;="+ ', max_size=20).map(str.strip)),
)
def test_bodies(fuzzed: ApiProcess, path: str, body: bytes, kind: str) -> None:
    headers = {"X-Admin-Key": ADMIN_KEY, "Content-Type": kind}
    reply = httpx.post(f"{fuzzed.url}{path}", content=body, headers=headers, timeout=patient(30))
    assert reply.status_code in (400, 422), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["status"] == reply.status_code


def test_the_api_has_lived_through_it(fuzzed: ApiProcess) -> None:
    assert fuzzed.alive
    assert fuzzed.ask().found
    assert "Traceback" not in fuzzed.log_text()
