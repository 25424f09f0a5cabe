"""An address that is too long is 414, headers that are too large 431: problems, in HTTP/1.1 and HTTP/2."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.curl import VERSIONS, curl
from tests.api.processes import ApiProcess, NginxProcess

LONGEST = 8192
BEFORE = ["/search?search=", "/page/", "/nothing/", "/articles/", "/nginx-error/414?"]
both_versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


def path_of(characters: int, before: str = "/search?search=") -> str:
    return before + "x" * (characters - len(before))


@both_versions
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("characters", [LONGEST + 1, 20_000])
def test_an_address_that_is_too_long(nginx: NginxProcess, version: str, before: str, characters: int) -> None:
    reply = curl(nginx.url + path_of(characters, before), version)
    if before.startswith("/nginx-error/"):  # is no address to ask for: 404 says as much
        assert reply.status == 404
    else:
        assert (reply.status, reply.problem["title"]) == (414, "The address is too long")


@both_versions
def test_the_longest_address_goes_to_the_api(nginx: NginxProcess, version: str) -> None:
    reply = curl(nginx.url + path_of(LONGEST), version)
    assert reply.status == 422  # the API's word: a question has 512 characters at most
    assert "512" in reply.problem["detail"]


def test_an_address_over_nginx_s_own_buffer(nginx: NginxProcess) -> None:
    """In HTTP/2 the header that carries it ends the connection: the protocol's own refusal."""
    reply = curl(nginx.url + path_of(60_000), "--http1.1")
    assert (reply.status, reply.problem["title"]) == (414, "The address is too long")


@both_versions
def test_large_headers_go_to_the_api(nginx: NginxProcess, version: str) -> None:
    two = [part for number in range(2) for part in ("-H", f"X-Much-{number}: {'x' * 22_000}")]
    assert curl(f"{nginx.url}/livez", version, *two).status == 200


@pytest.mark.parametrize("sizes", [(30_000,), (22_000, 22_000, 22_000)])
def test_headers_that_are_too_large(nginx: NginxProcess, sizes: tuple[int, ...]) -> None:
    """One by itself, and all together. In HTTP/2 nginx ends the connection instead."""
    headers = [part for number, size in enumerate(sizes) for part in ("-H", f"X-{number}: {'x' * size}")]
    reply = curl(f"{nginx.url}/livez", "--http1.1", *headers)
    assert (reply.status, reply.problem["title"]) == (431, "The headers are too large")
