"""What was missed is done: after a server's restart, with a new worker, for a new function, and on demand."""

from __future__ import annotations

import json
import signal

import pytest

from keymiss import keys
from tests.cluster import pipeline
from tests.cluster.pipeline import delete, settle, write
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, keymiss_info, tags_of, wait_until

TABLE = pipeline.table("C1,influenza,flu", "C2,fever,")
SENTENCE = "Influenza often begins with fever."
LONGER = "Influenza often begins with fever. There is more of it."
NAMES = [f"A{i}" for i in range(6)]


def restart(servers: RedisClusterServers) -> None:
    """Every master, with its data; the events that waited are gone."""
    for server in servers.masters:
        server.restart(save=True)
    servers.wait_ok()
    for server in servers.masters:
        with server.client() as client:
            assert keymiss_info(client)["events_queued"] == 0


def events_waiting(servers: RedisClusterServers) -> int:
    """Also those that a worker who stands still was given, with its last pull."""
    total = 0
    for server in servers.masters:
        with server.client() as client:
            info = keymiss_info(client)
            total += info["events_queued"] + info["events_running"]
    return total


def test_a_worker_that_starts_does_what_servers_forgot() -> None:
    """Articles that are new, changed, shortened, of another year or deleted, no worker, then a restart."""
    with pipeline.running() as (servers, worker, client):
        pipeline.store_table(client, TABLE)
        for name in NAMES[:5]:
            write(client, name, LONGER, year=2019)
        settle(client)
        worker.kill()
        delete(client, NAMES[0])
        client.hset(keys.article_key(NAMES[1]), "year", 2022)
        write(client, NAMES[2], SENTENCE, year=2019)
        write(client, NAMES[3], LONGER, SENTENCE, year=2019)
        write(client, NAMES[5], SENTENCE, year=2019)
        assert events_waiting(servers) > 0
        restart(servers)
        worker.log.write_text("")
        worker.start()
        pipeline.wait_caught_up(worker)
        with servers.client(decode_responses=True) as again:
            settle(again)
        found = pipeline.keyspace(servers)
    with pipeline.running() as (servers, _, client):
        pipeline.store_table(client, TABLE)
        write(client, NAMES[1], LONGER, year=2022)
        write(client, NAMES[2], SENTENCE, year=2019)
        write(client, NAMES[3], LONGER, SENTENCE, year=2019)
        write(client, NAMES[4], LONGER, year=2019)
        write(client, NAMES[5], SENTENCE, year=2019)
        settle(client)
        assert pipeline.differences(pipeline.keyspace(servers), found) == []


@pytest.mark.parametrize("deleted", ["paragraphs", "sentence"])
def test_what_was_made_of_a_deleted_key_goes_when_the_event_was_lost(deleted: str) -> None:
    """The state says that an article was there, and the tokens, concepts and vectors that sentences were."""
    with pipeline.running(masters=1) as (servers, worker, client):
        pipeline.store_table(client, TABLE)
        write(client, "A1", SENTENCE, year=2019)
        tag = keys.article_tag("A1")
        settle(client)
        if deleted == "sentence":
            delete(client, "A1")
            settle(client)
            client.hset(keys.sentence_key("A1", tag), "0", SENTENCE)
            settle(client)
        worker.kill()
        delete(client, "A1")
        if deleted == "sentence":
            client.delete(keys.sentence_key("A1", tag))
        restart(servers)
        assert len(pipeline.keyspace(servers)) > 5
        worker.log.write_text("")
        worker.start()
        pipeline.wait_caught_up(worker)
        with servers.client(decode_responses=True) as again:
            settle(again)
            left = pipeline.keyspace(servers)
        assert left == {}


def test_vectors_go_with_their_sentences_without_an_encoder_too() -> None:
    with pipeline.running(masters=1) as (servers, _, client):
        pipeline.upload(client, "vectors.py")
        (tag,) = tags_of(client)
        for name in ("A1", "A2"):
            client.hset(keys.vectors_key(name, tag), mapping={"0": b"\xff" * 776, "1": b"\xfe" * 776})
        client.hset(keys.sentence_key("A1", tag), "0", SENTENCE)
        settle(client)
        with servers.masters[0].client() as raw:
            assert list(raw.hgetall(keys.vectors_key("A1", tag))) == [b"0"]
        assert pipeline.cli(servers, "catch-up").returncode == 0  # A2 has vectors and no sentences
        settle(client)
        assert not client.exists(keys.vectors_key("A2", tag))
        client.delete(keys.sentence_key("A1", tag))
        settle(client)
        assert not client.exists(keys.vectors_key("A1", tag))


def test_a_worker_that_stays_does_it_when_it_finds_the_server_again() -> None:
    with pipeline.running(masters=1) as (servers, worker, client):
        (server,) = servers.masters
        write(client, "A1", SENTENCE)
        settle(client)
        pipeline.wait_caught_up(worker, 1)
        worker.signal(signal.SIGSTOP)
        write(client, "A2", SENTENCE)
        assert events_waiting(servers) > 0
        server.restart(save=True)
        worker.signal(signal.SIGCONT)
        pipeline.wait_caught_up(worker, 2)
        with servers.client(decode_responses=True) as again:
            settle(again)
            assert pipeline.sentences_of(again, "A2") == [SENTENCE]


def test_a_connection_that_only_broke_missed_nothing() -> None:
    with pipeline.running(masters=1) as (servers, worker, client):
        (server,) = servers.masters
        pipeline.wait_caught_up(worker, 1)
        with server.client() as raw:
            attached = worker.log_text().count("caught_up")
            raw.client_kill_filter(_type="normal", skipme=True)
            wait_until(lambda: keymiss_info(raw)["workers"] == 1, 20, "it is back")
        write(client, "A1", SENTENCE)
        settle(client)
        assert pipeline.sentences_of(client, "A1") == [SENTENCE]
        assert worker.log_text().count("caught_up") == attached


def test_an_event_that_failed_because_another_shard_was_away_is_done_later() -> None:
    """The year of an article is on the shard of its hash, its text maybe on another one."""
    with pipeline.running("--execute-timeout-s", "1") as (servers, worker, client):
        pipeline.store_table(client, TABLE)
        name = next(
            name
            for name in (f"A{i}" for i in range(99))
            if servers.server_of(f"article:{name}") is not servers.server_of(f"paragraphs:{name}")
        )
        away = servers.server_of(keys.article_key(name))
        client.hset(keys.article_key(name), "year", 2019)
        settle(client)
        away.signal(signal.SIGSTOP)
        client.set(keys.paragraphs_key(name), SENTENCE)
        wait_until(lambda: '"job_failed"' in worker.log_text(), 20, "the split fails")
        away.signal(signal.SIGCONT)
        wait_until(lambda: pipeline.years(client) == {"2019": 1}, 30, "it was split and has its year")


def test_an_event_that_failed_because_the_server_took_no_writes_is_done_later() -> None:
    """For want of replicas here; NOREPLICAS and MISCONF, of a full disk, are errors of one kind."""
    with pipeline.running(masters=1) as (servers, worker, client):
        worker.signal(signal.SIGSTOP)
        write(client, "A1", SENTENCE, year=2020)
        (server,) = servers.masters
        with server.client() as admin:
            admin.config_set("min-replicas-to-write", 1)
            worker.signal(signal.SIGCONT)
            wait_until(lambda: "NOREPLICAS" in worker.log_text(), 20, "the event fails")
            admin.config_set("min-replicas-to-write", 0)
        tag = keys.article_tag("A1")
        wait_until(lambda: client.hgetall(keys.sentence_key("A1", tag)) == {"0": SENTENCE}, 20, "it is done")


def test_a_function_that_is_registered_later_does_what_is_there() -> None:
    with (
        RedisClusterServers(masters=2) as servers,
        WorkerProcess(servers),
        servers.client(decode_responses=True) as client,
    ):
        pipeline.store_table(client, TABLE)
        for name in NAMES:
            write(client, name, SENTENCE, year=2019)
        for script in reversed(pipeline.SCRIPTS):
            pipeline.upload(client, script)
        settle(client)
        for name in NAMES:
            assert pipeline.sentences_of(client, name) == [SENTENCE]
        assert pipeline.years(client) == {"2019": len(NAMES)}
        tensors = [key for key in pipeline.keyspace(servers) if key.startswith("tokenized:")]
        assert len(tensors) == len(NAMES)
        assert sum(map(len, pipeline.graph(client).values())) == len(NAMES)


def test_on_demand() -> None:
    """What nobody was told of: articles that came while a full queue dropped events."""
    names = [f"B{i}" for i in range(20)]
    with pipeline.running() as (servers, worker, client):
        pipeline.store_table(client, TABLE)
        settle(client)
        worker.signal(signal.SIGSTOP)  # each shard hands it one event at most, and keeps another one
        set_event_limit(servers, 1)
        for name in names:
            write(client, name, SENTENCE, year=2019)
        set_event_limit(servers, 100_000)
        worker.signal(signal.SIGCONT)
        settle(client)
        assert sum(map(len, pipeline.graph(client).values())) <= 4
        done = pipeline.cli(servers, "catch-up")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.removesuffix(" events queued\n")) >= len(names)
        assert pipeline.cli(servers, "wait").returncode == 0
        assert pipeline.years(client) == {"2019": len(names)}


def set_event_limit(servers: RedisClusterServers, limit: int) -> None:
    for server in servers.masters:
        with server.client() as client:
            client.config_set("keymiss.event-queue-limit", limit)


def test_only_those_who_ask_are_told() -> None:
    """A prefix is not a pattern, and a function without "catchup" among its events is left alone."""
    source = """
def note(record):
    execute('RPUSH', 'seen', f"{record['event']} {record['key']}")
GB().foreach(note).register(prefix='a*b[c]:', eventTypes=['set', 'catchup'], keyTypes=['string'])
GB().foreach(note).register(prefix='d:', eventTypes=['set'])
"""
    with (
        RedisServer() as server,
        WorkerProcess(server) as worker,
        server.client(decode_responses=True) as client,
    ):
        for key in ("a*b[c]:1", "aXb[c]:2", "a*bc:3", "d:4"):
            client.set(key, "x")
        client.hset("a*b[c]:hash", "f", "v")
        pipeline.upload_source(server, source)
        wait_until(
            lambda: keymiss_info(client)["events_queued"] + keymiss_info(client)["events_running"] == 0
        )
        assert client.lrange("seen", 0, -1) == ["catchup a*b[c]:1"]
        said = [json.loads(line) for line in worker.log_text().splitlines()]
        assert [each["queued"] for each in said if each["event"] == "caught_up"] == [0]


def test_pipeline_says_how_much_is_there() -> None:
    with pipeline.running() as (servers, _, client):
        pipeline.store_table(client, TABLE)
        for name in NAMES:
            write(client, name, LONGER, year=2019)
        settle(client)
        done = pipeline.cli(servers, "pipeline")
        assert done.returncode == 0, done.stderr
        rows = {}
        for line in done.stdout.splitlines():
            cells = [cell.strip() for cell in line.strip()[1:-1].split("│")]
            if len(cells) == 4:
                rows[cells[0]] = cells[1:]
        assert rows["articles"][-1] == rows["split"][-1] == str(len(NAMES))
        assert rows["sentences"][-1] == rows["tokenized"][-1] == str(2 * len(NAMES))
        assert rows["with concepts"][-1] == str(len(NAMES))
        assert rows["with vectors"][-1] == rows["edges waiting"][-1] == rows["events waiting"][-1] == "0"
        assert rows["concepts in the graph"] == ["2", "2", ""]
        assert all(f"{{{tag}}}" in done.stdout for tag in tags_of(client))
