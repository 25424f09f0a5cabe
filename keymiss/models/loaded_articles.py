"""Articles of a SQuAD-format file in a running cluster, by the way that all articles take: loaded as text,
made into sentences, tensors, concepts and vectors by the functions on the shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from keymiss import keys
from keymiss.corpus.article_file import Article, parse_article
from keymiss.corpus.loading import load_files
from keymiss.corpus.progress import PipelineStuck, outcome_of, wait_processed
from keymiss.corpus.prose import CONTROL, paragraphs_of
from keymiss.models.asking import EvaluateError, Item, Part
from keymiss.models.by_cluster import Visit, names_of
from keymiss.models.by_search import Search
from keymiss.models.squad import Answer, Paragraph
from keymiss.pipeline.splitting import split_text

LOAD_LIMIT_S = (
    3600.0  # as `keymiss corpus load`; on 2 cores that are free 100 articles of COVID-QA take minutes
)

SentenceId = tuple[str, str]
"""An article's name and the index of one of its sentences."""


@dataclass(frozen=True)
class Sentence:
    """Where a sentence of an article lies: [start, end) characters of one of its contexts."""

    idx: str
    context: int
    start: int
    end: int


@dataclass(frozen=True)
class Corpus:
    """The loaded articles, by their places in the part."""

    names: Sequence[str]
    sentences: Mapping[str, Sequence[Sentence]]
    skipped: Sequence[tuple[str, str]]

    def right(self, item: Item) -> frozenset[SentenceId]:
        """The sentences that overlap one of the question's answers."""
        name = self.names[item.article]
        return frozenset(
            (name, sentence.idx)
            for sentence in self.sentences[name]
            if sentence.context == item.paragraph.number
            and any(_overlap(sentence, answer) for answer in item.question.answers)
        )


def _overlap(sentence: Sentence, answer: Answer) -> bool:
    return sentence.start < answer.end and answer.start < sentence.end


def load(visit: Visit, part: Part, search: Search) -> Corpus:
    """Loads the part's articles and waits until they are whole and /qasearch finds them. EvaluateError says
    what does not come."""
    files = {
        f"{name}.json": as_json(name, contexts)
        for name, contexts in zip(names_of(part, visit.run), part.articles, strict=True)
    }
    visit.loaded = True
    with TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        report = load_files(visit.client, [Path(folder) / name for name in files])
    for path, why in report.bad:
        raise EvaluateError(f"article {path.stem} cannot be loaded: {why}")
    _wait(visit)
    outcome = outcome_of(visit.client, report.names)
    if outcome.unprocessed:
        raise EvaluateError("no function splits articles into sentences: keymiss gears upload")
    sentences = {
        article.name: places(article, contexts)
        for article, contexts in zip((parse_article(files[f]) for f in files), part.articles, strict=True)
    }
    for name, here in sentences.items():
        _check_whole(visit, name, len(here))
    search.wait_indexed(visit)
    _wait(visit)  # what was written to see that is gone again
    return Corpus(report.names, sentences, outcome.skipped)


def _wait(visit: Visit) -> None:
    try:
        wait_processed(visit.client, LOAD_LIMIT_S)
    except PipelineStuck as error:
        raise EvaluateError(f"the articles did not become whole: {error}") from None


def _check_whole(visit: Visit, name: str, sentences: int) -> None:
    """EvaluateError if the article has other sentences than this version makes, or some lack their vector."""
    tag = keys.article_tag(name)
    there = visit.client.hlen(keys.sentence_key(name, tag))
    if there != sentences:
        raise EvaluateError(
            f"article {name} has {there} sentences there, {sentences} by this version: keymiss gears upload"
        )
    vectors = visit.client.hlen(keys.vectors_key(name, tag))
    if visit.client.exists(keys.encoder_key(visit.shards[0].tag)) and vectors < sentences:
        raise EvaluateError(f"article {name} has {vectors} vectors of {sentences}: see the worker's log")


def as_json(name: str, contexts: Iterable[Paragraph]) -> bytes:
    """The file of an article in the CORD-19 format: the paragraphs of its contexts."""
    texts = [text for one in contexts for text in paragraphs_of(one.context)]
    body = [{"text": text} for text in texts]
    return json.dumps({"paper_id": name, "metadata": {"title": ""}, "body_text": body}).encode()


def places(article: Article, contexts: Sequence[Paragraph]) -> list[Sentence]:
    """Where the sentences that the functions make of the article lie in its contexts.

    Between a context and its sentences only blanks differ.
    """
    owner = [number for number, one in enumerate(contexts) for _ in paragraphs_of(one.context)]
    letters = [_letters(one.context) for one in contexts]
    read_to = [0] * len(contexts)
    split = split_text(article.text)
    found = []
    for idx, paragraph in enumerate(json.loads(split.said["paragraph_of"])):
        context = owner[paragraph]
        text, where = letters[context]
        sentence, _ = _letters(split.sentences[idx])
        start = text.index(sentence, read_to[context])
        end = read_to[context] = start + len(sentence)
        found.append(Sentence(str(idx), contexts[context].number, where[start], where[end - 1] + 1))
    return found


def _letters(text: str) -> tuple[str, list[int]]:
    """The text without blanks and control characters, and where each of its characters stands."""
    where = [at for at, letter in enumerate(text) if not letter.isspace() and not CONTROL.match(letter)]
    return "".join(text[at] for at in where), where
