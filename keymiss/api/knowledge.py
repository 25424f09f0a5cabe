"""What the concept graph knows of a question: for the reply of /qasearch, and for finding sentences."""

from __future__ import annotations

from typing import Any

from keymiss.api.concepts import Concepts
from keymiss.graph.pages import GraphReader

MAX_LINKS = 20
SENTENCES_OF_A_LINK = 20


class GraphKnowledge:
    """Both methods raise GraphAway (a ConnectionError) when no part of the graph answers."""

    def __init__(self, concepts: Concepts, graph: GraphReader) -> None:
        self._concepts = concepts
        self._graph = graph

    async def about(self, question: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The concepts that the question names, and the links between them, best first."""
        mentioned = self._concepts.mentioned(question)
        links = await self._graph.links_between([each.id for each in mentioned], MAX_LINKS)
        concepts = [{"id": each.id, "name": each.name} for each in mentioned]
        return concepts, [
            {
                "source": link.source,
                "target": link.target,
                "source_name": self._concepts.name(link.source),
                "target_name": self._concepts.name(link.target),
                "rank": link.rank,
                "first_year": link.first_year,
            }
            for link in links
        ]

    async def linked(self, question: str) -> dict[str, float]:
        """Sentence id -> score of the best sentences behind those links, best first."""
        mentioned = self._concepts.mentioned(question)
        return await self._graph.sentences_for([each.id for each in mentioned], SENTENCES_OF_A_LINK)
