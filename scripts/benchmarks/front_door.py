"""Questions through nginx: fresh ones beside other ways to read the same sentences, and cached ones."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from keymiss import keys
from scripts.benchmarks.figures import Beside, Results, Row, at_least, at_most, beside, percentile
from scripts.benchmarks.options import Options
from scripts.benchmarks.readers import ReadingProcess, cold_ms
from scripts.benchmarks.system import Asked, System
from tests.api.scraping import Scraped

CANDIDATES = 20
WARM = 2
PAUSE_S = 0.025
"""Between cached questions: nginx lets an address ask 50 a second."""
SETTLE_S = 0.2
"""Before each way to read: the threads of the one before wait actively for a while."""
QUESTION = f"fresh question of {CANDIDATES} candidates"
AS_ASKED = "fresh question as users ask it"
PLAIN = "plain transformers"
READER, LOWER, ENCODER = (
    keys.without_tag(make("0")) for make in (keys.model_key, keys.lower_model_key, keys.encoder_key)
)


@dataclass(frozen=True)
class Way:
    """Another way to read: its name in the table, and the process."""

    name: str
    process: ReadingProcess


def fresh(
    results: Results,
    options: Options,
    system: System,
    questions: Iterator[str],
    form: str,
    raw: ReadingProcess,
    ways: Sequence[Way],
    stages: bool,
) -> list[float]:
    """Rounds: a question that nobody has asked, then its sentences by the raw forward and by each way. After
    them as many other questions as users ask them, of which not every candidate is read: then all
    candidates of the question by plain transformers, which do not know when to end.
    Returns how long those questions took, in ms."""
    took: list[float] = []
    usual: list[Asked] = []
    plain: dict[str, list[float]] = {way.name: [] for way in ways if way.name.startswith(PLAIN)}
    others: dict[str, list[float]] = {"raw": [], **{way.name: [] for way in ways}}
    asked: list[Asked] = []
    counts: list[int] = []
    before = system.worker_figures()
    for turn in range(WARM + options.size.questions):
        if turn == WARM:
            before = system.worker_figures()
        question = next(questions)
        one = system.ask(question)
        sentences = system.sentences_read(question)
        times = {}
        for way in (Way("raw", raw), *ways):
            time.sleep(SETTLE_S)
            times[way.name] = way.process.ms(question, sentences)
        time.sleep(SETTLE_S)
        if turn >= WARM:
            took.append(one.ms)
            asked.append(one)
            counts.append(len(sentences))
            for name, ms in times.items():
                others[name].append(ms)
    after = system.worker_figures()
    for _ in took:
        time.sleep(SETTLE_S)
        question = next(questions)
        usual.append(system.ask(question, exhaustive=False))
        candidates = system.sentences_read(question) if plain else []
        for way in ways:
            if way.name in plain:
                time.sleep(SETTLE_S)
                plain[way.name].append(way.process.ms(question, candidates))
    floor = beside(f"raw forward, {form}", took, others["raw"])
    limit = 1.2 * floor.value + 15
    goal = at_most(limit, statistics.median(took), f"at most 1.2 x raw + 15 ms: {limit:.0f} ms")
    note = f"p99 {percentile(took, 99):.0f} ms; {statistics.mean(counts):.0f} sentences read"
    results.add(Row.of("fresh", f"{QUESTION}, {form}", "ms", took, beside=floor, goal=goal, note=note))
    read = statistics.mean(one.reply["coverage"]["sentences"]["asked"] for one in usual)
    usual_ms = [one.ms for one in usual]
    ratio = statistics.median(usual_ms) / statistics.median(took)
    compared = Beside(QUESTION, statistics.median(took), ratio)
    note = f"other questions; {read:.1f} of {CANDIDATES} sentences read"
    results.add(Row.of("fresh", f"{AS_ASKED}, {form}", "ms", usual_ms, beside=compared, note=note))
    for way in ways:
        _warm(results, way, others[way.name], QUESTION, took)
        if way.name in plain:
            _warm(results, way, plain[way.name], AS_ASKED, usual_ms)
    if stages:
        results.stages = stages_of(system, asked, after.since(before))
    return usual_ms


def _warm(results: Results, way: Way, times_ms: Sequence[float], ours: str, ours_ms: Sequence[float]) -> None:
    """Its row, beside ours of the same questions."""
    compared = Beside(ours, statistics.median(ours_ms), beside("", times_ms, ours_ms).ratio)
    wanted = way.name.endswith("one by one")
    goal = at_least(4.5, compared.ratio, "at least 4.5 x as long") if wanted else None
    note = way.process.how
    results.add(
        Row.of("alternatives", f"{way.name}, warm", "ms", times_ms, beside=compared, goal=goal, note=note)
    )


def alternatives(options: Options, onnx: str, onnx_int8: str, stack: ExitStack) -> list[Way]:
    """What there is instead, with the same weights (beside a split reader: with those of the whole one of the
    same shape); each in a process of its own that stays."""
    model = options.whole_model
    made = [
        (f"{PLAIN}, one by one", ReadingProcess("transformers", model)),
        (f"{PLAIN}, its best batching", ReadingProcess("transformers-batched", model)),
        ("ONNX Runtime by itself, float32", ReadingProcess("onnxruntime", f"{model},{onnx}")),
        ("ONNX Runtime by itself, int8", ReadingProcess("onnxruntime", f"{model},{onnx_int8}")),
    ]
    if options.haystack:
        made.append(
            ("Haystack's TransformersExtractiveReader", ReadingProcess("haystack", model, options.haystack))
        )
    return [Way(name, stack.enter_context(process)) for name, process in made]


def cold(
    results: Results,
    options: Options,
    system: System,
    questions: Iterator[str],
    ways: Sequence[Way],
    usual_ms: Sequence[float],
) -> None:
    """Plain transformers when its process is not there yet: one by one, and in the batches found best.
    `usual_ms`: what `fresh` returned."""
    batches = next(way.process.how for way in ways if way.process.way == "transformers-batched")
    batched = f"{options.whole_model},{batches.rpartition(' ')[2]}"
    question = next(questions)
    took = [system.ask(question).ms]
    sentences = system.sentences_read(question)
    for _ in range(options.size.colds - 1):
        took.append(system.ask(next(questions)).ms)
    for name, way, path in (
        ("one by one", "transformers", options.whole_model),
        ("its best batching", "transformers-batched", batched),
    ):
        colds = [cold_ms(way, path, question, sentences) for _ in range(options.size.colds)]
        for ours, ours_ms in ((QUESTION, took), (AS_ASKED, usual_ms)):
            ratio = statistics.median(colds) / statistics.median(ours_ms)
            goal = at_least(60, ratio, "at least 60 x as long") if way == "transformers" else None
            compared = Beside(ours, statistics.median(ours_ms), ratio)
            results.add(
                Row.of(
                    "alternatives",
                    f"{PLAIN}, {name}, cold",
                    "ms",
                    colds,
                    beside=compared,
                    goal=goal,
                    note="from the start of the process",
                )
            )


def cached(results: Results, options: Options, system: System, questions: Iterator[str]) -> None:
    """Some questions, each asked again and again; in turns with the same as users ask them."""
    known = [next(questions) for _ in range(min(10, options.size.questions))]
    for question in known:
        system.ask(question)
    took: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(options.size.cached):
        for exhaustive, times_ms in took.items():
            times_ms.append(system.ask(known[turn % len(known)], exhaustive=exhaustive).ms)
            time.sleep(PAUSE_S)
    for exhaustive, what in ((True, "cached question"), (False, "cached question, as users ask it")):
        times_ms = took[exhaustive]
        p50, p99 = statistics.median(times_ms), percentile(times_ms, 99)
        goal = at_most(6.0, p50, "p50 at most 6 ms")
        results.add(
            Row.of("cached", f"{what}, p50", "ms", times_ms, goal=goal),
            Row.of("cached", f"{what}, p99", "ms", times_ms, value=p99),
        )


def stages_of(system: System, asked: Sequence[Asked], figures: Scraped) -> dict[str, float]:
    """Mean ms of each part of a question, in order; all together are the mean time."""
    n = len(asked)
    lines = [system.nginx_line(one.request_id) for one in asked]
    whole = statistics.mean(one.ms for one in asked)
    nginx = statistics.mean(1000 * float(line["took_s"]) for line in lines)
    upstream = statistics.mean(1000 * float(line["upstream_s"]) for line in lines)
    api = statistics.mean(float(one.reply["took_ms"]) for one in asked)
    stage = {
        name: statistics.mean(float(one.reply["stages_ms"][name]) for one in asked)
        for name in ("retrieve", "ask", "merge")
    }
    run_ms = figures.values_of("keymiss_worker_model_run_seconds_sum", "model")
    vector = min(stage["retrieve"], 1000 * run_ms.get(ENCODER, 0.0) / n)
    read_s = run_ms.get(READER, 0.0) + run_ms.get(LOWER, 0.0)
    model = min(stage["ask"], 1000 * read_s / n / len(os.sched_getaffinity(0)))
    jobs = figures.total("keymiss_worker_job_duration_seconds_count", kind="miss")
    job_s = figures.total("keymiss_worker_job_duration_seconds_sum", kind="miss")
    job = min(stage["ask"], 1000 * job_s / jobs) if jobs else model
    return {
        "client, TLS": max(0.0, whole - nginx),
        "nginx": max(0.0, nginx - upstream),
        "API: HTTP": max(0.0, upstream - api),
        "finding: the question's vector": vector,
        "finding: the rest": stage["retrieve"] - vector,
        "reading: the model, on all cores": model,
        "reading: the worker beside it": max(0.0, job - model),
        "reading: queue, slowest shard, the way": stage["ask"] - max(job, model),
        "merging": stage["merge"] + max(0.0, api - sum(stage.values())),
    }
