"""What the concept graph knows of a question: for the reply of /qasearch, and for finding sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keymiss.api.graph.concept_names import Concepts
from keymiss.api.graph.link_members import link_members
from keymiss.api.unused import Reason, Signal, Unused
from keymiss.graph.events import MAX_YEAR, MIN_YEAR
from keymiss.graph.pages import GraphAway, GraphReader, Link, LinksBetween
from keymiss.graph.years import Years
from keymiss.retrieval import WHOLE_CORPUS, CorpusFilter

MAX_LINKS = 20
SENTENCES_OF_A_LINK = 20
SENTENCES_OF_SOME_ARTICLES = 1000  # the graph knows no articles: retrieval takes those of the wanted ones


@dataclass(frozen=True, slots=True)
class About:
    """The concepts that a question names, and the links between them, best first; what could not be read."""

    concepts: list[dict[str, Any]]
    links: list[dict[str, Any]]
    unused: tuple[Unused, ...] = ()


@dataclass(frozen=True, slots=True)
class Linked:
    """Sentence id -> score of the best sentences behind those links, best first; what could not be read.
    ``links``: all links between the concepts, best first; None when not all could be read."""

    scores: Mapping[str, float]
    unused: tuple[Unused, ...] = ()
    links: tuple[Link, ...] | None = None


class GraphKnowledge:
    """Both methods end within a time limit, `about` within the reader's, and name what does not answer."""

    def __init__(self, concepts: Concepts, graph: GraphReader, linked_limit_s: float) -> None:
        self._concepts = concepts
        self._graph = graph
        self._linked_limit_s = linked_limit_s

    async def about(self, question: str, known: tuple[Link, ...] | None = None) -> About:
        """For the reply. ``known``: the links, if they were read already."""
        mentioned = self._concepts.mentioned(question)
        concepts = [{"id": each.id, "name": each.name} for each in mentioned]
        found = LinksBetween((known or ())[:MAX_LINKS], {})
        try:
            if known is None:
                found = await self._graph.links_between([each.id for each in mentioned], MAX_LINKS)
        except GraphAway as error:
            return About(concepts, [], _all_of(error))
        links = [
            link_members(link)
            | {
                "source_name": self._concepts.name(link.source),
                "target_name": self._concepts.name(link.target),
            }
            for link in found.links
        ]
        return About(concepts, links, self._unread_table() + _some(found.missing))

    async def linked(self, question: str, only: CorpusFilter = WHOLE_CORPUS) -> Linked:
        """For finding sentences: the best that the filter takes."""
        mentioned = [each.id for each in self._concepts.mentioned(question)]
        try:
            found = await self._graph.sentences_for(
                mentioned,
                SENTENCES_OF_SOME_ARTICLES if only.articles else SENTENCES_OF_A_LINK,
                self._linked_limit_s,
                _years_of(only),
            )
        except GraphAway as error:
            return Linked({}, _all_of(error))
        links = None if found.missing else found.links
        return Linked(found.scores, self._unread_table() + _some(found.missing), links)

    def _unread_table(self) -> tuple[Unused, ...]:
        """Without the table no question names a concept."""
        return () if self._concepts.usable else (Unused(Signal.LINKS, Reason.FAILED),)


def _years_of(only: CorpusFilter) -> Years | None:
    return Years(((only.first_year or MIN_YEAR, only.last_year or MAX_YEAR),)) if only.by_year else None


def _all_of(error: GraphAway) -> tuple[Unused, ...]:
    return (Unused(Signal.LINKS, Reason.LATE if error.late else Reason.FAILED, error.missing),)


def _some(missing: Mapping[str, bool]) -> tuple[Unused, ...]:
    """``missing``: part of the graph -> whether it was late."""
    reasons = ((part, Reason.LATE if late else Reason.FAILED) for part, late in missing.items())
    return tuple(Unused(Signal.LINKS, reason, (part,)) for part, reason in reasons)
