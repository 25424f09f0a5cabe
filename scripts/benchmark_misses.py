"""What a miss costs beside the model: a function that costs nothing, distinct misses, a fresh question.

    python scripts/benchmark_misses.py                   # starts servers and a worker of its own
    python scripts/benchmark_misses.py --form torch-int8 --masters 4 --sentences data/sample

1. A function that costs nothing: misses a second of 50 clients (redis-benchmark, each key another), and the
   time of one miss for one client. The question with 20 keys, too.
2. The reader: different misses of 50 clients a second, and of one client, beside the raw forward of the same
   form over the same inputs, in as many threads as the worker has.
3. A fresh question of 20 candidates, asked as the API asks it, beside the raw forward of those 20.

Medians. Needs redis-server, redis-benchmark and the module (make -C module). Everything on loopback.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from keymiss import keys  # noqa: E402
from keymiss.addresses import parse_addresses  # noqa: E402
from keymiss.api.questions.fanout import ask_all  # noqa: E402
from keymiss.cluster.credentials import NO_CREDENTIALS  # noqa: E402
from keymiss.cluster.redis_cluster import shards_of  # noqa: E402
from keymiss.cluster.shard_map import ShardMap  # noqa: E402
from keymiss.corpus.loading import read_article  # noqa: E402
from keymiss.corpus.prose import split_sentences  # noqa: E402
from keymiss.models.export_reader import exported_files  # noqa: E402
from keymiss.models.forms import DEFAULT_FORM, FORMS, quiet  # noqa: E402
from keymiss.reading.backends.base import Model  # noqa: E402
from keymiss.reading.backends.table import backend_table  # noqa: E402
from keymiss.reading.reader import Inputs, Reader  # noqa: E402
from keymiss.reading.tensors import Tensor  # noqa: E402
from keymiss.retrieval import Candidate  # noqa: E402
from tests.servers import RedisClusterServers, RedisServer, WorkerProcess, wait_until  # noqa: E402

CLIENTS = 50
CANDIDATES = 20
ARTICLE = "bench"
CORES = len(os.sched_getaffinity(0))
NOTHING = """
def nothing(record):
    override_reply('x')

GB('KeysReader').foreach(nothing).register(
    prefix='nothing:', eventTypes=['keymiss'], commands=['get'], mode='async_local')
"""


def redis_benchmark(port: int, clients: int, requests: int, *command: str) -> tuple[float, float]:
    """Requests a second and the median in ms; __rand_int__ in the command is another number each time."""
    done = subprocess.run(
        [
            *("redis-benchmark", "-p", str(port), "-c", str(clients), "-n", str(requests), "--csv"),
            *("-r", "1000000000", *command),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    numbers = [
        field.strip('"') for field in re.findall(r'"[^"]*"(?=,|$)', done.stdout.strip().split("\n")[-1])
    ]
    return float(numbers[-7]), float(numbers[-4])


def without_a_model(table: Table, rounds: int) -> None:
    """Rows of a function that costs nothing."""
    with RedisServer() as server, WorkerProcess(server, "--nice", "0"), server.client() as client:
        client.execute_command("RG.PYEXECUTE", NOTHING)
        command = ("get", "nothing:__rand_int__")
        redis_benchmark(server.port, CLIENTS, 2000, *command)
        many = [redis_benchmark(server.port, CLIENTS, 10_000, *command)[0] for _ in range(rounds)]
        one = [redis_benchmark(server.port, 1, 2000, *command)[1] for _ in range(rounds)]
        table.add_row(
            f"no cost, {CLIENTS} clients",
            f"{statistics.median(many):,.0f} /s",
            f"{min(many):,.0f} to {max(many):,.0f}",
        )
        table.add_row(
            "no cost, one client", f"{statistics.median(one):.2f} ms", f"{min(one):.2f} to {max(one):.2f}"
        )


def texts_of(folder: Path, wanted: int) -> list[str]:
    """Sentences of CORD-19 files."""
    found = itertools.chain.from_iterable(
        split_sentences(read_article(path).paragraphs) for path in sorted(folder.rglob("*.json"))
    )
    return [text for text in found if 40 < len(text) < 400][:wanted]


class RawForward:
    """The same file without a server: one thread a run."""

    def __init__(self, model: str, form: str) -> None:
        (path,) = exported_files(model, form)
        with quiet():
            backend = backend_table("torch")[FORMS[form].backend]
            self._model: Model = backend.load(path.read_bytes())
        assert self._model.about is not None
        self.reader = Reader.of(self._model.about)
        self._pool = ThreadPoolExecutor(CORES, initializer=backend.prepare_thread)

    def ms(self, question: str, texts: Sequence[str]) -> float:
        """All of them, in all threads."""
        inputs = [self.reader.inputs(question, self.reader.sentence(text)) for text in texts]
        began_s = time.perf_counter()
        list(self._pool.map(self._run, inputs))
        return (time.perf_counter() - began_s) * 1000

    def _run(self, inputs: Inputs) -> None:
        arrays = (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)
        self._model.run([Tensor(array) for array in arrays])


@dataclass(frozen=True)
class Access:
    """As the API reaches the cluster."""

    nodes: Any
    credentials: Any = NO_CREDENTIALS
    connections_per_shard: int = 64
    topology_poll_s: float = 5.0


def cpu_ms(pid: int) -> float:
    """Of a process so far: what it costs however busy the machine is."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def spread(numbers: Sequence[float]) -> str:
    return f"{min(numbers):.1f} to {max(numbers):.1f}"


def distinct_misses(server: RedisServer, tag: str, n: int, clients: int, seconds: float) -> tuple[int, float]:
    """How many, and a second, of so many clients: each asks a new question of a sentence of its own."""
    stop_s = time.monotonic() + seconds
    counts: list[int] = []
    number = itertools.count()

    def ask(mine: int) -> None:
        with server.client() as client:
            done = 0
            for turn in itertools.count():
                if time.monotonic() > stop_s:
                    break
                idx = (mine + turn * clients) % n
                client.get(keys.answer_key(ARTICLE, tag, idx, f"Who carried the virus, {next(number)}"))
                done += 1
            counts.append(done)

    began_s = time.monotonic()
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts), sum(counts) / (time.monotonic() - began_s)


async def fresh_questions(
    nodes: str, candidates: dict[str, list[Candidate]], rounds: int, between: Callable[[str], None]
) -> list[float]:
    """The ms of asking all shards at once, of new questions; `between` gets each one's text first."""
    shards = ShardMap(Access(parse_addresses(nodes)))
    await shards.start()
    took: list[float] = []
    try:
        for turn in range(rounds):
            question = f"Who performs viral transmission among adults, {turn}"
            between(question)
            began_s = time.perf_counter()
            outcomes = await ask_all(shards, candidates, question, 30.0)
            took.append((time.perf_counter() - began_s) * 1000)
            bad = [outcome for outcome in outcomes if outcome.raw is None]
            if bad:
                raise SystemExit(f"{len(bad)} of {len(outcomes)} failed: {bad[0]}")
    finally:
        await shards.stop()
    return took


def with_the_reader(table: Table, model: str, form: str, masters: int, texts: list[str], rounds: int) -> None:
    """Rows of the real reader."""
    raw = RawForward(model, form)
    with RedisClusterServers(masters=masters) as cluster, WorkerProcess(cluster, "--nice", "0") as worker:
        load = [sys.executable, "-m", "keymiss.models.load", "--nodes", cluster.addresses, "--model", model]
        subprocess.run([*load, "--form", form], cwd=REPO, check=True, capture_output=True, timeout=300)
        with cluster.client(decode_responses=True) as client:
            for script in ("tokenize.py", "states.py", "qa.py"):
                source = (REPO / "gears" / script).read_text()
                client.execute_command("RG.PYEXECUTE", source, target_nodes=client.get_primaries()[0])
            tags = [shard.tag for shard in shards_of(client)]
            for tag in tags:
                client.hset(
                    keys.sentence_key(ARTICLE, tag), mapping={str(i): text for i, text in enumerate(texts)}
                )
            for tag in tags:
                wait_until(
                    lambda tag=tag: client.hlen(keys.tokens_key(ARTICLE, tag)) == len(texts), 120, "tokens"
                )
                client.get(keys.answer_key(ARTICLE, tag, 0, "Warm?"))
        server = cluster.masters[0]
        tag = tags[0]
        question = "Who carried the virus, 100"
        raw.ms(question, texts)
        for clients in (CLIENTS, 1):
            some = texts if clients > 1 else texts[:40]
            rates, raws, spent, raw_spent, done = [], [], 0.0, 0.0, 0
            for _ in range(rounds):
                raw_began_ms = time.process_time() * 1000
                if clients > 1:
                    raws.append(1000 * len(some) / raw.ms(question, some))
                else:
                    raws.append(1000 / statistics.mean(raw.ms(question, [text]) for text in some))
                raw_spent += time.process_time() * 1000 - raw_began_ms
                began_ms = cpu_ms(worker.pid)
                n, rate = distinct_misses(server, tag, len(some), clients, 5.0)
                spent += cpu_ms(worker.pid) - began_ms
                done += n
                rates.append(rate)
            ratio = statistics.median(a / b for a, b in zip(rates, raws, strict=True))
            rate, raw_rate = statistics.median(rates), statistics.median(raws)
            table.add_row(
                f"different misses, {clients} clients",
                f"{rate:.1f} /s",
                f"raw {raw_rate:.1f} /s; ratio {ratio:.2f}; "
                f"{1000 / rate:.1f} ms each (raw {1000 / raw_rate:.1f}); "
                f"the worker's CPU {spent / done:.2f} ms each (raw {raw_spent / rounds / len(some):.2f})",
            )
        each = CANDIDATES // masters
        asked = {
            tag: [
                Candidate(ARTICLE, tag, str(i * masters + j), texts[i * masters + j], 1.0)
                for i in range(each)
            ]
            for j, tag in enumerate(tags)
        }
        asked_texts = texts[:CANDIDATES]
        raws = []
        began_ms = cpu_ms(worker.pid)
        took = asyncio.run(
            fresh_questions(
                cluster.addresses,
                asked,
                3 * rounds,
                lambda question: raws.append(raw.ms(question, asked_texts)),
            )
        )
        spent = (cpu_ms(worker.pid) - began_ms) / len(took)
        took, raws = took[2:], raws[2:]
        a, b = statistics.median(took), statistics.median(raws)
        table.add_row(
            f"fresh question, {CANDIDATES} candidates, {masters} masters",
            f"{a:.1f} ms ({spread(took)})",
            f"raw {b:.1f} ms ({spread(raws)}); 1.2 x + 15: {1.2 * b + 15:.1f} ms; "
            f"the worker's CPU {spent:.0f} ms",
        )


def main(
    form: str = DEFAULT_FORM,
    model: str = "models/reader",
    masters: int = 4,
    sentences: Path = REPO / "data" / "sample",
    rounds: Annotated[int, typer.Option(help="of each figure")] = 5,
    reader: Annotated[bool, typer.Option(help="also with the reader")] = True,
    free: Annotated[bool, typer.Option(help="also the function that costs nothing")] = True,
) -> None:
    """What a miss costs beside the model."""
    table = Table("what", "result", "")
    if free:
        without_a_model(table, rounds)
    if reader:
        with_the_reader(table, model, form, masters, texts_of(sentences, 200), rounds)
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
