"""GET /edge/edges:<source>:<target>: a link as programs written for The Pattern ask for it and read it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from keymiss.api.graph.replies import Explorer
from keymiss.api.graph.routes import SourceId, TargetId
from keymiss.api.http.openapi import problem_docs
from keymiss.api.http.problems import AllLate, BadParameters, NoShardAnswered, NoSuchConcept, NoSuchEdge
from keymiss.api_shapes.graph import OriginalEdgeReply

SENTENCES = 5
NO_SUMMARY = "TBC"
"""What The Pattern says of an article that is not summarized yet."""

router = APIRouter(tags=["concept graph"])


@router.get(
    "/edge/edges:{source}:{target}",
    response_model=OriginalEdgeReply,
    summary="A link, in The Pattern's form",
    responses=problem_docs(NoSuchConcept, NoSuchEdge, BadParameters, NoShardAnswered, AllLate),
)
async def original_edge(request: Request, source: SourceId, target: TargetId) -> Any:
    """The best sentences that mention both concepts, 5 at most, one of each article."""
    explorer: Explorer = request.app.state.explorer
    reply = await explorer.edge(source, target, None, 0, SENTENCES)
    of_article: dict[str, dict[str, Any]] = {}
    for each in reply.pop("sentences"):
        of_article.setdefault(each["article"], each)
    reply["results"] = [
        each | {"article_id": f"article_id:{article}", "summary": NO_SUMMARY}
        for article, each in of_article.items()
    ]
    reply["years"] = sorted({str(each["year"]) for each in of_article.values() if each["year"] is not None})
    return reply
