"""A cluster with a few articles, the answers to one question, concepts and their links, written by hand.

Nothing computes here, so every test knows what the page must show.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.corpus.concept_table import Concept, ConceptTable
from keymiss.graph.cluster_writer import ClusterGraph
from keymiss.graph.events import ADD, EdgeEvent
from keymiss.keys import (
    article_key,
    article_tag,
    concept_table_key,
    paragraphs_key,
    part_of,
    sentence_id,
    sentence_key,
    slot_of,
    span_key,
    state_key,
)
from tests.api.processes import shard_tags
from tests.servers import RedisClusterServers

MASTERS = 3
QUESTION = "How do respiratory viruses spread in households?"
UNANSWERED = "Which respiratory vaccine is the oldest?"
"""Finds sentences, but no answer is there and nothing computes one: every shard fails."""
YEARS = (2019, 2020, 2021)
TITLES = ("Who brings it home", "A second survey", "Handles & <b>hands</b>")
TEXT = "Its sentences are put beside it by hand."
TEXT_DIGEST = hashlib.sha1(TEXT.encode()).hexdigest()
SOURCE = "https://example.org/an-article"
JOURNAL = "Journal of <i>Handles</i>"
AUTHORS = "; ".join(f"Author {number}" for number in range(1, 9))
HOSTILE = "<img src=x onerror=\"document.title='broken in'\">"

TABLE = ConceptTable(
    [
        Concept("KT01", "influenza", ()),
        Concept("KT02", "household", ("households",)),
        Concept("KT03", "children", ()),
        Concept("KT04", "measles", ()),
        Concept("KT05", "droplet", ("droplets",)),
    ]
)


@dataclass(frozen=True)
class Read:
    """A sentence: its shard's number, its index in the shard's article, the answer that is there already."""

    shard: int
    idx: int
    sentence: str
    answer: str
    score: float


WHO = "infected children"
READ = (
    # The first has few of the words of the question, the others have them in or beside them: hence its score.
    # The first sign is one code point and two UTF-16 units: offsets that mix them up mark the wrong text.
    Read(0, 0, f"\U0001f9a0 Influenza is passed to adults by {WHO} in most households.", WHO, 0.97),
    Read(1, 0, f"A second survey of households found {WHO} to spread it first.", WHO, 0.2),
    Read(1, 1, f"Respiratory viruses {HOSTILE} spread by droplets in households.", "droplets", 0.1),
    Read(2, 0, "Respiratory viruses seldom spread by door handles.", "door handles", 0.05),
)
LINKED = 14
"""Sentences of shard 0 that carry the link influenza - children: more than a page of the panel."""


def tags() -> list[str]:
    """The shards' tags, in order."""
    return shard_tags(MASTERS)


@cache
def articles() -> list[str]:
    """One article's name for each shard, whose title, text and part of the graph lie there too: a shard that
    stops has only its own."""
    firsts = [slot_of(f"{{{tag}}}") for tag in tags()]
    names: dict[int, str] = {}
    for name in (f"KP{i}" for i in range(10_000)):
        lie_in = {
            bisect_right(firsts, slot_of(key)) - 1 for key in (article_key(name), *_text_and_part(name))
        }
        if len(lie_in) == 1:
            names.setdefault(*lie_in, name)
    return [names[shard] for shard in range(MASTERS)]


def _text_and_part(article: str) -> tuple[str, str]:
    text = paragraphs_key(article)
    return text, f"{{{part_of(text)}}}"


def fill_for_page(cluster: RedisClusterServers) -> None:
    """Articles, sentences, answers to QUESTION, the concept table and the graph."""
    with cluster.client() as client:
        for tag, article, title, year in zip(tags(), articles(), TITLES, YEARS, strict=True):
            said = {"title": title, "year": str(year), "source": "KP.json", "url": SOURCE}
            client.hset(article_key(article), mapping=said | {"journal": JOURNAL, "authors": AUTHORS})
            client.set(paragraphs_key(article), TEXT)
            state = {"year": str(year), "paragraph_of": json.dumps([0, 1]), "text": TEXT_DIGEST}
            client.hset(state_key(article, article_tag(article)), mapping=state)
            client.hset(concept_table_key(tag), mapping={"sha256": TABLE.digest, "csv": TABLE.csv_text})
        for read in READ:
            article = articles()[read.shard]
            tag = article_tag(article)
            client.hset(sentence_key(article, tag), str(read.idx), read.sentence)
            start = read.sentence.index(read.answer)
            value = {
                "answer": read.answer,
                "score": read.score,
                "start": start,
                "end": start + len(read.answer),
            }
            client.set(span_key(article, tag, read.idx, question_in_key(QUESTION)), json.dumps(value))
        linked = {str(100 + i): f"Report {i} is about influenza in children." for i in range(LINKED)}
        first, tag = articles()[0], article_tag(articles()[0])
        client.hset(sentence_key(first, tag), mapping=linked)
        for idx in linked:  # should the search take one of these along: the reader saw no answer in it
            key = span_key(first, tag, idx, question_in_key(QUESTION))
            client.set(key, json.dumps({"answer": "", "score": 0.0, "start": 0, "end": 0}))
    _link(cluster, 0, "KT01", "KT03", [100 + i for i in range(LINKED)])
    _link(cluster, 0, "KT01", "KT02", [0])
    _link(cluster, 0, "KT02", "KT03", [0])
    _link(cluster, 1, "KT02", "KT03", [0])
    _link(cluster, 1, "KT02", "KT05", [1])
    _link(cluster, 2, "KT03", "KT04", [0])


def _link(cluster: RedisClusterServers, shard: int, source: str, target: str, carriers: list[int]) -> None:
    article = articles()[shard]
    tag = article_tag(article)
    events = [
        EdgeEvent(ADD, source, target, sentence_id(article, tag, idx), 1.0 - idx / 1000, YEARS[shard])
        for idx in carriers
    ]
    with cluster.masters[shard].client() as client:
        ClusterGraph(client.execute_command, part_of(paragraphs_key(article))).apply(events)
