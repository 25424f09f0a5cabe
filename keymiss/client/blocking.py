"""`Client`: every call waits for its reply."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self, Unpack

import httpx

from keymiss.api_shapes.articles import Accepted, ArticleReply, Deleted
from keymiss.api_shapes.graph import EdgeReply, Excluded, SearchReply
from keymiss.api_shapes.health import Live, Ready
from keymiss.api_shapes.questions import Answers
from keymiss.api_shapes.watch import Dashboards, GrafanaDashboard, PanelData
from keymiss.client import calls
from keymiss.client.calls import Article, Call, Options, R, YearRange, Years
from keymiss.client.connection import DEFAULT_TIMEOUT_S, DEFAULT_URL, Connection, Verify, tls
from keymiss.client.exchange import Send, Wait, exchange
from keymiss.client.retries import DEFAULT_RETRIES, Retries


class Client:
    """The HTTP API at `url`; may be used by several threads at once.

    `admin_key`: of the service, sent by the calls that change articles and by no other. `verify`: the
    certificates to trust. `timeout_s`: how long to wait for a connection, and each time for the next bytes.
    `retries`: how often a call is repeated. Every call takes `timeout_s` and `request_id` of its own, and
    raises `KeymissError` when there is no reply to return.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        admin_key: str | None = None,
        verify: Verify = True,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: Retries = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._connection = Connection(url, admin_key, timeout_s, retries)
        self._http = httpx.Client(base_url=url, verify=tls(verify), transport=transport)

    def ask(
        self,
        question: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        min_score: float | None = None,
        years: YearRange | None = None,
        articles: Iterable[str] | None = None,
        exhaustive: bool = False,
        **options: Unpack[Options],
    ) -> Answers:
        """Answers a question: `limit` results, from `offset` on.

        `min_score`: in place of the service's threshold. `years`, `articles`: only these are searched.
        `exhaustive`: every sentence found is read: else reading ends when an answer is sure.
        """
        return self._do(calls.ask(question, limit, offset, min_score, years, articles, exhaustive), options)

    def search(
        self,
        text: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        years: Years = (),
        **options: Unpack[Options],
    ) -> SearchReply:
        """The concepts that a text mentions, and the links between them and to others."""
        return self._do(calls.search(text, limit, offset, years), options)

    def edge(
        self,
        source: str,
        target: str,
        *,
        limit: int | None = None,
        offset: int = 0,
        years: Years = (),
        **options: Unpack[Options],
    ) -> EdgeReply:
        """The link between two concepts (their ids), and the sentences behind it. NotFound: there is none."""
        return self._do(calls.edge(source, target, limit, offset, years), options)

    def exclude(self, concept: str, **options: Unpack[Options]) -> Excluded:
        """Leaves a concept (its id) out of this client's searches, until it is closed."""
        return self._do(calls.exclude(concept), options)

    def exclude_nothing(self, **options: Unpack[Options]) -> Excluded:
        """Leaves out no concept any more."""
        return self._do(calls.exclude_nothing(), options)

    def add_article(self, article: Article, **options: Unpack[Options]) -> Accepted:
        """Adds an article, or replaces the one of that name. Its sentences follow within seconds."""
        return self._do(calls.add_article(article), options)

    def get_article(
        self, name: str, *, limit: int | None = None, offset: int = 0, **options: Unpack[Options]
    ) -> ArticleReply:
        """An article, how far it is, and `limit` of its sentences. NotFound: there is none of that name."""
        return self._do(calls.get_article(name, limit, offset), options)

    def delete_article(self, name: str, **options: Unpack[Options]) -> Deleted:
        """Deletes an article; what was made from it follows. NotFound: there is none of that name."""
        return self._do(calls.delete_article(name), options)

    def live(self, **options: Unpack[Options]) -> Live:
        """The service runs."""
        return self._do(calls.live(), options)

    def ready(self, **options: Unpack[Options]) -> Ready:
        """Every shard's model answers. Unavailable: `members["missing"]` says what does not."""
        return self._do(calls.ready(), options)

    def dashboards(self, **options: Unpack[Options]) -> Dashboards:
        """The dashboards of the page /watch."""
        return self._do(calls.dashboards(), options)

    def dashboard(self, uid: str, **options: Unpack[Options]) -> GrafanaDashboard:
        """A dashboard, as Grafana reads it."""
        return self._do(calls.dashboard(uid), options)

    def panel(
        self, uid: str, panel_id: int, *, range_s: int | None = None, **options: Unpack[Options]
    ) -> PanelData:
        """What a panel shows of the last `range_s` seconds."""
        return self._do(calls.panel(uid, panel_id, range_s), options)

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, call: Call[R], options: Options) -> R:
        request, request_id = self._connection.request(self._http, call, options)
        work = exchange(call, request_id, self._connection.retries)
        try:
            step = next(work)
            while True:
                match step:
                    case Wait(seconds):
                        time.sleep(seconds)
                        step = next(work)
                    case Send():
                        try:
                            response = self._http.send(request)
                        except httpx.RequestError as error:
                            step = work.throw(error)
                        else:
                            step = work.send(response)
        except StopIteration as done:
            reply: R = done.value
            return reply
