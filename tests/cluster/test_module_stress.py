"""Everything at once for a while, at random: nobody hangs, nothing is left over, the memory comes back."""

from __future__ import annotations

import contextlib
import random
import threading
import time

import redis

from tests.hand_worker import Asker, HandWorker, Job, bulk, register_events, register_miss, wait_for
from tests.patience import Limit, patient
from tests.servers import RedisServer, connect, keymiss_info, wait_until

SECONDS = 8.0
ASKERS = 40
WORKERS = 4
KEYS = [f"bertqa{{x}}_{i}" for i in range(60)]
KNOWN_ERRORS = ("TIMEOUT ", "FAILED ", "NOWORKER ", "BUSY ", "UNBLOCKED ")
CHURN_BYTES = 6_000_000


class Crowd:
    """The threads of the test, what they met, and the ids of the connections that ask."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self.server = server
        self.seed = seed
        self.stop = threading.Event()
        self.ids: dict[int, int] = {}
        self.answers = 0
        self.errors: dict[str, int] = {}
        self.wrong: list[str] = []
        self.lock = threading.Lock()

    def count(self, error: str) -> None:
        with self.lock:
            self.errors[error] = self.errors.get(error, 0) + 1

    def ask_many(self, client: redis.Redis, rng: random.Random) -> None:
        """Random keys in one request, some twice; each has its answer or a known error."""
        keys = rng.choices(KEYS, k=rng.randint(1, 20))
        limit = ("LIMIT", rng.randint(1, 500)) if rng.random() < 0.5 else ()
        replies = client.execute_command("KM.MISSES", len(keys), *keys, *limit)
        for key, (_, value) in zip(keys, replies, strict=True):
            if isinstance(value, Exception):
                if not str(value).startswith(KNOWN_ERRORS):
                    self.wrong.append(f"{key}: {value}")
            elif value != key.encode():
                self.wrong.append(f"{key}: {value!r}")
        self.answers += 1

    def ask(self, number: int) -> None:
        """One client after another that asks a random key; a reply is the key's answer or a known error."""
        rng = random.Random(self.seed + number)
        client = None
        while not self.stop.is_set():
            try:
                if client is None:
                    client = connect(self.server.port, single_connection_client=True)
                    self.ids[number] = client.client_id()
                if rng.random() < 0.3:
                    self.ask_many(client, rng)
                    continue
                key = rng.choice(KEYS)
                reply = client.get(key)
                if reply != key.encode():
                    self.wrong.append(f"{key}: {reply!r}")
                self.answers += 1
                if rng.random() < 0.02:
                    client.close()  # leaves of itself
                    client = None
            except redis.exceptions.TimeoutError:
                self.wrong.append("a client hangs")
                return
            except redis.exceptions.ResponseError as error:
                text = str(error)
                if not text.startswith(KNOWN_ERRORS):
                    self.wrong.append(text)
                self.count(text.split(" ", 1)[0])
                time.sleep(0.002)
            except (redis.exceptions.ConnectionError, OSError):
                self.count("killed")
                client = None
        if client:
            client.close()

    def work(self, number: int) -> None:
        """Workers that answer, fail, give back, forget, answer twice, and die with jobs in hand."""
        rng = random.Random(self.seed + 1000 + number)
        while not self.stop.is_set():
            with contextlib.suppress(redis.exceptions.RedisError, OSError):
                worker = HandWorker(self.server)
                end = time.monotonic() + rng.uniform(0.05, 1.5)
                while time.monotonic() < end and not self.stop.is_set():
                    for job in worker.pull(rng.randint(1, 20), rng.choice((1, 20, 100))):
                        choice = rng.random()
                        if choice < 0.7:
                            worker.done(job, bulk(job.key))
                        elif choice < 0.8:
                            worker.fail(job, "by chance")
                        elif choice < 0.9:
                            worker.client.execute_command("KM.GIVEBACK", job.id, job.id, 7)
                        elif choice < 0.95:
                            worker.client.execute_command("KM.ALIVE", job.id)
                        if choice < 0.05:
                            worker.done(job, bulk(b"late"))
                worker.die()
            time.sleep(rng.uniform(0, 0.05))

    def annoy(self) -> None:
        """CLIENT KILL, CLIENT UNBLOCK, limits, registrations, derived keys, FLUSHALL, a reload.

        CLIENT UNBLOCK with ERROR only: redis 7.0 itself leaves a client without any reply when it is
        unblocked with TIMEOUT in the moment between its answer and the answer's delivery.
        """
        rng = random.Random(self.seed + 2000)
        client = self.server.client()
        while not self.stop.is_set():
            ids = list(self.ids.values())
            choice = rng.random()
            with contextlib.suppress(redis.exceptions.ResponseError):
                if choice < 0.3 and ids:
                    client.client_kill_filter(_id=str(rng.choice(ids)))
                elif choice < 0.6 and ids:
                    client.client_unblock(rng.choice(ids), error=True)
                elif choice < 0.7:
                    client.config_set("keymiss.miss-timeout-ms", rng.choice((1, 20, 100, 300, 1000)))
                elif choice < 0.8:
                    client.config_set("keymiss.queue-limit", rng.choice((1, 5, 20, 1000)))
                elif choice < 0.85:
                    client.config_set("keymiss.noworker-grace-ms", rng.choice((0, 50, 1000)))
                elif choice < 0.87:
                    register_miss(client, rng.choice(("bertqa", "bert*")), "miss-0")
                elif choice < 0.9:  # there until one of these events comes
                    key, source = rng.choice(KEYS), "event" + str(rng.randint(0, 50))
                    client.set(key, key)
                    client.execute_command("KM.DERIVE", 2, source, "event1", key)
                elif choice < 0.96:
                    client.set("event" + str(rng.randint(0, 50)), "x")
                elif choice < 0.98:
                    client.client_pause(10)
                elif choice < 0.99:
                    client.flushall()
                else:
                    client.execute_command("DEBUG", "RELOAD")
            time.sleep(rng.uniform(0, 0.01))
        client.close()


def drain(server: RedisServer) -> None:
    """A worker that answers what is left."""
    worker = HandWorker(server)
    for job in worker.pull(1024, 0):
        worker.done(job, bulk(job.key))
    worker.die()


def settled(server: RedisServer) -> int:
    """The server's memory once nobody waits, nothing is queued, and nothing runs."""
    client = server.client()

    def quiet() -> bool:
        drain(server)
        info = keymiss_info(client)
        fields = ("clients_waiting", "jobs_queued", "events_queued", "jobs_running", "workers")
        return all(info[field] == 0 for field in fields)

    wait_until(quiet, 15, "all is quiet")
    wait_until(lambda: client.info("clients")["connected_clients"] <= 4, 10, "the clients have gone")
    time.sleep(0.5)
    used = client.info("memory")["used_memory"]
    client.close()
    return int(used)


def run(server: RedisServer, seconds: float, seed: int) -> Crowd:
    crowd = Crowd(server, seed)
    threads = [threading.Thread(target=crowd.ask, args=(i,), daemon=True) for i in range(ASKERS)]
    threads += [threading.Thread(target=crowd.work, args=(i,), daemon=True) for i in range(WORKERS)]
    threads.append(threading.Thread(target=crowd.annoy, daemon=True))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    crowd.stop.set()
    limit = Limit(30)
    while any(thread.is_alive() for thread in threads) and not limit.reached():
        drain(server)  # in place of the workers, which have stopped
        time.sleep(0.05)
    assert not any(thread.is_alive() for thread in threads), "a thread did not end"
    return crowd


def test_everything_at_once(server: RedisServer) -> None:
    seed = random.randrange(1 << 30)
    client = server.client()
    register_miss(client)
    register_events(client, "event")
    run(server, 1.0, seed)  # the server's own pools and tables grow
    before = settled(server)
    crowd = run(server, SECONDS, seed + 1)
    after = settled(server)
    print(f"seed {seed}: {crowd.answers} answers, {crowd.errors}, memory {before} -> {after}")
    assert crowd.wrong == [], seed
    assert crowd.answers > 100
    assert {"TIMEOUT", "FAILED", "BUSY", "UNBLOCKED", "killed"} <= set(crowd.errors), crowd.errors
    assert server.alive
    info = keymiss_info(client)
    assert info["clients_timed_out"] > 0
    assert info["jobs_requeued"] > 0
    assert after - before < CHURN_BYTES, (before, after, seed)


def test_a_client_that_times_out_or_is_unblocked_leaves_no_memory_behind(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    worker = HandWorker(server)
    client.config_set("keymiss.miss-timeout-ms", 1)

    def round_() -> None:
        askers = [connect(server.port, single_connection_client=True) for _ in range(100)]
        threads = [threading.Thread(target=_ask, args=(asker,), daemon=True) for asker in askers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(patient(15))
            assert not thread.is_alive()
        for asker in askers:
            asker.close()
        wait_until(lambda: client.info("clients")["connected_clients"] <= 4, 10)

    def _ask(asker: redis.Redis) -> None:
        with contextlib.suppress(redis.exceptions.ResponseError):
            asker.get("bertqa{x}_slow")

    round_()
    before = client.info("memory")["used_memory"]
    for _ in range(3):
        round_()
    # 35 KB each when the handle is not given back: 10 MB for these 300
    assert client.info("memory")["used_memory"] - before < 3_000_000
    worker.die()


def test_an_answer_at_the_very_end_of_the_time_limit_is_delivered(server: RedisServer) -> None:
    """redis 7.0 drops the reply when BlockClient's time limit ends in the turn that unblocks the client."""
    client = server.client()
    register_miss(client)
    client.config_set("keymiss.miss-timeout-ms", 400)
    worker = HandWorker(server)
    asker = Asker(server, "GET", KEYS[0])
    (job,) = worker.pull()
    with worker.client.pipeline(transaction=False) as pipe:
        pipe.execute_command("KM.DONE", job.id, bulk(b"just in time"))
        pipe.execute_command("DEBUG", "SLEEP", 0.8)
        pipe.execute()
    assert asker.result(5) == b"just in time"


def test_a_job_at_the_very_end_of_a_pull_is_delivered(server: RedisServer) -> None:
    client = server.client()
    register_events(client, "event")
    puller = Asker(server, "KM.PULL", "waits", 1, 400)
    wait_for(server, "workers", 1)
    with client.pipeline(transaction=False) as pipe:
        pipe.set("event", "x")
        pipe.execute_command("DEBUG", "SLEEP", 0.8)
        pipe.execute()
    (job,) = puller.result(5)
    assert job[4] == b"event"


def test_jobs_of_a_dead_connection_do_not_go_to_that_connection(server: RedisServer) -> None:
    """It holds a job and waits for more when it dies; another one waits, too."""
    client = server.client()
    register_miss(client)
    Asker(server, "GET", KEYS[0])
    wait_for(server, "jobs_queued", 1)
    dies = redis.Connection(port=server.port, protocol=2)
    dies.connect()
    dies.send_command("KM.PULL", "dies", 1, 5000)
    assert len(dies.read_response()) == 1
    other = Asker(server, "KM.PULL", "other", 1, 5000)
    wait_for(server, "workers", 2)
    dies.send_command("KM.PULL", "dies", 1, 5000)
    wait_until(lambda: client.info("clients")["blocked_clients"] == 3, 5)
    dies.disconnect()
    (job,) = other.result(2)
    assert (job[4], job[5]) == (KEYS[0].encode(), 2)


def test_a_job_that_its_worker_forgot_does_not_block_its_key_for_ever(server: RedisServer) -> None:
    client = server.client()
    register_miss(client)
    client.config_set("keymiss.miss-timeout-ms", 300)
    worker = HandWorker(server)
    first = Asker(server, "GET", KEYS[0])
    (forgotten,) = worker.pull()
    limit = Limit(5)
    askers = [first]
    jobs: list[Job] = []
    while not jobs and not limit.reached():  # somebody waits for it all the time
        askers.append(Asker(server, "GET", KEYS[0]))
        jobs = worker.pull(block_ms=100)
    assert jobs[0].id != forgotten.id
    worker.done(jobs[0], bulk(b"anew"))
    replies = [str(asker.result()) for asker in askers]
    assert replies[-1] == str(b"anew")


def test_a_described_registration_with_a_star_is_replaced_by_another_script(server: RedisServer) -> None:
    client = server.client()
    for sha1 in ("a" * 40, "b" * 40):
        client.execute_command("KM.SCRIPT", "SET", sha1, "source of " + sha1)
        client.execute_command(
            "KM.REGISTER",
            sha1 + "-0",
            sha1,
            0,
            "KeysReader",
            "same",
            "async_local",
            "bertqa*",
            "keymiss",
            "",
            "get",
        )
    assert keymiss_info(client)["registrations"] == 1


def test_scripts_that_are_stored_side_by_side_can_all_be_registered(server: RedisServer) -> None:
    client = server.client()
    shas = [letter * 40 for letter in "abc"]
    for sha1 in shas:
        client.execute_command("KM.SCRIPT", "SET", sha1, "source of " + sha1)
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("KM.SCRIPT", "LIST") == [sha1.encode() for sha1 in reversed(shas)]
    for sha1 in shas:
        client.execute_command(
            "KM.REGISTER", sha1 + "-0", sha1, 0, "KeysReader", "", "async_local", sha1, "keymiss", "", "get"
        )
    for number in range(40):  # those that nobody registers do not pile up
        client.execute_command("KM.SCRIPT", "SET", f"{number:040x}", "unused")
    assert keymiss_info(client)["scripts"] == 19
    assert keymiss_info(client)["registrations"] == 3
