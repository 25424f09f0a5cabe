"""The HTTP API from Python, blocking (`Client`) and asyncio (`AsyncClient`); docs/python-client.md."""

from __future__ import annotations

from keymiss.api_shapes.articles import Accepted, ArticleReply, ArticleState, Deleted, PostedArticle
from keymiss.api_shapes.graph import EdgeReply, SearchReply
from keymiss.api_shapes.health import Live, Ready
from keymiss.api_shapes.questions import Answers, Coverage, Passage, Result, Source
from keymiss.api_shapes.watch import Dashboards, GrafanaDashboard, PanelData
from keymiss.client.asynchronous import AsyncClient
from keymiss.client.blocking import Client
from keymiss.client.errors import (
    BadRequest,
    KeymissError,
    Late,
    NotAllowed,
    NotFound,
    Refused,
    ServerFault,
    TimedOut,
    TooBusy,
    Unavailable,
    UnexpectedReply,
    Unreachable,
)
from keymiss.client.retries import Retries

__all__ = [
    "Accepted",
    "Answers",
    "ArticleReply",
    "ArticleState",
    "AsyncClient",
    "BadRequest",
    "Client",
    "Coverage",
    "Dashboards",
    "Deleted",
    "EdgeReply",
    "GrafanaDashboard",
    "KeymissError",
    "Late",
    "Live",
    "NotAllowed",
    "NotFound",
    "PanelData",
    "Passage",
    "PostedArticle",
    "Ready",
    "Refused",
    "Result",
    "Retries",
    "SearchReply",
    "ServerFault",
    "Source",
    "TimedOut",
    "TooBusy",
    "Unavailable",
    "UnexpectedReply",
    "Unreachable",
]
