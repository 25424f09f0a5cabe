"""How often retrieval finds the paragraph that answers, and what each of its signals adds.

    python scripts/evaluate_retrieval.py squad.json                    # in this process
    python scripts/evaluate_retrieval.py squad.json --part held-out    # only the held-out articles' questions
    python scripts/evaluate_retrieval.py squad.json --encoder FOLDER --form onnx --vector-weight 14
    python scripts/evaluate_retrieval.py squad.json --nodes HOST:PORT  # through a running cluster

All paragraphs of a file in SQuAD format are the corpus, its questions are asked (find_paragraphs.py).
In this process the articles are spread over SHARDS indexes and the encoder runs here. With --nodes they are
written as articles of a name of their own; the cluster's functions split and encode them, `Retrieval` follows
the shards as in the API, questions' vectors and links are asked from the shards; the articles are deleted at
the end. What else is in the cluster stays, and competes. "as /qasearch" reads no more sentences than it asks.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from redis.cluster import RedisCluster
from rich.console import Console
from rich.table import Table

from keymiss import keys
from keymiss.addresses import parse_addresses
from keymiss.api.graph.concept_names import Concepts
from keymiss.api.questions.linked_concepts import GraphKnowledge
from keymiss.api.questions.question_vector import QuestionVectors
from keymiss.api.settings import ApiSettings
from keymiss.api.unused import Unused
from keymiss.cluster.redis_cluster import shards_of
from keymiss.cluster.shard_map import ShardMap
from keymiss.cluster.topology import Shard, shard_of
from keymiss.corpus.progress import wait_processed
from keymiss.corpus.prose import join_paragraphs
from keymiss.graph.graph_url import graph_url
from keymiss.graph.reader_choice import choose_reader
from keymiss.local.redis_users import credentials_for
from keymiss.models.command_line import choice
from keymiss.models.export_encoder import DEFAULT_ENCODER, DEFAULT_ENCODER_FORM, ENCODER_FORMS
from keymiss.models.find_paragraphs import (
    PARTS,
    RECALL_AT,
    Asked,
    Corpus,
    Encoding,
    Hashes,
    Right,
    Row,
    all_places,
    measured,
    split_here,
)
from keymiss.models.load import connect
from keymiss.retrieval import Mix, Retrieval, ShardIndex

SHARDS = 4
PROCESSED_LIMIT_S = 1800.0
INDEXED_LIMIT_S = 120.0
VECTOR_LIMIT_S = 10.0
WAIT_S = 0.2
ASKED_AT_ONCE = 16
WORDS, VECTORS = Mix(vector_weight=0, graph_weight=0), Mix(bm25_weight=0, graph_weight=0)


def rows_of(
    corpus: Corpus,
    shards: Mapping[str, Hashes],
    indexes: Mapping[str, ShardIndex],
    asked: Sequence[Asked],
    mix: Mix,
    limit: int,
) -> Iterator[Row]:
    """What others do, BM25 of whole paragraphs and of sentences alone; the signals one by one; all."""
    if not corpus.by_sentence:
        yield _whole_paragraphs(corpus, shards, asked)
    places = all_places(shards.values(), corpus.by_sentence)
    alone = {tag: each.index(0) for tag, each in shards.items()}
    yield measured("BM25, sentences alone", alone, WORDS, asked, places)
    yield measured("BM25", indexes, WORDS, asked, places)
    yield measured("vectors", indexes, VECTORS, asked, places)
    yield measured("BM25, vectors", indexes, replace(mix, graph_weight=0), asked, places)
    if any(one.linked for one in asked):
        yield measured("BM25, vectors, graph", indexes, mix, asked, places)
    yield measured(f"as /qasearch: {limit} sentences", indexes, mix, asked, places, limit)


def _whole_paragraphs(corpus: Corpus, shards: Mapping[str, Hashes], asked: Sequence[Asked]) -> Row:
    whole = {tag: Hashes() for tag in shards}
    for tag, shard in shards.items():
        for key in shard.sentences:
            name = key.decode().removeprefix(keys.SENTENCE_PREFIX).rpartition(":")[0]
            whole[tag].sentences[key] = {
                b"%d" % at: text.encode() for at, text in enumerate(corpus.articles[name])
            }
            whole[tag].paragraph_of |= {(name, str(at)): at for at in range(len(corpus.articles[name]))}
    paragraphs = {tag: each.index(0) for tag, each in whole.items()}
    return measured("BM25, whole paragraphs", paragraphs, WORDS, asked, all_places(whole.values()))


def offline(corpus: Corpus, encoding: Encoding, mix: Mix, limit: int) -> list[Row]:
    """In this process; no graph."""
    began_s = time.perf_counter()
    shards = split_here(corpus, encoding, SHARDS)
    count = sum(len(fields) for shard in shards.values() for fields in shard.sentences.values())
    took_s = time.perf_counter() - began_s
    print(f"{count} sentences split and encoded in {took_s:.0f} s, {count / took_s:.0f} a second", flush=True)
    indexes = {tag: shard.index() for tag, shard in shards.items()}
    vectors = encoding.questions([question for question, _ in corpus.questions])
    asked = [Asked(*each, vector) for each, vector in zip(corpus.questions, vectors, strict=True)]
    return list(rows_of(corpus, shards, indexes, asked, mix, limit))


async def live(corpus: Corpus, nodes: str, mix: Mix, limit: int) -> list[Row]:
    """Through a running cluster."""
    with connect(nodes) as client:
        try:
            began_s = time.perf_counter()
            for name, paragraphs in corpus.articles.items():
                client.hset(keys.article_key(name), mapping={"title": name})
                client.set(keys.paragraphs_key(name), join_paragraphs(paragraphs))
            await asyncio.to_thread(wait_processed, client, PROCESSED_LIMIT_S)
            shards = _read(client, corpus)
            count = sum(len(fields) for shard in shards.values() for fields in shard.sentences.values())
            took_s = time.perf_counter() - began_s
            print(f"{count} sentences through the cluster in {took_s:.0f} s, {count / took_s:.0f} a second")
            return await _ask(corpus, nodes, shards, mix, limit)
        finally:
            for name in corpus.articles:
                client.delete(keys.paragraphs_key(name))
                client.delete(keys.article_key(name))


def _read(client: RedisCluster, corpus: Corpus) -> dict[str, Hashes]:
    """What the functions wrote. The client decodes replies; vectors are read by `Retrieval`, not here."""
    now, shards = shards_of(client), dict[str, Hashes]()
    for name in corpus.articles:
        tag = keys.article_tag(name)
        shard = shards.setdefault(shard_of(now, keys.paragraphs_key(name)).tag, Hashes())
        sentences = client.hgetall(keys.sentence_key(name, tag))
        numbers = json.loads(client.hget(keys.state_key(name, tag), "paragraph_of") or "[]")
        shard.paragraph_of |= {(name, str(idx)): number for idx, number in enumerate(numbers)}
        key = keys.sentence_key(name, tag).encode()
        shard.sentences[key] = {str(idx).encode(): str(text).encode() for idx, text in sentences.items()}
    return shards


async def _ask(corpus: Corpus, nodes: str, shards: Mapping[str, Hashes], mix: Mix, limit: int) -> list[Row]:
    named = parse_addresses(nodes)
    settings = ApiSettings(nodes=named, credentials=credentials_for(named))
    retrieval = Retrieval(credentials=settings.credentials)
    shard_map = ShardMap(settings)

    async def follow(now: tuple[Shard, ...]) -> None:
        await retrieval.follow({shard.tag: shard.master for shard in now})

    shard_map.on_change = follow
    await shard_map.start()
    concepts = Concepts(shard_map, settings.topology_poll_s)
    graph = choose_reader(graph_url(), shard_map, settings.time_limit_s)
    concepts.start()
    try:
        await _indexed(retrieval, shards)
        print(f"{retrieval.sentences()} sentences indexed, {retrieval.vectors()} with a vector", flush=True)
        vectors = QuestionVectors(shard_map, VECTOR_LIMIT_S)
        knowledge = GraphKnowledge(concepts, graph, settings.time_limit_s)
        gate = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(question: str, right: Right) -> Asked:
            async with gate:
                vector, linked = await vectors.get(question), await knowledge.linked(question)
                return Asked(question, right, None if isinstance(vector, Unused) else vector, linked.scores)

        asked = await asyncio.gather(*(ask(*each) for each in corpus.questions))
        print(
            f"of {len(asked)} questions {sum(one.vector is not None for one in asked)} have a vector, "
            f"{sum(bool(one.linked) for one in asked)} name linked concepts",
            flush=True,
        )
        return await asyncio.to_thread(
            lambda: list(rows_of(corpus, shards, retrieval.indexes(), asked, mix, limit))
        )
    finally:
        await concepts.stop()
        await graph.close()
        await shard_map.stop()
        await retrieval.stop()


async def _indexed(retrieval: Retrieval, shards: Mapping[str, Hashes]) -> None:
    """Until every shard's index has at least what was written there. TimeoutError."""
    wanted = {tag: sum(map(len, shard.sentences.values())) for tag, shard in shards.items()}
    async with asyncio.timeout(INDEXED_LIMIT_S):
        while any(  # noqa: ASYNC110 - an index tells nobody
            (retrieval.sentences().get(tag) or 0) < count for tag, count in wanted.items()
        ):
            await asyncio.sleep(WAIT_S)


def table_of(rows: Sequence[Row], title: str) -> Table:
    """For people."""
    table = Table(title=title, title_justify="left")
    for column in ("ranked by", *(f"recall@{at}" for at in RECALL_AT), "ms, p50"):
        table.add_column(column, justify="left" if column == "ranked by" else "right", no_wrap=True)
    for row in rows:
        table.add_row(row.way, *(f"{100 * recall:.1f}" for recall in row.recall), f"{row.p50_ms:.1f}")
    return table


def main(
    data: Annotated[Path, typer.Argument(help="a file in SQuAD format")],
    nodes: Annotated[str, typer.Option(help="of a running cluster; default: in this process")] = "",
    every: Annotated[int, typer.Option(help="every so-manieth question")] = 1,
    limit: Annotated[int, typer.Option(help="sentences of a question; default: the API's")] = 0,
    part: Annotated[str, choice(PARTS, "whose questions are asked")] = PARTS[0],
    encoder: Annotated[str, typer.Option(help="folder or hub name, in this process")] = DEFAULT_ENCODER,
    form: Annotated[str, choice(ENCODER_FORMS, "that it is exported to")] = DEFAULT_ENCODER_FORM,
    vector_weight: Annotated[float, typer.Option(min=0, help="in the ranking")] = Mix().vector_weight,
) -> None:
    """How often retrieval finds the paragraph that answers, and what each of its signals adds."""
    limit, mix = limit or ApiSettings().candidates, Mix(vector_weight=vector_weight)
    corpus = Corpus.of(data, f"eval{os.getpid()}-", every, part)
    if nodes:
        rows = asyncio.run(live(corpus, nodes, mix, limit))
    else:
        rows = offline(corpus, Encoding(encoder, form), mix, limit)
    found = "sentences" if corpus.by_sentence else f"{sum(map(len, corpus.articles.values()))} paragraphs"
    asked = f"{found}, {len(corpus.questions)} questions ({part})"
    Console().print(table_of(rows, f"{data.name}: {asked}, percent"))


if __name__ == "__main__":
    typer.run(main)
