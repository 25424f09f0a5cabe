"""Every Redis key of the system, each with its type and hash tag, and the cluster's slot arithmetic.

Keys that are used together carry the same ``{tag}``, so that they lie in one slot. There are three kinds of
tags, all of them `tag_for_slot` of some slot:

* of an article: the slot of its text (`article_tag`). All that is made of it moves with it.
* of a part: the cluster's slots in PARTS parts of one size, each named by its first slot (`part_of`). What
  sums up many articles (graph, edges, list of evicted keys) is kept by part, and moves as any data does.
* of a shard: the lowest slot it serves. What every shard has a copy of, or what is about a question alone.

An article's name must have no underscore and no brace: the first two underscores of an answer's key separate
its parts, and the first brace pair of a key is its hash tag.

=============================================== ====== ============================================
key                                             type   what
=============================================== ====== ============================================
``paragraphs:<article>``                        string raw text of an article
``article:<article>``                           hash   title, date, source, authors, journal, url
``sentence:<article>:{tag}``                    hash   index -> sentence
``state:<article>:{tag}``                       hash   what the pipeline did with the article
``concepts:<article>:{tag}``                    hash   index -> year and concept ids of the sentence
``vectors:<article>:{tag}``                     hash   index -> digest and vector of the sentence
``edges:{part}``                                stream pairs of concepts, on their way to the graph
``concept-table:{shard}``                       hash   the concept table: sha256, csv
``graph:edge:{part}:<source>:<target>``         zset   sentences that carry the edge -> score
``graph:years:{part}:<source>:<target>``        hash   year -> number of the edge's sentences
``graph:links:{part}:<concept>``                zset   neighbour -> rank of the edge to it
``graph:nodes:{part}``                          zset   concept -> sum of its edges' ranks
``tokenized:bert:qa:<article>:{tag}:<idx>``     tensor INT64 token ids, ``[SEP]`` at the end
``offsets:bert:qa:<article>:{tag}:<idx>``       tensor INT32 characters of each token's word
``tokens:<article>:{tag}``                      hash   index -> digests of the sentence and tokenizer of both
``states:bert:qa:<article>:{tag}:<idx>``        tensor INT8 the sentence's lower states
``lower:<article>:{tag}``                       hash   index -> digests of sentence and model of its states
``bert-qa{shard}``                              model  the QA model of that shard, or its upper half
``bert-qa-lower{shard}``                        model  the lower half of a split reader
``bertstates{shard}_<model>_<question>``        tensor FLOAT a question's lower states
``bertqa{tag}_<article>:{tag}:<idx>_<question>``   string the answer's text
``bertspan{tag}_<article>:{tag}:<idx>_<question>`` string the same answer as JSON
``evicted:{part}``                              hash   evicted key -> sentences that went with it
``bert-encoder{shard}``                         model  the model that makes vectors
``parts:<model's key>:<random>``                upload the parts of a model's blob, until it is stored
``bertvec{shard}_<question>``                   string a question's vector
=============================================== ====== ============================================
"""

from __future__ import annotations

import itertools
from binascii import crc_hqx
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SLOTS = 16384
"""Number of hash slots of a cluster (Redis Cluster specification)."""

PARTS = 16
"""The order of slots in parts is part of the data format, as that of tags is."""

READER, LOWER_READER, ENCODER = "bert-qa", "bert-qa-lower", "bert-encoder"
"""A shard's models by name: their keys without the tag. So functions ask for them."""

TAG_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
ANSWER_PREFIX = "bertqa"
SPAN_PREFIX = "bertspan"
VECTOR_PREFIX = "bertvec"
PARAGRAPHS_PREFIX = "paragraphs:"
ARTICLE_PREFIX = "article:"
SENTENCE_PREFIX = "sentence:"
STATE_PREFIX = "state:"
CONCEPTS_PREFIX = "concepts:"
VECTORS_PREFIX = "vectors:"
EDGES_PREFIX = "edges:"
CONCEPT_TABLE_PREFIX = "concept-table:"
GRAPH_PREFIX = "graph:"
GRAPH_EDGE_PREFIX, GRAPH_YEARS_PREFIX = f"{GRAPH_PREFIX}edge:", f"{GRAPH_PREFIX}years:"
TOKENS_PREFIX = "tokens:"
EVICTED_PREFIX = "evicted:"
LOWER_PREFIX = "lower:"
TOKENIZED_PREFIX = "tokenized:bert:qa:"
OFFSETS_PREFIX = "offsets:bert:qa:"
STATES_PREFIX = "states:bert:qa:"
QUESTION_STATES_PREFIX = "bertstates"


def slot_of(key: str | bytes) -> int:
    """The hash slot (0..16383) of a key; only the first non-empty ``{...}`` counts, if there is one."""
    raw = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else bytes(key)
    start = raw.find(b"{")
    if start >= 0:
        end = raw.find(b"}", start + 1)
        if end > start + 1:
            raw = raw[start + 1 : end]
    return crc_hqx(raw, 0) % SLOTS


def tag_in(key: str) -> str:
    """What stands in the key's first ``{...}``; empty when there is none."""
    inside, end, _tail = key.partition("{")[2].partition("}")
    return inside if end else ""


def without_tag(key: str) -> str:
    """The key without its first ``{...}``: what it is called on every shard."""
    head, brace, rest = key.partition("{")
    _tag, end, tail = rest.partition("}")
    return f"{head}{tail}" if brace and end else key


def without_question(key: str) -> str:
    """A missed key as it may be logged: ``bertqa{tag}_<article>:{tag}:<idx>``, ``bertvec{tag}``, and of a key
    of another kind what is before its second underscore."""
    parts = 1 if key.startswith(f"{VECTOR_PREFIX}{{") else 2
    return "_".join(key.split("_", 2)[:parts])


def _tag_candidates() -> Iterator[str]:
    """Shorter strings first, each length in the order of `TAG_ALPHABET`. The order is part of the
    data format: changing it renames every key."""
    for length in itertools.count(1):
        for letters in itertools.product(TAG_ALPHABET, repeat=length):
            yield "".join(letters)


@lru_cache(maxsize=1)
def _slot_to_tag() -> tuple[str, ...]:
    found: dict[int, str] = {}
    for tag in _tag_candidates():
        found.setdefault(crc_hqx(tag.encode(), 0) % SLOTS, tag)
        if len(found) == SLOTS:
            break
    return tuple(found[slot] for slot in range(SLOTS))


def tag_for_slot(slot: int) -> str:
    """The hash tag (without braces) whose slot is `slot`. ValueError outside 0..16383."""
    if not 0 <= slot < SLOTS:
        raise ValueError(f"slot {slot} is not in 0..{SLOTS - 1}")
    return _slot_to_tag()[slot]


@lru_cache(maxsize=65536)
def article_tag(article: str) -> str:
    """The tag of all that is made of an article: that of the slot of its text."""
    return tag_for_slot(slot_of(paragraphs_key(article)))


def part_of(key: str | bytes) -> str:
    """The tag of the part that a key's slot is in."""
    slot = slot_of(key)
    return tag_for_slot(slot - slot % (SLOTS // PARTS))


def part_tags() -> tuple[str, ...]:
    """Those of all parts, by their slots."""
    return tuple(tag_for_slot(slot) for slot in range(0, SLOTS, SLOTS // PARTS))


def check_article(article: str) -> str:
    """Returns `article` when it can be part of a key, else raises ValueError saying why not."""
    if not article:
        raise ValueError("an article's name must not be empty")
    for letter in "_{}\0":
        if letter in article:
            raise ValueError(f"an article's name must not contain {letter!r}: {article!r}")
    return article


def paragraphs_key(article: str) -> str:
    """string: the raw text of an article."""
    return f"{PARAGRAPHS_PREFIX}{check_article(article)}"


def article_key(article: str) -> str:
    """hash: title, year, month, day, source, authors, journal, url."""
    return f"{ARTICLE_PREFIX}{check_article(article)}"


def sentence_key(article: str, tag: str) -> str:
    """hash: index -> sentence."""
    return f"{SENTENCE_PREFIX}{check_article(article)}:{{{tag}}}"


def state_key(article: str, tag: str) -> str:
    """hash: what the pipeline did with the article; docs/pipeline.md has its fields."""
    return f"{STATE_PREFIX}{check_article(article)}:{{{tag}}}"


def concepts_key(article: str, tag: str) -> str:
    """hash: index -> ``<year or nothing> <concept id> ...`` of each sentence."""
    return f"{CONCEPTS_PREFIX}{check_article(article)}:{{{tag}}}"


def vectors_key(article: str, tag: str) -> str:
    """hash: index -> 8 bytes of the encoded text's SHA-1, then the vector, float16."""
    return f"{VECTORS_PREFIX}{check_article(article)}:{{{tag}}}"


def edges_key(tag: str) -> str:
    """stream: pairs of concepts that sentences of the part gained or lost."""
    return f"{EDGES_PREFIX}{{{tag}}}"


def concept_table_key(tag: str) -> str:
    """hash: sha256 and csv of the concept table, the same on every shard."""
    return f"{CONCEPT_TABLE_PREFIX}{{{tag}}}"


def evicted_key(tag: str) -> str:
    """hash: a text, sentences, vectors or concepts of the part that were evicted and are not there again (the
    key's name) -> how many sentences that concerns."""
    return f"{EVICTED_PREFIX}{{{tag}}}"


def encoder_key(tag: str) -> str:
    """model: the encoder that makes vectors, on that shard."""
    return f"{ENCODER}{{{tag}}}"


def question_vector_key(tag: str, question: str) -> str:
    """string: the question's vector, float32 little endian; made by the miss function."""
    return f"{VECTOR_PREFIX}{{{tag}}}_{question}"


def sentence_id(article: str, tag: str, idx: int | str) -> str:
    """What names one sentence inside other keys: ``<article>:{tag}:<idx>``. Not a key itself."""
    return f"{check_article(article)}:{{{tag}}}:{idx}"


def tokenized_key(article: str, tag: str, idx: int | str) -> str:
    """tensor INT64 [1, tokens]: the sentence's token ids."""
    return f"{TOKENIZED_PREFIX}{sentence_id(article, tag, idx)}"


def offsets_key(article: str, tag: str, idx: int | str) -> str:
    """tensor INT32 [tokens, 2]: first and last character of the word that each token is part of."""
    return f"{OFFSETS_PREFIX}{sentence_id(article, tag, idx)}"


def tokens_key(article: str, tag: str) -> str:
    """hash: index -> 16 hex digits of the sentence, 8 of the tokenizer, that its two tensors are of."""
    return f"{TOKENS_PREFIX}{check_article(article)}:{{{tag}}}"


def states_key(article: str, tag: str, idx: int | str) -> str:
    """tensor: the sentence's states after the lower half of a split reader; keymiss.pipeline.states."""
    return f"{STATES_PREFIX}{sentence_id(article, tag, idx)}"


def lower_key(article: str, tag: str) -> str:
    """hash: index -> 16 hex digits of the sentence, 16 of the lower model, that its states are of."""
    return f"{LOWER_PREFIX}{check_article(article)}:{{{tag}}}"


def question_states_key(tag: str, model: str, question: str) -> str:
    """tensor FLOAT [tokens, width]: the question's states by the lower model with that SHA-256."""
    return f"{QUESTION_STATES_PREFIX}{{{tag}}}_{model[:16]}_{question}"


def model_key(tag: str) -> str:
    """model: the QA model of a shard; of a split reader the upper half."""
    return f"{READER}{{{tag}}}"


def lower_model_key(tag: str) -> str:
    """model: the lower half of the split reader of a shard; there is none with a whole reader."""
    return f"{LOWER_READER}{{{tag}}}"


def parts_key(model: str, random: str) -> str:
    """upload: the parts of the blob of a model that is to be stored at the key `model`."""
    return f"parts:{model}:{random}"


def answer_key(article: str, tag: str, idx: int | str, question: str) -> str:
    """string: the answer's text, made by the miss function."""
    return f"{ANSWER_PREFIX}{{{tag}}}_{sentence_id(article, tag, idx)}_{question}"


def span_key(article: str, tag: str, idx: int | str, question: str) -> str:
    """string: the answer as JSON (answer, score, start, end, model, sentence_digest, ...)."""
    return f"{SPAN_PREFIX}{{{tag}}}_{sentence_id(article, tag, idx)}_{question}"


def graph_edge_key(tag: str, source: str, target: str) -> str:
    """zset: ``<sentence id>``, a blank and its year if that is known -> score. Source < target."""
    return f"{GRAPH_EDGE_PREFIX}{{{tag}}}:{source}:{target}"


def graph_years_key(tag: str, source: str, target: str) -> str:
    """hash: year (empty when not known) -> number of sentences that carry the edge. Source < target."""
    return f"{GRAPH_YEARS_PREFIX}{{{tag}}}:{source}:{target}"


def graph_links_key(tag: str, concept: str) -> str:
    """zset: neighbour -> rank: the number of sentences that carry the edge; kept for both its ends."""
    return f"{GRAPH_PREFIX}links:{{{tag}}}:{concept}"


def graph_nodes_key(tag: str) -> str:
    """zset: concept -> the sum of the ranks of its edges."""
    return f"{GRAPH_PREFIX}nodes:{{{tag}}}"


def article_of(key: str) -> str:
    """The article of a key ``paragraphs:<article>`` or ``article:<article>``."""
    return check_article(key.partition(":")[2])


def parse_article_key(key: str) -> tuple[str, str]:
    """Article and tag of a key ``<kind>:<article>:{tag}``: sentences and what is made of them. ValueError if
    it is not one."""
    article, middle, tag = key.partition(":")[2].rpartition(":{")
    if not middle or not tag.endswith("}"):
        raise ValueError(f"not a key of the form <kind>:<article>:{{tag}}: {key!r}")
    return check_article(article), tag[:-1]


def made_from(key: str) -> str:
    """What the key ``<kind>:<article>:{tag}`` is made from: of a state or sentences the article's text, of
    anything else the sentences. ValueError if it is no such key."""
    article, tag = parse_article_key(key)
    if key.startswith((STATE_PREFIX, SENTENCE_PREFIX)):
        return paragraphs_key(article)
    return sentence_key(article, tag)


@dataclass(frozen=True)
class AnswerKey:
    """The parts of a ``bertqa`` or ``bertspan`` key; `kind` is one of the two."""

    kind: str
    tag: str
    article: str
    idx: str
    question: str

    @property
    def answer_key(self) -> str:
        """The ``bertqa`` key with the same parts."""
        return answer_key(self.article, self.tag, self.idx, self.question)

    @property
    def span_key(self) -> str:
        """The ``bertspan`` key with the same parts."""
        return span_key(self.article, self.tag, self.idx, self.question)

    @property
    def sentence_key(self) -> str:
        """The hash in which the sentence is field `idx`."""
        return sentence_key(self.article, self.tag)

    @property
    def sentence_id(self) -> str:
        """Names the sentence."""
        return sentence_id(self.article, self.tag, self.idx)

    @property
    def tokenized_key(self) -> str:
        """The tensor of the sentence's tokens."""
        return tokenized_key(self.article, self.tag, self.idx)


def parse_answer_key(key: str) -> AnswerKey:
    """Takes a ``bertqa``/``bertspan`` key apart. ValueError if it is not one, or has no question; its text
    has nothing of the key, as questions are not logged. Only the first two underscores separate, so the
    question may contain any."""
    head, _, rest = key.partition("_")
    sentence, _, question = rest.partition("_")
    kind, _, tag = head.partition("{")
    article, middle, idx = sentence.partition(f":{{{tag}:")
    known = kind in (ANSWER_PREFIX, SPAN_PREFIX) and tag.endswith("}")
    if not known or not article or not middle or not idx or ":" in idx:
        raise ValueError("the key is not bertqa{tag}_<article>:{tag}:<idx>_<question>")
    if not question:
        raise ValueError("the key has no question")
    return AnswerKey(kind, tag[:-1], check_article(article), idx, question)


def parse_vector_key(key: str) -> tuple[str, str]:
    """Tag and question of a ``bertvec`` key. ValueError if it has no question."""
    head, _, question = key.partition("_")
    if not question.strip():
        raise ValueError("the key has no question: it is bertvec{tag}_<question>")
    return tag_in(head), question
