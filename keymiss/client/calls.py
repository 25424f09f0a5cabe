"""What each call sends, and what comes back for it. Nothing here opens a connection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypedDict, TypeVar
from urllib.parse import quote

from keymiss.api_shapes.articles import Accepted, ArticleReply, Deleted, PostedArticle
from keymiss.api_shapes.base import Reply
from keymiss.api_shapes.graph import EdgeReply, Excluded, SearchReply
from keymiss.api_shapes.health import Live, Ready
from keymiss.api_shapes.questions import Answers
from keymiss.api_shapes.watch import Dashboards, GrafanaDashboard, PanelData

R = TypeVar("R", bound=Reply)

Years = int | str | Iterable[int | str]
"""2020, ``"2019-2021,2023"``, or several of both in a list."""

YearRange = tuple[int | None, int | None]
"""From a year to a year, both included; None: that side is open."""

Article = PostedArticle | Mapping[str, Any] | bytes
"""In the CORD-19 format: built, as parsed JSON, or as a file has it."""


class Options(TypedDict, total=False):
    """What every call takes."""

    timeout_s: float
    """Instead of the client's."""
    request_id: str
    """8 to 64 letters, digits, ``.``, ``_``, ``-``; default: a new one."""


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One request. `idempotent`: sent twice, it does what it does once, and gives the same kind of reply."""

    reply: type[R]
    method: str
    path: str
    query: Mapping[str, str | int] = field(default_factory=dict)
    body: bytes | None = None
    needs_admin: bool = False
    idempotent: bool = True


def ask(
    question: str,
    limit: int | None,
    offset: int,
    min_score: float | None,
    years: YearRange | None,
    articles: Iterable[str] | None,
    exhaustive: bool,
) -> Call[Answers]:
    """POST /qasearch."""
    bounds = None if years is None else _given(**dict(zip(("from", "to"), years, strict=True)))
    body = _json(
        search=question,
        limit=limit,
        offset=offset,
        min_score=min_score,
        years=bounds,
        articles=None if articles is None else _names(articles),
        exhaustive=exhaustive or None,
    )
    return Call(Answers, "POST", "/qasearch", body=body)


def search(text: str, limit: int | None, offset: int, years: Years) -> Call[SearchReply]:
    """POST /search: an address may be logged, and is short."""
    wanted = _json(search=text, limit=limit, offset=offset, years=_listed(years))
    return Call(SearchReply, "POST", "/search", body=wanted)


def edge(source: str, target: str, limit: int | None, offset: int, years: Years) -> Call[EdgeReply]:
    """GET /edge/<source>:<target>."""
    path = f"/edge/{_part(source)}:{_part(target)}"
    query = _given(limit=limit, offset=offset, years=",".join(map(str, _listed(years))) or None)
    return Call(EdgeReply, "GET", path, query)


def exclude(concept: str) -> Call[Excluded]:
    """POST /exclude."""
    return Call(Excluded, "POST", "/exclude", body=_json(id=concept))


def exclude_nothing() -> Call[Excluded]:
    """DELETE /exclude."""
    return Call(Excluded, "DELETE", "/exclude")


def add_article(article: Article) -> Call[Accepted]:
    """POST /articles. Again, it replaces the article by itself (and says so in `replaced`)."""
    match article:
        case bytes():
            body = article
        case PostedArticle():
            body = article.model_dump_json(exclude_unset=True).encode()
        case _:
            body = json.dumps(dict(article), allow_nan=False).encode()
    return Call(Accepted, "POST", "/articles", body=body, needs_admin=True)


def get_article(name: str, limit: int | None, offset: int) -> Call[ArticleReply]:
    """GET /articles/<name>."""
    return Call(ArticleReply, "GET", f"/articles/{_part(name)}", _given(limit=limit, offset=offset))


def delete_article(name: str) -> Call[Deleted]:
    """DELETE /articles/<name>. Again, it would say that there is none."""
    return Call(Deleted, "DELETE", f"/articles/{_part(name)}", needs_admin=True, idempotent=False)


def live() -> Call[Live]:
    """GET /livez."""
    return Call(Live, "GET", "/livez")


def ready() -> Call[Ready]:
    """GET /readyz."""
    return Call(Ready, "GET", "/readyz")


def dashboards() -> Call[Dashboards]:
    """GET /watch/dashboards."""
    return Call(Dashboards, "GET", "/watch/dashboards")


def dashboard(uid: str) -> Call[GrafanaDashboard]:
    """GET /watch/dashboards/<uid>."""
    return Call(GrafanaDashboard, "GET", f"/watch/dashboards/{_part(uid)}")


def panel(uid: str, panel_id: int, range_s: int | None) -> Call[PanelData]:
    """GET /watch/dashboards/<uid>/panels/<id>."""
    path = f"/watch/dashboards/{_part(uid)}/panels/{panel_id}"
    return Call(PanelData, "GET", path, _given(range_s=range_s))


def _part(text: str) -> str:
    """Of a path, with everything escaped that would end it."""
    return quote(text, safe="")


def _given(**members: Any) -> dict[str, Any]:
    """Without those that are None: the service's defaults hold for them."""
    return {name: value for name, value in members.items() if value is not None}


def _json(**members: Any) -> bytes:
    return json.dumps(_given(**members), allow_nan=False).encode()


def _names(articles: Iterable[str]) -> list[str]:
    return [articles] if isinstance(articles, str) else list(articles)


def _listed(years: Years) -> list[int | str]:
    if isinstance(years, int):
        return [years]
    if isinstance(years, str):
        return [part for part in years.split(",") if part.strip()]
    return list(years)
