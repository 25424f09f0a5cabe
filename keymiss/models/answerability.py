"""Whether the score tells the sentence that answers a question from others of the same article."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

from keymiss.models import squad
from keymiss.models.asking import Item, Part, in_threads, percent
from keymiss.models.by_model import find
from keymiss.models.squad import Paragraph
from keymiss.reading.backends.base import Model, ModelError
from keymiss.reading.reader import Reader
from keymiss.retrieval import ShardIndex


class Pool:
    """The sentences of some paragraphs: which one answers, and which others come near it by BM25."""

    def __init__(self, paragraphs: Sequence[Paragraph]) -> None:
        self.texts: list[str] = []
        self._places: dict[int, list[tuple[int, int, int]]] = {}
        for paragraph in paragraphs:
            places = self._places.setdefault(id(paragraph), [])
            for start, end in squad.sentence_spans(paragraph.context):
                sentence = paragraph.context[start:end]
                if any(letter.isalnum() for letter in sentence):  # as keymiss.corpus.prose
                    places.append((start, end, len(self.texts)))
                    self.texts.append(sentence)
        self._words = [f" {squad.normalized(sentence)} " for sentence in self.texts]
        self._index = ShardIndex(neighbours=0)
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
    """The figures of one file. Articles are the file's own, also where squad.split splits by paragraph."""
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
