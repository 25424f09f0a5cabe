"""Questions put to /qasearch, which has to find the sentence too: the paragraphs are loaded as its corpus."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.corpus.prose import split_sentences
from keymiss.keys import SENTENCE_PREFIX, sentence_key, span_key
from keymiss.models.asking import EvaluateError, Given, Item, Part, Way, ms_since, percent
from keymiss.models.by_cluster import Visit, names_of
from keymiss.models.squad import Paragraph

INDEX_LIMIT_S = 120.0  # until the API's retrieval has read what was loaded
BUSY_TRIES = 20  # 429: nginx takes 50 questions a second
RECALL_AT = (1, 5, 20)


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
        """Its results, best first, however unsure: what is found is measured, not what is said.

        EvaluateError says why there are none.
        """
        body = self.reply(question, min_score=0, exhaustive=True)
        results: list[dict[str, Any]] = body["results"]
        covered = body["coverage"]["sentences"]
        self.asked = max(self.asked, covered["asked"])
        self.sentences, self.answered = self.sentences + covered["asked"], self.answered + covered["answered"]
        self.results = max(self.results, len(results))
        return results

    def reply(self, question: str, **wanted: Any) -> dict[str, Any]:
        """What /qasearch says; `wanted`: more members of the request. EvaluateError if it says nothing."""
        try:
            for _ in range(BUSY_TRIES):
                reply = self.http.post("/qasearch", json={"search": question} | wanted)
                if reply.status_code != 429:
                    break
                time.sleep(0.25)
            body: dict[str, Any] = reply.json()
        except (httpx.HTTPError, ValueError) as error:
            raise EvaluateError(f"{self.http.base_url} does not answer: {error!r}") from None
        if reply.status_code != 200:
            raise EvaluateError(f"{reply.status_code} {body.get('detail') or body.get('title')}")
        return body

    def check(self) -> None:
        """EvaluateError if there is no API."""
        try:
            self.http.get("/livez").raise_for_status()
        except httpx.HTTPError as error:
            raise EvaluateError(f"there is no API at {self.http.base_url}: {error}") from None

    def wait_indexed(self, visit: Visit) -> None:
        """Until a sentence that is written after all others is found on every shard; then it is removed.

        A shard tells what changed in the order it changed. A sentence that was found was asked, and its
        answer is kept, be it too unsure to be shown. EvaluateError after INDEX_LIMIT_S.
        """
        name = f"{visit.run}-last"
        markers = {f"{visit.marker}{number}": shard.tag for number, shard in enumerate(visit.shards)}
        for marker, tag in markers.items():
            visit.store(name, {"0": marker}, tag)

        def found(marker: str, tag: str) -> bool:
            self.ask(marker)
            return bool(visit.client.exists(span_key(name, tag, 0, question_in_key(marker))))

        def gone(marker: str, tag: str) -> bool:
            body = self.reply(marker)
            near = [*body["closest"], *(source for one in body["results"] for source in one["sources"])]
            return all(passage["article"] != name for passage in near)

        _until(found, markers)
        visit.unlink(sentence_key(name, tag) for tag in markers.values())
        _until(gone, markers)


def _until(done: Callable[[str, str], bool], markers: Mapping[str, str]) -> None:
    """Until it is done for every marker and the tag of its shard."""
    missing, until_s, reason = dict(markers), time.monotonic() + INDEX_LIMIT_S, ""
    while missing:
        try:
            missing = {marker: tag for marker, tag in missing.items() if not done(marker, tag)}
        except EvaluateError as error:  # not ready yet
            reason = f" ({error})"
        if missing and time.monotonic() > until_s:
            tags = ", ".join(missing.values())
            raise EvaluateError(f"not indexed within {INDEX_LIMIT_S:.0f} s: shards {tags}{reason}")
        time.sleep(0.1)


def article_and_index(sentencekey: str) -> tuple[str, str]:
    """Of ``sentence:<article>:{tag}:<idx>``, as replies have it."""
    article, _, idx = sentencekey.removeprefix(SENTENCE_PREFIX).rpartition(":")
    return article.rpartition(":")[0], idx


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
        return where.get(article_and_index(result["sentencekey"]))

    def ask(item: Item) -> Given:
        began_s = time.perf_counter()
        try:
            results = search.ask(item.question.question)
        except EvaluateError as error:
            return Given("", 0.0, ms_since(began_s), str(error))
        ms = ms_since(began_s)
        right = (rank for rank, one in enumerate(results, 1) if paragraph_of(one) is item.paragraph)
        top: dict[str, Any] = results[0] if results else {"answer": "", "score": 0.0}
        return Given(top["answer"], float(top["score"]), ms, "", next(right, 0), len(results))

    return ask


def recalls(items: Sequence[Item], given: Sequence[Given]) -> dict[str, float]:
    """Percent of the questions that have an answer with a result of the right paragraph among the first n."""
    ranks = [one.rank for item, one in zip(items, given, strict=True) if item.references]
    return {f"recall_{at}": percent([0 < rank <= at for rank in ranks]) for at in RECALL_AT}
