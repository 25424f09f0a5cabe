"""The load of scripts/faults.py: clients that ask, one that writes articles; what is checked of each reply.

A reply is wrong when a sentence in it is not the one that is stored, when an answer does not stand in its
sentence, or when a reply that says that nothing is missing has another first answer than the idle system gave
to that question (the articles that come in are of something else).
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

NUMBERS = itertools.count()  # of questions that nobody has asked, in any row
HUNG_S = 15.0  # the API ends a question after 5 s
ARTICLE_EVERY_S = 0.5
READ = 20  # sentences for a question: KEYMISS_API_CANDIDATES
WORDS = "lantern harbour copper violin orchard glacier pepper saddle window thunder marble".split()  # noqa: SIM905


@dataclass(frozen=True)
class Event:
    """How one request ended. `kind`: whole, partial, wrong, hung, or the status of a refusal."""

    began_s: float
    ended_s: float
    kind: str
    said: str = ""

    @property
    def is_bad(self) -> bool:
        """Anything but a whole reply, and a 429, which a client under load gets at any time."""
        return self.kind not in ("whole", "429")


def made_article(number: int) -> dict[str, Any]:
    """An article of four sentences about nothing that the questions ask for; the same for the same number."""
    chosen = random.Random(number)
    sentences = [f"The {' '.join(chosen.sample(WORDS, 5))} was seen on day {number}." for _ in range(4)]
    return {
        "paper_id": f"FAULT{number}",
        "metadata": {"title": f"Day {number}"},
        "body_text": [{"section": "", "text": " ".join(sentences)}],
    }


@dataclass
class Load:
    """`stored`: sentencekey -> sentence of the articles that were there before; `expected`: question -> its
    first answer; `first_article`: number of the first that is written."""

    url: str
    admin_key: str
    clients: int
    questions: Sequence[str]
    stored: Mapping[str, str]
    expected: Mapping[str, str]
    first_article: int = 0
    events: list[Event] = field(default_factory=list)
    acknowledged: dict[str, float] = field(default_factory=dict)

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(self.clients)
        ]
        self._threads.append(threading.Thread(target=self._write, daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * HUNG_S)

    def since(self, began_s: float) -> list[Event]:
        """Of the requests that had not ended then."""
        return [each for each in self.events if each.ended_s >= began_s]

    def quiet_since(self) -> float:
        """When the last bad reply came; 0: there was none."""
        return max((each.ended_s for each in self.events if each.is_bad), default=0.0)

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self.url, verify=False, timeout=HUNG_S) as http:
            for turn in itertools.count(number):
                if self._stop.is_set():
                    return
                question = self.questions[turn % len(self.questions)]
                if turn % 2:  # one that nobody has asked
                    question = f"{question}, case {next(NUMBERS)}"
                began_s = time.monotonic()
                kind, said, pause_s = self._asked(http, question)
                self.events.append(Event(began_s, time.monotonic(), kind, said))
                self._stop.wait(pause_s)

    def _asked(self, http: httpx.Client, question: str) -> tuple[str, str, float]:
        """Kind, details, seconds until the next."""
        try:
            reply = http.post("/qasearch", json={"search": question, "exhaustive": True})
        except httpx.TimeoutException:
            return "hung", question, 0.0
        except httpx.HTTPError as error:
            return "no connection", str(error), 0.1
        if reply.status_code != 200:
            return (
                str(reply.status_code),
                reply.text[:200],
                min(1.0, float(reply.headers.get("Retry-After", 1))),
            )
        body = reply.json()
        if why := self._what_is_wrong(question, body):
            return "wrong", f"{question}: {why}", 0.0
        return "whole" if is_whole(body) else "partial", "", 0.0

    def _what_is_wrong(self, question: str, body: dict[str, Any]) -> str:
        for each in body["results"]:
            known = self.stored.get(each["sentencekey"]) or self._made(each["article"])
            if each["sentence"] not in known:
                return (
                    f"the sentence of {each['sentencekey']} is not the one that is stored: {each['sentence']}"
                )
            if each["answer"] not in each["sentence"]:
                return f"{each['answer']!r} does not stand in {each['sentence']!r}"
        wanted = self.expected.get(question)
        first = body["results"][0]["answer"] if body["results"] else ""
        if wanted is not None and is_as_idle(body) and first != wanted:
            return f"nothing is missing, and the first answer is {first!r}, not {wanted!r}"
        return ""

    def _made(self, article: str) -> str:
        if not article.startswith("FAULT"):
            return ""
        return str(made_article(int(article.removeprefix("FAULT")))["body_text"][0]["text"])

    def _write(self) -> None:
        headers = {"X-Admin-Key": self.admin_key}
        with httpx.Client(base_url=self.url, verify=False, timeout=HUNG_S, headers=headers) as http:
            for number in itertools.count(self.first_article):
                while not self._stop.wait(ARTICLE_EVERY_S):
                    article = made_article(number)
                    try:
                        reply = http.post("/articles", json=article)
                    except httpx.HTTPError:
                        continue
                    if reply.status_code == 202:
                        self.acknowledged[article["paper_id"]] = time.monotonic()
                        break
                if self._stop.is_set():
                    return


def is_whole(body: Mapping[str, Any]) -> bool:
    """Whether as many sentences were read as are read of an idle system, and every shard was searched."""
    covered = body["coverage"]
    return bool(covered["sentences"]["answered"] >= READ and not covered["shards"]["unindexed"])


def is_as_idle(body: Mapping[str, Any]) -> bool:
    """Whether the reply says, too, that sentences were found by all that they can be found by, and that none
    was read in place of another."""
    covered = body["coverage"]
    return is_whole(body) and not covered["sentences"]["failed"] and not covered["unused"]


def counts(events: Sequence[Event]) -> Counter[str]:
    """How many ended how."""
    return Counter(each.kind for each in events)
