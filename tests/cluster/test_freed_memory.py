"""Under AddressSanitizer: nothing is read that has been freed.

With redis-server whatever is tested: Valkey does not start with the sanitizer in the place of its allocator.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.hand_worker import SHA1, Asker, HandWorker, bulk, register_events, wait_for
from tests.patience import patient
from tests.servers import REPO, RedisServer, wait_until

CHUNKS = (b"a" * (1 << 20), b"b" * 300_000)
"""Of a model. After each command the server shortens those of its arguments that were kept and have room to
spare, which moves them: such is a last chunk that is shorter than the one before it."""
LARGE_BYTES = 65 << 20
"""More than the module keeps of executions that have ended."""


@pytest.fixture(scope="module")
def watched() -> Iterator[RedisServer]:
    """A server in which reading what is freed ends it."""
    subprocess.run(["make", "-s", "-C", "module", "asan"], cwd=REPO, check=True, timeout=patient(120))
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEYMISS_SERVER_PRELOAD", library.stdout.strip())
        built = str(REPO / "module" / "keymiss-asan.so")
        with RedisServer("--loadmodule", built, module=False, kind="redis") as server:
            yield server


def test_a_stored_model(watched: RedisServer) -> None:
    client = watched.client()
    assert client.execute_command("AI.MODELSTORE", "m", "TORCH", "CPU", "BLOB", *CHUNKS) == b"OK"
    assert client.execute_command("AI.MODELGET", "m", "BLOB") == b"".join(CHUNKS)
    assert client.execute_command("KM.MODELCHUNK", "m", "*", 1 << 20, 16 << 20) == CHUNKS[1]


def test_a_model_of_parts(watched: RedisServer) -> None:
    client = watched.client()
    pipe = client.pipeline(transaction=False)
    for chunk in CHUNKS:
        pipe.execute_command("KM.MODELPART", "parts", chunk)
    assert pipe.execute()[-1] == sum(map(len, CHUNKS))
    assert client.execute_command("KM.MODELPUT", "parts", "p", "TORCH", "CPU") == b"OK"
    assert client.execute_command("AI.MODELGET", "p", "BLOB") == b"".join(CHUNKS)


def test_it_is_in_the_rdb(watched: RedisServer) -> None:
    client = watched.client()
    assert client.execute_command("AI.MODELSTORE", "saved", "TORCH", "CPU", "BLOB", *CHUNKS) == b"OK"
    client.execute_command("DEBUG", "RELOAD")
    assert client.execute_command("AI.MODELGET", "saved", "BLOB") == b"".join(CHUNKS)


def test_results_that_are_too_large_to_be_kept(watched: RedisServer) -> None:
    worker = HandWorker(watched)
    started = Asker(watched, "RG.PYEXECUTE", "GB().run()", "UNBLOCKING")
    (job,) = worker.pull()
    worker.client.execute_command("KM.RUNS", job.id, "UNATTENDED")
    waiting = Asker(watched, "RG.GETRESULTSBLOCKING", started.result())
    info = watched.client().info
    wait_until(lambda: info("clients")["blocked_clients"] == 1, 10, "somebody waits for the results")
    text = b"x" * LARGE_BYTES
    worker.client.execute_command("KM.ENDED", job.id, 1, b"*1\r\n" + bulk(text), b"*0\r\n")
    assert waiting.result() == [[text], []]


def test_an_event_is_aborted_that_waits_for_one_whose_worker_has_gone(watched: RedisServer) -> None:
    client = watched.client()
    register_events(client, "x:", coalesce=False)
    worker = HandWorker(watched)
    for value in range(3):
        client.set("x:1", value)
    (first,) = worker.pull(max_jobs=3)
    worker.die()
    wait_for(watched, "events_running", 0)
    again = HandWorker(watched, attach=False)
    ids = [row[1] for row in client.execute_command("RG.DUMPEXECUTIONS")][-3:]
    for id_ in ids[1:]:
        assert client.execute_command("RG.ABORTEXECUTION", id_) == b"OK"
    (job,) = again.pull(max_jobs=3)
    assert job.id == first.id
    again.done(job, b"+OK\r\n")
    client.set("x:1", "once more")
    assert len(again.pull(max_jobs=3)) == 1


def test_a_command_that_ends_what_it_would_wait_for(watched: RedisServer) -> None:
    client = watched.client()
    HandWorker(watched)
    client.execute_command("KM.SCRIPT", "SET", SHA1, "the script's source")
    named = ("hooking-0", SHA1, 9, "KeysReader", "", "async", "y:", "", "", "eval")
    client.execute_command("KM.REGISTER", *named)
    script = "redis.call('SET', 'y:1', 'v'); redis.call('KM.ABORTOF', 'hooking-0'); return 'done'"
    assert client.eval(script, 0) == b"done"
