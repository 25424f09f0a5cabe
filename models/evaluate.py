"""How well questions of SQuAD-format files are answered: exact match and F1 (models.squad), in one table.

    python -m models.evaluate eager         --model models/reader         --data FILE [FILE...]
    python -m models.evaluate exported      --model var/models/reader.pt  --data FILE [FILE...]
    python -m models.evaluate cluster       --nodes 127.0.0.1:30001       --data FILE [FILE...]
    python -m models.evaluate retrieval     --url https://localhost:8080  --data FILE [FILE...]
    python -m models.evaluate answerability --model models/reader         --data FILE [FILE...]

The same questions, put to the Hugging Face model, to an exported file by the worker's own backends, to a
running cluster (each paragraph is a "sentence", asked by GET of bertspan...), and to /qasearch (which has to
find the sentence too). `answerability`: whether the score tells the sentence that answers from others of its
article.

What is written into the cluster is named evaluate-<run>-... and removed at the end, after Ctrl-C too.
Questions are of the held-out part (models.squad.split) if not told otherwise. What could not be put counts as
wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import redis
from numpy.typing import NDArray
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from keymiss import keys, text
from keymiss.loading import ShardTags, split_sentences
from keymiss.reader import About, Inputs, Reader, Sentence
from keymiss.retrieval import ShardIndex
from keymiss.settings import BadSetting, Settings, parse_nodes
from keymiss.span import Span
from keymiss.worker.model_backend import Model, ModelError
from keymiss.worker.tensors import Tensor
from models import squad
from models.export import DEFAULT_MODEL, ExportError, Source, arguments_of, default_out, read_back
from models.load import BACKENDS, masters
from models.squad import Paragraph, Question

PARTS = ("held-out", "calibration", "train", "all")
NO_ANSWER_BELOW = 0.5  # a score under it says that the text does not answer
ASK_LIMIT_S = 60.0  # of one wait for the cluster or the API; the module's own is 30 s
ASK_TRIES = 3  # while shards are busy: a worker that has just started loads the model first
IDLE_LIMIT_S = 10.0  # how long jobs that still run are waited for before what they wrote is removed
INDEX_LIMIT_S = 120.0  # until the API's retrieval has read what was loaded
WRITE_BATCH = 500
BUSY_TRIES = 20  # 429: nginx takes 50 questions a second
RECALL_AT = (1, 5, 20)
FILE_COLUMNS = 130  # of a table that does not go to a terminal
SHOWN = 5  # of the answers that differ, and of the reasons why questions could not be put

T = TypeVar("T")
R = TypeVar("R")
Floats = NDArray[np.float32]


class EvaluateError(RuntimeError):
    """An evaluation that cannot be made; the text says why and what to do."""


@dataclass(frozen=True)
class Item:
    """One question to put. `article`: the place of its article in the part."""

    article: int
    paragraph: Paragraph
    question: Question

    @property
    def references(self) -> list[str]:
        """The texts of the answers that are right."""
        return [answer.text for answer in self.question.answers]


@dataclass(frozen=True)
class Part:
    """A part of a file, and those of its questions that are asked."""

    name: str
    articles: list[list[Paragraph]]
    items: list[Item]


@dataclass(frozen=True)
class Given:
    """An answer. `problem`: why there is none. `rank`: the first of `results` that is of the right paragraph,
    from 1; 0 if none is (retrieval only)."""

    answer: str
    score: float
    ms: float
    problem: str = ""
    rank: int = 0
    results: int = 0


@dataclass(frozen=True)
class Scores:
    """Figures of one file. `exact`, `f1`: percent of the `questions` that have an answer; `ms`: median of one
    question; `failed`: questions that could not be put, counted as wrong. `unanswerable` questions (SQuAD
    2.0) are apart: `refused` percent of them were given a score below 0.5, as is right."""

    questions: int
    exact: float
    f1: float
    ms: float
    failed: int = 0
    unanswerable: int = 0
    refused: float = 0.0


Way = Callable[[Item], Given]


# ---- what is asked, and the figures


def part_of(path: Path, part: str = "held-out", limit: int | None = None) -> Part:
    """A part of a file; of more than `limit` questions as many drawn, the same ones every time.

    squad.BadFile if the file is bad, EvaluateError if the part has no question.
    """
    articles = squad.read(path)
    if part != "all":
        articles = getattr(squad.split(articles), part.replace("-", "_"))
    items = [Item(n, p, q) for n, article in enumerate(articles) for p in article for q in p.questions]
    if not items:
        raise EvaluateError(f"{path}: its {part} part has no question")
    if limit is not None and limit < len(items):
        chosen = sorted(random.Random(0).sample(range(len(items)), limit))
        items = [items[i] for i in chosen]
    return Part(path.stem, articles, items)


def scores(items: Sequence[Item], given: Sequence[Given]) -> Scores:
    """The figures of these answers."""
    pairs = list(zip(items, given, strict=True))
    answerable = [(item, one) for item, one in pairs if item.references]
    exact = [squad.exact_match(one.answer, item.references) * (not one.problem) for item, one in answerable]
    shared = [squad.f1(one.answer, item.references) * (not one.problem) for item, one in answerable]
    rest = [one for item, one in pairs if not item.references]
    refused = [not one.problem and one.score < NO_ANSWER_BELOW for one in rest]
    return Scores(
        questions=len(answerable),
        exact=percent(exact),
        f1=percent(shared),
        ms=statistics.median([one.ms for one in given if not one.problem] or [0.0]),
        failed=sum(bool(one.problem) for one in given),
        unanswerable=len(rest),
        refused=percent(refused),
    )


def percent(values: Sequence[float]) -> float:
    """The mean in percent; 0 of none."""
    return 100 * sum(values) / len(values) if values else 0.0


def in_threads(
    function: Callable[[T], R], given: Sequence[T], threads: int, title: str, torch: bool
) -> list[R]:
    """function of each, in order, on several threads; what has not begun is left when an error ends it.

    torch: each thread runs models, on itself alone.
    """
    pool = ThreadPoolExecutor(threads, initializer=_one_thread_each if torch else None)
    console = Console(stderr=True)
    try:
        with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
            return list(bar.track(pool.map(function, given), total=len(given), description=title))
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread_each() -> None:
    import torch

    torch.set_num_threads(1)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


# ---- models


class EagerModel:
    """A Hugging Face model, to be run as the worker's backends run theirs."""

    about: About | None

    def __init__(self, source: Source) -> None:
        self.about, self._model = source.about("float32"), source.eager
        self._takes = arguments_of(self._model)

    def run(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """input_ids, attention_mask, token_type_ids -> start and end logits. ModelError if that fails."""
        import torch

        try:
            ids, mask, types = (torch.from_numpy(np.array(tensor.array)) for tensor in inputs)
            extra = {"token_type_ids": types} if "token_type_ids" in self._takes else {}
            with torch.inference_mode():
                out = self._model(input_ids=ids, attention_mask=mask, **extra)
            return [Tensor(logits.numpy()) for logits in (out.start_logits, out.end_logits)]
        except (RuntimeError, IndexError, ValueError) as error:
            raise ModelError(f"the model run failed: {error}") from error


def open_model(given: str) -> tuple[Model, Reader]:
    """A folder or a hub's name: the eager model; a file: an exported one. Each with its own reader.

    EvaluateError, ExportError, ModelError or text.TextError if it cannot be used.
    """
    path = Path(given)
    if path.suffix in BACKENDS and not path.is_file():
        raise EvaluateError(f"there is no {path}: python -m models.export makes it")
    model: Model = _exported(path) if path.is_file() else EagerModel(Source(given))
    if model.about is None:
        raise EvaluateError(f"{path} does not say which tokenizer it needs: export it again")
    return model, Reader.of(model.about)


def _exported(path: Path) -> Model:
    if path.suffix not in BACKENDS:
        raise EvaluateError(f"{path} is not an exported model: {' or '.join(BACKENDS)}")
    return read_back(path, BACKENDS[path.suffix])


def logits_of(model: Model, inputs: Inputs) -> tuple[Floats, Floats]:
    """Start and end logits [windows, seq] of all windows."""
    found = []
    for run in inputs.runs():
        arrays = (run.input_ids, run.attention_mask, run.token_type_ids)
        start, end = model.run([Tensor(array) for array in arrays])[:2]
        found.append((start.array, end.array))
    starts, ends = zip(*found, strict=True)
    return np.concatenate(starts), np.concatenate(ends)


def find(model: Model, reader: Reader, question: str, sentence: Sentence) -> Span:
    """The answer. ValueError or ModelError says why there is none."""
    inputs = reader.inputs(question, sentence)
    return reader.answer(sentence, inputs, *logits_of(model, inputs))


def by_model(model: Model, reader: Reader) -> Way:
    """Puts a question and its paragraph to a model in this process."""

    def ask(item: Item) -> Given:
        began_s = time.perf_counter()
        try:
            span = find(model, reader, item.question.question, reader.sentence(item.paragraph.context))
        except (ValueError, ModelError) as error:
            return Given("", 0.0, _ms_since(began_s), str(error))
        return Given(span.text, span.score, _ms_since(began_s))

    return ask


def _ms_since(began_s: float) -> float:
    return (time.perf_counter() - began_s) * 1000


def score_file(
    model: Model, reader: Reader, path: Path, limit: int | None = None, threads: int | None = None
) -> Scores:
    """The figures of a model on the held-out part of a file. squad.BadFile if that is bad."""
    part = part_of(path, limit=limit)
    given = in_threads(by_model(model, reader), part.items, threads or processors(), part.name, torch=True)
    return scores(part.items, given)


# ---- the running cluster


def connect(nodes: str) -> RedisCluster:
    """A client whose every wait ends, and that repeats nothing. EvaluateError if no node answers."""
    try:
        startup = [ClusterNode(host, port) for host, port in parse_nodes(nodes)]
        return RedisCluster(
            startup_nodes=startup,
            decode_responses=True,
            encoding_errors="surrogateescape",  # keys of others may be any bytes
            socket_timeout=ASK_LIMIT_S,
            retry=Retry(NoBackoff(), 0),
        )
    except (redis.RedisError, RedisClusterException, BadSetting) as error:
        raise EvaluateError(f"no cluster at {nodes}: {error}") from error


def names_of(part: Part, run: str) -> list[str]:
    """A name for each article of the part, with the run's own prefix. It has no underscore and no brace."""
    stem = re.sub(r"[^A-Za-z0-9.]+", "-", part.name)
    return [f"{run}-{stem}-{number}" for number in range(len(part.articles))]


@dataclass
class Visit:
    """What one run writes into a cluster: all is named by `run`, so that it is known again."""

    client: RedisCluster
    run: str = field(default_factory=lambda: f"evaluate-{uuid.uuid4().hex[:8]}")
    asked: set[str] = field(default_factory=set)  # questions put to any sentence, with
    cached_before: set[str] = field(default_factory=set)  # the answers to them that were there before

    @cached_property
    def tags(self) -> ShardTags:
        """The tag of the shard that an article goes to."""
        return ShardTags(self.client)

    def store(self, article: str, sentences: Mapping[str, str], tag: str | None = None) -> None:
        """Write a hash of sentences, on the article's shard or that of `tag`."""
        key, pairs = keys.sentence_key(article, tag or self.tags.tag_of(article)), list(sentences.items())
        for at in range(0, len(pairs), WRITE_BATCH):
            self.client.hset(key, mapping=dict(pairs[at : at + WRITE_BATCH]))

    def scan(self, pattern: str) -> Iterator[str]:
        """The names of the masters' keys that match."""
        for node in self.client.get_primaries():
            yield from self.client.scan_iter(pattern, count=1000, target_nodes=node)

    def will_ask(self, questions: set[str]) -> None:
        """These are asked about sentences of others too: those answers have to go as well."""
        self.asked, self.cached_before = questions, set(self._answers_to(questions))

    def _answers_to(self, questions: set[str]) -> Iterator[str]:
        return (key for key in self.scan("bert*{*}_*:{*}:*_*") if _question_in(key) in questions)

    def remove(self) -> None:
        """All that was written. The sentences first: no answer is kept for one that is gone."""
        self._unlink(self.scan(f"{keys.SENTENCE_PREFIX}{self.run}-*"))
        self._wait_idle()
        self._unlink(self.scan(f"{keys.TOKENIZED_PREFIX}{self.run}-*"))
        self._unlink(self.scan(f"bert*{{*}}_{self.run}-*"))
        if self.asked:
            self._unlink(key for key in self._answers_to(self.asked) if key not in self.cached_before)

    def _unlink(self, names: Iterable[str]) -> None:
        for key in list(names):
            self.client.unlink(key)

    def _wait_idle(self) -> None:
        """Until no shard has a job, or IDLE_LIMIT_S: a job that still runs may write a tensor."""
        until_s = time.monotonic() + IDLE_LIMIT_S
        while time.monotonic() < until_s and any(map(self._jobs, self.client.get_primaries())):
            time.sleep(0.05)

    def _jobs(self, node: ClusterNode) -> int:
        flat = self.client.execute_command("KM.STATS", target_nodes=node)
        stats = dict(zip(flat[::2], flat[1::2], strict=True))
        return sum(int(stats[name]) for name in ("jobs_queued", "events_queued", "jobs_running"))


def _question_in(key: str) -> str:
    try:
        return keys.parse_answer_key(key).question
    except ValueError:
        return ""


@contextmanager
def visiting(nodes: str) -> Iterator[Visit]:
    """A visit that leaves nothing behind, however it ends; SIGTERM ends it as Ctrl-C does."""
    with connect(nodes) as client:
        visit = Visit(client)
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield visit
        finally:
            try:
                with not_interrupted():
                    visit.remove()
            except (redis.RedisError, RedisClusterException) as error:
                raise EvaluateError(f"keys named {visit.run} could not be removed: {error}") from error
            finally:
                signal.signal(signal.SIGTERM, before)


@contextmanager
def not_interrupted() -> Iterator[None]:
    """A second Ctrl-C does not stop the removal; its waits have limits."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def by_cluster(visit: Visit, part: Part) -> Way:
    """Stores the paragraphs, each as one sentence, and asks by GET of bertspan..."""
    names = names_of(part, visit.run)
    for name, article in zip(names, part.articles, strict=True):
        visit.store(name, {str(paragraph.number): paragraph.context for paragraph in article})

    def ask(item: Item) -> Given:
        name = names[item.article]
        key = keys.span_key(name, visit.tags.tag_of(name), item.paragraph.number, item.question.question)
        for _ in range(ASK_TRIES):
            began_s, problem = time.perf_counter(), ""
            try:
                raw = visit.client.get(key)
                break
            except (redis.RedisError, RedisClusterException) as error:
                problem = str(error) or type(error).__name__
            if not problem.startswith(("TIMEOUT ", "BUSY ")):
                break
        if problem:
            return Given("", 0.0, _ms_since(began_s), problem)
        if raw is None:
            raise EvaluateError("no function answers bertspan: keymiss.cli gears upload gears/*.py")
        known = json.loads(raw)
        return Given(known["answer"], float(known["score"]), _ms_since(began_s))

    return ask


# ---- /qasearch


@dataclass
class Search:
    """The API. `asked`: the most sentences it asked for one question, `results`: the most it gave;
    `sentences`, `answered`: of all questions, those asked and those answered in its time limit."""

    http: httpx.Client
    asked: int = 0
    results: int = 0
    sentences: int = 0
    answered: int = 0

    def ask(self, question: str) -> list[dict[str, Any]]:
        """Its results, best first. EvaluateError says why there are none."""
        try:
            for _ in range(BUSY_TRIES):
                reply = self.http.post("/qasearch", json={"search": question})
                if reply.status_code != 429:
                    break
                time.sleep(0.25)
            body = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EvaluateError(f"{self.http.base_url} does not answer: {error!r}") from None
        if reply.status_code != 200:
            raise EvaluateError(f"{reply.status_code} {body.get('detail') or body.get('title')}")
        results: list[dict[str, Any]] = body["results"]
        covered = body["coverage"]["sentences"]
        self.asked = max(self.asked, covered["asked"])
        self.sentences, self.answered = self.sentences + covered["asked"], self.answered + covered["answered"]
        self.results = max(self.results, len(results))
        return results

    def check(self) -> None:
        """EvaluateError if there is no API."""
        try:
            self.http.get("/livez").raise_for_status()
        except httpx.HTTPError as error:
            raise EvaluateError(f"there is no API at {self.http.base_url}: {error}") from None

    def wait_indexed(self, visit: Visit) -> None:
        """Until a sentence that is written now, after all others, is found on every shard.

        A shard tells what changed in the order it changed. EvaluateError after INDEX_LIMIT_S.
        """
        name, word = f"{visit.run}-last", visit.run.replace("-", "")
        missing = {f"{word}{number}": tag for number, (_, tag) in enumerate(masters(visit.client))}
        for marker, tag in missing.items():
            visit.store(name, {"0": marker}, tag)
        until_s, reason = time.monotonic() + INDEX_LIMIT_S, ""
        while missing:
            try:
                missing = {marker: tag for marker, tag in missing.items() if not self.ask(marker)}
            except EvaluateError as error:  # not ready yet
                reason = f" ({error})"
            if missing and time.monotonic() > until_s:
                raise EvaluateError(f"not indexed within {INDEX_LIMIT_S:.0f} s: {missing.values()}{reason}")
            time.sleep(0.1)


def by_search(search: Search, visit: Visit, part: Part) -> Way:
    """Loads the part as a corpus, an article as the loader would, and asks /qasearch."""
    where: dict[tuple[str, str], Paragraph] = {}
    for name, article in zip(names_of(part, visit.run), part.articles, strict=True):
        sentences: dict[str, str] = {}
        for paragraph in article:
            for sentence in split_sentences([paragraph.context]):
                idx = str(len(sentences))
                where[name, idx], sentences[idx] = paragraph, sentence
        visit.store(name, sentences)
    search.wait_indexed(visit)

    def paragraph_of(result: dict[str, Any]) -> Paragraph | None:
        article, _, idx = result["sentencekey"].rpartition(":")
        return where.get((article.rpartition(":")[0], idx))

    def ask(item: Item) -> Given:
        began_s = time.perf_counter()
        try:
            results = search.ask(item.question.question)
        except EvaluateError as error:
            return Given("", 0.0, _ms_since(began_s), str(error))
        ms = _ms_since(began_s)
        right = (rank for rank, one in enumerate(results, 1) if paragraph_of(one) is item.paragraph)
        top: dict[str, Any] = results[0] if results else {"answer": "", "reader_score": 0.0}
        return Given(top["answer"], float(top["reader_score"]), ms, "", next(right, 0), len(results))

    return ask


def recalls(items: Sequence[Item], given: Sequence[Given]) -> dict[str, float]:
    """Percent of the questions that have an answer with a result of the right paragraph among the first n."""
    ranks = [one.rank for item, one in zip(items, given, strict=True) if item.references]
    return {f"recall_{at}": percent([0 < rank <= at for rank in ranks]) for at in RECALL_AT}


# ---- whether the score tells the sentence that answers from others


class Pool:
    """The sentences of some paragraphs: which one answers, and which others come near it by BM25."""

    def __init__(self, paragraphs: Sequence[Paragraph]) -> None:
        self.texts: list[str] = []
        self._places: dict[int, list[tuple[int, int, int]]] = {}
        for paragraph in paragraphs:
            places = self._places.setdefault(id(paragraph), [])
            for start, end in squad.sentence_spans(paragraph.context):
                sentence = paragraph.context[start:end]
                if any(letter.isalnum() for letter in sentence):  # as keymiss.loading
                    places.append((start, end, len(self.texts)))
                    self.texts.append(sentence)
        self._words = [f" {squad.normalized(sentence)} " for sentence in self.texts]
        self._index = ShardIndex()
        self._index.put(b"sentence:pool:{0}", {b"%d" % i: s.encode() for i, s in enumerate(self.texts)})
        self._index.commit()
        self._paragraphs = paragraphs  # their ids are theirs as long as they are kept

    def right(self, item: Item) -> int | None:
        """The sentence of the paragraph that holds most of the answers; None if none holds one as a whole."""
        held = [
            (sum(start <= answer.start and answer.end <= end for answer in item.question.answers), -number)
            for start, end, number in self._places[id(item.paragraph)]
        ]
        most, number = max(held, default=(0, 0))
        return -number if most else None

    def holds(self, number: int, item: Item) -> bool:
        """Whether one of the answers stands in that sentence, word for word."""
        wanted = filter(None, map(squad.normalized, item.references))
        return any(f" {answer} " in self._words[number] for answer in wanted)

    def nearest(self, item: Item, limit: int) -> list[int]:
        """The sentences with the best BM25 for the question, best first, except the right one."""
        right = self.right(item)
        found = (int(one.idx) for one in self._index.search(item.question.question, limit + 1))
        return [number for number in found if number != right][:limit]


@dataclass(frozen=True)
class Against:
    """Scores of one question: the right sentence's, and those of others. `clean`: without one that holds an
    answer too; `any`: as they were drawn."""

    right: float
    random_clean: list[float]
    random_any: list[float]
    hard_clean: list[float]
    hard_any: list[float]


HARD_SEARCHED = 20  # sentences by BM25, of which the first without an answer is the hard one


def against(model: Model, reader: Reader, pool: Pool, item: Item, negatives: int) -> Against | None:
    """None if no sentence holds the answer, or it cannot be put to the model."""
    right = pool.right(item)
    if right is None:
        return None

    def clean(numbers: Sequence[int], limit: int) -> list[int]:
        return list(islice((number for number in numbers if not pool.holds(number, item)), limit))

    others = [number for number in range(len(pool.texts)) if number != right]
    drawn = random.Random(item.question.id).sample(others, len(others))
    hard = pool.nearest(item, HARD_SEARCHED)
    chosen = [clean(drawn, negatives), drawn[:negatives], clean(hard, 1), hard[:1]]
    try:
        score = {
            number: find(model, reader, item.question.question, reader.sentence(pool.texts[number])).score
            for number in {right, *chain.from_iterable(chosen)}
        }
    except (ValueError, ModelError):
        return None
    return Against(score[right], *([score[number] for number in numbers] for numbers in chosen))


def wins(found: Sequence[Against], kind: str) -> float:
    """Percent of the pairs in which the right sentence has the higher score; a tie counts half."""
    pairs = [(one.right, other) for one in found for other in getattr(one, kind)]
    return percent([(right > other) + 0.5 * (right == other) for right, other in pairs])


def answerability(model: Model, reader: Reader, part: Part, negatives: int, threads: int) -> dict[str, Any]:
    """The figures of one file. Articles are the file's own, also where models.squad splits by paragraph."""
    groups: dict[str, list[Paragraph]] = {}
    for article in part.articles:
        for paragraph in article:
            groups.setdefault(paragraph.article, []).append(paragraph)
    found: list[Against | None] = []
    for name, paragraphs in groups.items():
        items = [item for item in part.items if item.paragraph.article == name and item.references]
        pool = Pool(paragraphs)
        ask = partial(against, model, reader, pool, negatives=negatives)
        found += in_threads(lambda item, ask=ask: ask(item), items, threads, name, torch=True)  # type: ignore[misc]
    right = [one for one in found if one]
    figures: dict[str, Any] = {"questions": len(right), "left_out": len(found) - len(right)}
    for kind in ("random_clean", "random_any", "hard_clean", "hard_any"):
        figures[kind] = wins(right, kind)
        figures[f"{kind}_pairs"] = sum(len(getattr(one, kind)) for one in right)
    return figures


# ---- the command line


def plain_or_terminal() -> Console:
    """For standard output; in a file tables are as wide as they have to be."""
    console = Console()
    return console if console.is_terminal else Console(width=FILE_COLUMNS)


def show(console: Console, title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    """A table with a column for each of `columns` (field -> heading)."""
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(columns.values()):
        table.add_column(heading, justify="right" if place else "left", no_wrap=not place)
    for row in rows:
        values = [row[name] for name in columns]
        table.add_row(*(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)


def show_problems(console: Console, given: Sequence[Given]) -> None:
    """Why questions could not be put. EvaluateError if that is so for every one."""
    reasons = [one.problem for one in given if one.problem]
    if reasons and len(reasons) == len(given):
        raise EvaluateError(f"not one question could be put: {reasons[0]}")
    for reason in list(dict.fromkeys(reasons))[:SHOWN]:
        console.print(
            f"could not be put, {reasons.count(reason)} questions: {reason}", markup=False, soft_wrap=True
        )


def show_differences(
    console: Console, items: Sequence[Item], one: Sequence[Given], other: Sequence[Given]
) -> float:
    """How many percent of the answers are the same text; the first that are not."""
    rows = list(zip(items, one, other, strict=True))
    differ = [row for row in rows if row[1].answer != row[2].answer or row[1].problem or row[2].problem]
    same = 100 * (1 - len(differ) / len(rows))
    console.print(f"the same answer to {len(rows) - len(differ)} of {len(rows)} questions ({same:.1f} %)")
    for item, here, there in differ[:SHOWN]:
        said = [f"{given.answer!r} ({given.score:.3f}){given.problem}" for given in (here, there)]
        console.print(
            f"  {item.question.question}\n    {said[0]}\n    {said[1]}", markup=False, soft_wrap=True
        )
    return same


def evaluate(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run one of the ways on every file, print its table; the figures."""
    parts = [part_of(path, options.part, options.limit) for path in options.data]
    way: str = options.way
    if way in ("eager", "exported") and Path(options.model).is_file() != (way == "exported"):
        raise EvaluateError(f"{options.model} is not what `{way}` takes")
    if way == "answerability":
        return _answerability(options, parts, console)
    rows: dict[str, dict[str, Any]] = {}
    all_items: list[Item] = []
    everything: list[Given] = []
    model = open_model(options.model) if getattr(options, "model", None) else None
    for part in parts:
        given, more = _one_part(options, part, model, console)
        rows[part.name] = asdict(scores(part.items, given)) | more
        all_items, everything = all_items + part.items, everything + given
    if len(parts) > 1:
        more = recalls(all_items, everything) if way == "retrieval" else {}
        rows["all"] = asdict(scores(all_items, everything)) | more
    show_problems(console, everything)
    show(console, _title(options), [{"file": name} | row for name, row in rows.items()], _columns(way, rows))
    return {"way": way, "part": options.part, "files": rows}


def _one_part(
    options: argparse.Namespace, part: Part, model: tuple[Model, Reader] | None, console: Console
) -> tuple[list[Given], dict[str, Any]]:
    """The answers of one part, and what else is known of them."""
    if options.way in ("eager", "exported"):
        assert model
        return in_threads(by_model(*model), part.items, options.threads, part.name, torch=True), {}
    with visiting(options.nodes) as visit:
        if options.way == "retrieval":
            return _searched(options, part, visit, console)
        way = by_cluster(visit, part)
        given = in_threads(way, part.items, options.at_once, part.name, torch=False)
    if not model:
        return given, {}
    other = in_threads(by_model(*model), part.items, processors(), options.against, torch=True)
    console.print(f"{part.name}: the cluster, and {options.against} {options.model}")
    return given, {"same_answer": show_differences(console, part.items, given, other)}


def _searched(
    options: argparse.Namespace, part: Part, visit: Visit, console: Console
) -> tuple[list[Given], dict[str, Any]]:
    """Ask /qasearch, and say among what it had to find the paragraphs."""
    with httpx.Client(base_url=options.url, verify=False, timeout=ASK_LIMIT_S) as http:  # self-signed
        search = Search(http)
        search.check()
        others = sum(1 for _ in visit.scan(f"{keys.SENTENCE_PREFIX}*"))
        visit.will_ask({" ".join(item.question.question.split()) for item in part.items})
        way = by_search(search, visit, part)
        given = in_threads(way, part.items, options.at_once, part.name, torch=False)
    console.print(
        f"{part.name}: /qasearch asked at most {search.asked} sentences a question "
        f"(KEYMISS_API_CANDIDATES_PER_SHARD on each shard) and gave at most {search.results} results "
        f"(KEYMISS_API_RESULTS): recall is among those.",
        soft_wrap=True,
    )
    if search.answered < search.sentences:
        console.print(
            f"Only {search.answered} of {search.sentences} sentences were answered within "
            "KEYMISS_API_TIME_LIMIT_S: on a machine that is less busy the figures may be better.",
            soft_wrap=True,
        )
    if others:
        console.print(f"{others} articles that were loaded before compete with this corpus.")
    counts = {name: getattr(search, name) for name in ("asked", "results", "sentences", "answered")}
    return given, recalls(part.items, given) | counts | {"competing": others}


def _title(options: argparse.Namespace) -> str:
    what = {"cluster": "nodes", "retrieval": "url"}.get(options.way, "model")
    return f"{options.way} {getattr(options, what)}, {options.part} questions"


def _columns(way: str, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    columns = {"file": "file", "questions": "questions", "exact": "EM", "f1": "F1", "ms": "ms a question"}
    if way == "retrieval":
        columns |= {f"recall_{at}": f"recall {at}" for at in RECALL_AT}
    if any(row["failed"] for row in rows.values()):
        columns["failed"] = "not put"
    if any(row["unanswerable"] for row in rows.values()):
        columns |= {"unanswerable": "unanswerable", "refused": "score < 0.5"}
    return columns


def _answerability(options: argparse.Namespace, parts: list[Part], console: Console) -> dict[str, Any]:
    model, reader = open_model(options.model)
    kind = (options.negatives, options.threads)
    rows = {part.name: answerability(model, reader, part, *kind) for part in parts}
    headings = {"file": "file", "questions": "questions", "left_out": "left out", "random_clean": "random"}
    headings |= {"random_any": "random, as drawn", "hard_clean": "hard", "hard_any": "hard, as found"}
    title = f"right sentence's score higher, % of pairs: {options.model}, {options.part} questions"
    show(console, title, [{"file": name} | row for name, row in rows.items()], headings)
    console.print(
        "random, hard: not one that holds an answer too. hard: the best by BM25. left out: no sentence "
        "holds the whole answer.",
        soft_wrap=True,
    )
    return {"way": options.way, "part": options.part, "negatives": options.negatives, "files": rows}


def positive(given: str) -> int:
    """An argument that is a whole number over 0."""
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{given} is not over 0")
    return number


def parser_of() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, nargs="+", required=True, help="files in SQuAD format")
    common.add_argument("--part", choices=PARTS, default=PARTS[0], help="of each file (models.squad.split)")
    common.add_argument("--limit", type=positive, help="questions of each file, drawn with a fixed seed")
    common.add_argument("--json", type=Path, help="write the figures there")
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate", description=(__doc__ or "").splitlines()[0]
    )
    ways = parser.add_subparsers(dest="way", required=True)
    nodes, exported = Settings.from_env().nodes, str(default_out(DEFAULT_MODEL))
    for name, default in (("eager", DEFAULT_MODEL), ("exported", exported), ("answerability", DEFAULT_MODEL)):
        way = ways.add_parser(name, parents=[common])
        way.add_argument("--model", default=default, help="default: %(default)s")
        way.add_argument("--threads", type=positive, default=processors(), help="default: %(default)s")
    way.add_argument("--negatives", type=positive, default=1, help="random sentences for each right one")
    cluster = ways.add_parser("cluster", parents=[common])
    cluster.add_argument("--against", choices=("eager", "exported"), help="compare with a model here")
    cluster.add_argument("--model", help="of --against")
    search = ways.add_parser("retrieval", parents=[common])
    search.add_argument("--url", default="https://localhost:8080")
    for way, at_once in ((cluster, 8), (search, 1)):
        way.add_argument("--nodes", default=nodes, help="host:port,... of the cluster (default: %(default)s)")
        way.add_argument("--at-once", type=positive, default=at_once, help="questions asked at the same time")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0 done; 1 a file, the model or the cluster is at fault; 130 interrupted."""
    try:
        parser = parser_of()
        options = parser.parse_args(arguments)
        if options.way == "cluster":
            if bool(options.against) != bool(options.model):
                parser.error("--against and --model go together")
            if options.model and Path(options.model).is_file() != (options.against == "exported"):
                parser.error(f"--model {options.model} is not what --against {options.against} takes")
        if len({path.stem for path in options.data}) < len(options.data):
            parser.error("two files of --data have the same name")
        figures = evaluate(options, plain_or_terminal())
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2) + "\n")
    except (
        EvaluateError, squad.BadFile, ExportError, ModelError, text.TextError, BadSetting, OSError,
        redis.RedisError, RedisClusterException,
    ) as error:  # fmt: skip
        print(f"models.evaluate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("models.evaluate: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
