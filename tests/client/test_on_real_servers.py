"""The client in front of the real API and nginx: TLS, asyncio, a full queue, an API that starts late."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from keymiss import AsyncClient, Client
from keymiss.client import BadRequest, NotAllowed, Retries, TooBusy, Unavailable, UnexpectedReply, Unreachable
from tests.api.processes import QUESTION, ApiProcess, NginxProcess, fill, pause, resume
from tests.api.scraping import scrape
from tests.patience import patient, slower
from tests.servers import RedisClusterServers, free_port, wait_until

STUBBORN = Retries(attempts=100, total_s=patient(30), longest_wait_s=0.3)


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    """Every answer is cached already."""
    with RedisClusterServers(masters=2) as running:
        fill(running)
        yield running


@pytest.fixture(scope="module")
def api(servers: RedisClusterServers) -> Iterator[ApiProcess]:
    with ApiProcess(servers.addresses, wait_indexed=2) as running:
        yield running


@pytest.fixture(scope="module")
def nginx(api: ApiProcess) -> Iterator[NginxProcess]:
    with NginxProcess(api.port) as running:
        yield running


def test_the_certificate_of_the_service(nginx: NginxProcess) -> None:
    with Client(nginx.url, verify=nginx.certificate) as client:
        reply = client.ask(QUESTION, request_id="over-tls-1")
    assert reply.answer
    assert reply.request_id == "over-tls-1"
    log = nginx.folder / "nginx-access.log"
    wait_until(lambda: "over-tls-1" in log.read_text(), 5, "nginx has written its log")


def test_a_certificate_that_nobody_knows_is_refused_at_once(nginx: NginxProcess) -> None:
    retries = Retries(attempts=100, first_wait_s=30, total_s=1000)
    with Client(nginx.url, retries=retries) as client, pytest.raises(Unreachable, match="self-signed"):
        client.ask(QUESTION)


def test_plain_http_is_not_followed_to_https(nginx: NginxProcess) -> None:
    plain = nginx.url.replace("https", "http")
    with Client(plain) as client, pytest.raises(UnexpectedReply, match=f"308 to {nginx.url}"):
        client.live()


async def test_many_at_once_by_asyncio(nginx: NginxProcess) -> None:
    async with AsyncClient(nginx.url, verify=nginx.certificate) as client:
        replies = await asyncio.gather(*(client.ask(QUESTION) for _ in range(20)))
        with pytest.raises(BadRequest) as raised:
            await client.ask("")
        with pytest.raises(NotAllowed):
            await client.delete_article("KM1")
    assert len({reply.answer for reply in replies}) == 1
    assert len({reply.request_id for reply in replies}) == 20
    assert raised.value.members["errors"]


async def test_who_gives_up_waiting_is_not_asked_again(nginx: NginxProcess) -> None:
    """Cancelling ends the call, also between two attempts."""
    retries = Retries(first_wait_s=1000, longest_wait_s=1000, total_s=10_000)
    async with AsyncClient(f"http://127.0.0.1:{free_port()}", retries=retries) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await client.live()


def test_a_full_queue_is_waited_for(servers: RedisClusterServers) -> None:
    env = {"KEYMISS_API_MAX_QUESTIONS": "1", "KEYMISS_API_TIME_LIMIT_S": str(slower(2))}
    with (
        ApiProcess(servers.addresses, wait_indexed=2, env=env) as busy,
        Client(busy.url, retries=STUBBORN) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        pause(servers.masters[0])
        try:
            pool.submit(busy.ask)
            wait_until(lambda: scrape(busy.url).value("keymiss_questions_in_flight") == 1, 5, "it is asked")
            with pytest.raises(TooBusy):
                busy.ask()
            second = pool.submit(client.ask, QUESTION)
            wait_until(lambda: (refused(busy) or 0) >= 2, 5, "the second is refused too")
        finally:
            resume(servers.masters[0])
            servers.wait_ok()
        assert second.result().coverage.sentences.answered


def refused(api: ApiProcess) -> float | None:
    return scrape(api.url).value("keymiss_questions_total", outcome="busy")


def test_an_api_that_starts_late(servers: RedisClusterServers) -> None:
    late = ApiProcess(servers.addresses)
    starting = threading.Timer(0.5, late.start)
    with Client(late.url, retries=STUBBORN) as client:
        starting.start()
        try:
            assert client.live().status == "live"
        finally:
            starting.join()
            late.terminate()
            late.discard()


def test_nginx_without_an_api() -> None:
    with (
        NginxProcess(free_port()) as alone,
        Client(alone.url, verify=alone.certificate, retries=Retries(attempts=1)) as client,
        pytest.raises(Unavailable, match="The API is not running") as raised,
    ):
        client.ask(QUESTION)
    assert raised.value.retry_after_s == 5
