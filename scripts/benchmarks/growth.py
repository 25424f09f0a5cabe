"""A fresh question as the corpus, the masters and the clients become more."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx

from scripts.benchmarks.corpora import article_files, sentences_of, write_articles
from scripts.benchmarks.failure import BenchFailed
from scripts.benchmarks.figures import Point, Results, Row, at_most, percentile
from scripts.benchmarks.options import Options
from scripts.benchmarks.readers import ReadingProcess
from scripts.benchmarks.system import ASK_LIMIT_S, NO_RATE_LIMIT, System, is_whole

WARM = 2
WAIT_S = 1.0  # after a reply that says that too many ask; the API says so too


def growth(
    results: Results,
    options: Options,
    questions: Iterator[str],
    raw: ReadingProcess,
    kept: Callable[[Results, str], None],
) -> None:
    """Three curves, and a row for each goal. `kept` is called after each."""
    size, files = options.size, article_files(options.articles)
    with ExitStack() as stack:
        systems = {n: _system(stack, options, n) for n in size.masters}
        for system in systems.values():
            system.load_articles(files)
        _in_turns(results, options, "masters", 3.0, systems, questions, raw)
    kept(results, "growth of masters")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keymiss-corpus-")))
        real = sentences_of(files)
        systems = {n: _system(stack, options, options.masters) for n in size.corpus}
        for n, system in systems.items():
            system.load_articles(write_articles(real, n, folder / str(n)))
        _in_turns(results, options, "sentences", 20.0, systems, questions, raw)
    kept(results, "growth of sentences")
    with ExitStack() as stack:
        system = _system(stack, options, options.masters, NO_RATE_LIMIT)
        system.load_articles(files)
        for n in size.clients:
            point = clients_at_once(system, n, max(1.0, 2 * size.seconds), questions)
            results.curves.setdefault("clients", []).append(point)
    best = max(results.curves["clients"], key=lambda point: point.whole_per_s or 0.0)
    most = results.curves["clients"][-1]
    note = f"most at {best.x:.0f} clients: {best.whole_per_s or 0:.1f} /s"
    rate = most.whole_per_s or 0.0
    what = f"fresh questions answered, {most.x:.0f} clients"
    results.add(Row.of("growth", what, "/s", [rate], note=note))
    kept(results, "growth of clients")


def _system(
    stack: ExitStack, options: Options, masters: int, nginx: Mapping[str, str] | None = None
) -> System:
    return stack.enter_context(System(masters, model=options.model, form=options.form, nginx=nginx))


def _in_turns(
    results: Results,
    options: Options,
    what: str,
    most_ms: float,
    systems: Mapping[int, System],
    questions: Iterator[str],
    raw: ReadingProcess,
) -> None:
    """Every question goes to all systems, so that what else the machine does meets all of them. The goal is
    about the time beside the model's: other sentences may be longer ones."""
    took: dict[int, list[float]] = {n: [] for n in systems}
    raws: dict[int, list[float]] = {n: [] for n in systems}
    for turn in range(WARM + options.size.questions):
        question = next(questions)
        for n, system in systems.items():
            ms = system.ask(question).ms
            raw_ms = raw.ms(question, system.sentences_read(question))
            if turn >= WARM:
                took[n].append(ms)
                raws[n].append(raw_ms)
    results.curves[what] = [
        Point(n, statistics.median(took[n]), percentile(took[n], 99), statistics.median(raws[n]))
        for n in systems
    ]
    least, most = min(systems), max(systems)
    pairs = zip(took[most], raws[most], took[least], raws[least], strict=True)
    more = [(a - a_raw) - (b - b_raw) for a, a_raw, b, b_raw in pairs]
    plain = statistics.median(a - b for a, b in zip(took[most], took[least], strict=True))
    goal = at_most(most_ms, statistics.median(more), f"at most {most_ms:.0f} ms")
    name = f"fresh question, {least:,} to {most:,} {what}: more by"
    note = f"beside the raw forward of the sentences read; with it {plain:+.1f} ms"
    results.add(Row.of("growth", name, "ms", more, goal=goal, note=note))


def clients_at_once(system: System, n: int, seconds: float, questions: Iterator[str]) -> Point:
    """So many, each asking one fresh question after the other. Who is refused waits, as the reply says."""
    clients, lock, over = [_client(system) for _ in range(n)], threading.Lock(), threading.Event()
    took: list[float] = []
    refused: list[int] = []

    def ask(client: httpx.Client) -> None:
        while not over.is_set():
            with lock:
                question = next(questions)
            began_s = time.perf_counter()
            reply = client.post("/qasearch", json={"search": question, "exhaustive": True})
            ms = (time.perf_counter() - began_s) * 1000
            if is_whole(reply.status_code, reply.content):
                took.append(ms)
            else:
                refused.append(reply.status_code)
                over.wait(WAIT_S)

    threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    over.set()
    for thread in threads:
        thread.join()
    took_s = time.monotonic() - began_s
    for client in clients:
        client.close()
    if not took:
        raise BenchFailed(f"none of {n} clients had a whole reply; they had {sorted(set(refused))}")
    p50, p99 = statistics.median(took), percentile(took, 99)
    return Point(n, p50, p99, whole_per_s=len(took) / took_s, refused_per_s=len(refused) / took_s)


_context = httpx.create_ssl_context(verify=False)


def _client(system: System) -> httpx.Client:
    return httpx.Client(base_url=system.nginx.url, verify=_context, timeout=ASK_LIMIT_S)
