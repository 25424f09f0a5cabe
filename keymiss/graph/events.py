"""One entry of the stream ``edges:{part}``: a sentence began, or ceased, to carry an edge."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

ADD, DEL = "add", "del"
MIN_YEAR, MAX_YEAR = 1, 9999

CONCEPT_ID_PATTERN = r"[A-Za-z0-9.-]{1,64}"
_CONCEPT_ID = re.compile(CONCEPT_ID_PATTERN)
_SENTENCE_ID = re.compile(r"[^{}_\0]+:\{[^{}\s]+\}:[^{}:\s]+")
_MEMBER_YEAR = re.compile(r" (\d{1,4})\Z", re.ASCII)
_YEAR = re.compile(r"\d{1,4}", re.ASCII)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SCORE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class EdgeEvent:
    """``op`` is ADD or DEL; ``sentence`` is ``<article>:{tag}:<idx>``; ``year`` is None when not known.

    A sentence and its year make one carrier of an edge: DEL takes out the carrier that ADD put in, so it
    needs the same year, and a sentence whose year changes is taken out with the old one first.
    """

    op: str
    source: str
    target: str
    sentence: str
    score: float
    year: int | None

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> EdgeEvent:
        """From an entry's fields; others than ours are ignored. ValueError says which one is wrong."""
        try:
            op, source, target = fields["op"], fields["source"], fields["target"]
            sentence, score, year = fields["sentence"], fields["score"], fields["year"]
        except KeyError as missing:
            raise ValueError(f"an edge event has no field {missing}") from None
        for name in ("op", "source", "target", "sentence", "score", "year"):
            if not _is_text(fields[name]):
                raise ValueError(f"{name} must be text in UTF-8, not {fields[name]!r}")
        if op not in (ADD, DEL):
            raise ValueError(f"op must be {ADD} or {DEL}, not {op!r}")
        for name, concept in (("source", source), ("target", target)):
            if not _CONCEPT_ID.fullmatch(concept):
                raise ValueError(f"{name} must be a concept id ({CONCEPT_ID_PATTERN}), not {concept!r}")
        if source >= target:
            raise ValueError(f"source must sort before target, which {source!r} and {target!r} do not")
        if not _SENTENCE_ID.fullmatch(sentence):
            raise ValueError(f"sentence must be <article>:{{tag}}:<idx>, not {sentence!r}")
        if not _SCORE.fullmatch(score) or not math.isfinite(float(score)):
            raise ValueError(f"score must be a finite number, not {score!r}")
        return cls(op, source, target, sentence, float(score), _year_of(year))

    def to_fields(self) -> dict[str, str]:
        """The fields of a stream entry; `parse` reads them."""
        return {
            "op": self.op,
            "source": self.source,
            "target": self.target,
            "sentence": self.sentence,
            "score": repr(self.score),
            "year": "" if self.year is None else str(self.year),
        }


def _is_text(value: object) -> bool:
    """False for bytes too, which is what a value that is not UTF-8 comes as."""
    return isinstance(value, str) and not _SURROGATE.search(value)


def _year_of(text: str) -> int | None:
    if not text:
        return None
    if not _YEAR.fullmatch(text) or int(text) < MIN_YEAR:
        raise ValueError(f"year must be empty or {MIN_YEAR} to {MAX_YEAR}, not {text!r}")
    return int(text)


def member_of(sentence: str, year: int | None) -> str:
    """How a carrier is named in the zset of an edge: ``<sentence>``, a blank and the year if it is known.

    The year is part of the name so that membership alone decides what an event changes: a DEL with the
    old year and an ADD with the new one can come again, in their order, and find nothing to do.
    """
    return sentence if year is None else f"{sentence} {year}"


def carrier_of(member: str) -> tuple[str, int | None]:
    """`member_of` undone. The idx that ends a sentence's id has no blank, so nothing is ambiguous."""
    year = _MEMBER_YEAR.search(member)
    return (member, None) if year is None else (member[: year.start()], int(year[1]))


def last_of_each(events: Sequence[EdgeEvent]) -> list[EdgeEvent]:
    """The events that decide: for each carrier of each edge only its last, in their order."""
    last = {(each.source, each.target, each.sentence, each.year): each for each in events}
    return list(last.values())


def chunks(events: Iterable[EdgeEvent], size: int) -> Iterator[list[EdgeEvent]]:
    """The events in lists of ``size``; the last may be shorter, none is empty."""
    waiting = iter(events)
    while chunk := list(islice(waiting, size)):
        yield chunk
