"""Under AddressSanitizer: a model's bytes are read where they are, not where they were as arguments.

After each command the server shortens those of its arguments that were kept and have room to spare, which
moves them: such is a last chunk that is shorter than the one before it. With redis-server whatever is tested: Valkey
does not start with the sanitizer in the place of its allocator.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.patience import patient
from tests.servers import REPO, RedisServer

CHUNKS = (b"a" * (1 << 20), b"b" * 300_000)


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
