"""The overview: is it answering, how fast, from where, and is the cluster whole."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.panels import GREEN, ORANGE, RED, WELL_IS_HIGH_SHARE, Page, Query, mean, per_second, quantile

DURATION = "keymiss_question_duration_seconds"
SENTENCES = "keymiss_sentence_answers_total"


def make() -> Dashboard:
    """Built anew at each call."""
    page = Page(
        "keymiss-pattern", "The Pattern", "Questions, where their answers come from, and the cluster."
    )
    _now(page)
    _questions(page)
    _answers(page)
    _cluster(page)
    return page.build()


def _now(page: Page) -> None:
    page.number(
        "Questions",
        "Questions that ended, each second, whatever their outcome.",
        "reqps",
        Query(per_second("keymiss_questions_total"), "questions"),
        ((None, GREEN),),
    )
    page.number(
        "p99 of a question",
        "99 of 100 questions took less than this, from the API's first byte to its last. "
        "The alert KeymissSlowQuestions is at 2 s.",
        "s",
        Query(quantile(0.99, DURATION), "p99"),
        ((None, GREEN), (1, ORANGE), (2, RED)),
    )
    page.dial(
        "Hit ratio",
        "Share of the sentences' answers that were cached already. The rest was read by the model. "
        "Low is no fault: new questions are misses.",
        "percentunit",
        Query(f"{per_second(SENTENCES, where=CACHED)} / {per_second(SENTENCES)}", "hits"),
        WELL_IS_HIGH_SHARE,
        most=1,
    )
    page.dial(
        "Slots with a master",
        "Of the 16384 slots of the cluster; the keys of the others cannot be read or written.",
        "none",
        Query("max(keymiss_cluster_slots_covered)", "slots"),
        ((None, RED), (16384, GREEN)),
        most=16384,
    )
    page.number(
        "Nodes down",
        "Nodes, masters and replicas, that did not answer the API.",
        "none",
        Query("sum(1 - min by (node) (keymiss_node_up))", "down"),
        ((None, GREEN), (1, RED)),
    )
    page.number(
        "Alerts firing",
        "Of prometheus/alerts.yml; docs/watching.md says what to do about each.",
        "none",
        Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),
        ((None, GREEN), (1, RED)),
    )


CACHED = 'outcome="cached"'


def _questions(page: Page) -> None:
    page.graph(
        "Questions by outcome",
        "answered and nothing_found are well; refused: a bad request; busy: too many at once (429); late: "
        "not in time (504); failed: no shard could answer (503); left: the client did not wait; error: a "
        "fault of the API.",
        "reqps",
        Query(per_second("keymiss_questions_total", "outcome"), "{{outcome}}"),
        width=12,
        stacked=True,
    )
    page.graph(
        "How long a question takes",
        "Half, 95 and 99 of 100 took less. Questions that were answered or found nothing.",
        "s",
        *(Query(quantile(part, DURATION), name) for part, name in QUANTILES),
        width=12,
    )
    page.graph(
        "Stages of a question, mean",
        "retrieve: which sentences to ask; ask: their answers from the shards; merge: ranking.",
        "s",
        Query(mean("keymiss_question_stage_duration_seconds", "stage"), "{{stage}}"),
    )
    page.graph(
        "Stages of a question, p95",
        "95 of 100 took less in this stage.",
        "s",
        Query(quantile(0.95, "keymiss_question_stage_duration_seconds", "stage"), "{{stage}}"),
    )
    page.graph(
        "In flight, and answered in part",
        "Questions under way now, and those each second that were answered although a sentence or a shard "
        "was missing, or whose sentences were not found by all vectors or links.",
        "short",
        Query("sum(keymiss_questions_in_flight)", "in flight"),
        Query("sum(keymiss_questions_limit)", "in flight at most"),
        Query(per_second("keymiss_questions_partial_total"), "in part, a second"),
        Query(
            per_second("keymiss_question_signals_unused_total", "signal"), "without some {{signal}}, a second"
        ),
    )


QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


def _answers(page: Page) -> None:
    page.graph(
        "Answers by shard",
        "Sentences' answers each second, by the shard (its hash tag) that has the sentence.",
        "ops",
        Query(per_second(SENTENCES, "shard"), "{{shard}}"),
        stacked=True,
    )
    page.graph(
        "Answers by outcome",
        "cached: the key was there; computed: the model read the sentence; late, busy, failed: no answer.",
        "ops",
        Query(per_second(SENTENCES, "outcome"), "{{outcome}}"),
        stacked=True,
    )
    page.graph(
        "How long a sentence's answer takes",
        "p95 as the API sees it, of cached answers and of those the model made.",
        "s",
        Query(quantile(0.95, "keymiss_sentence_answer_duration_seconds", "cached"), "cached: {{cached}}"),
    )


def _cluster(page: Page) -> None:
    page.rows(
        "Nodes",
        "Every node configured or known to the cluster, as the API finds it. One that is down has no role.",
        "none",
        Query(
            "(max by (node) (keymiss_node_up) * on (node) group_left (role, shard) "
            "max by (node, role, shard) (keymiss_node_info)) or on (node) max by (node) (keymiss_node_up)"
        ),
        "state",
        {"1": ("up", GREEN), "0": ("down", RED)},
    )
    page.graph(
        "Memory by part",
        "Resident memory: all Redis nodes, the worker (every model once), the API.",
        "bytes",
        Query("sum(redis_memory_used_rss_bytes)", "nodes"),
        Query('sum(process_resident_memory_bytes{job="keymiss-worker"})', "worker"),
        Query('sum(process_resident_memory_bytes{job="keymiss-api"})', "api"),
        stacked=True,
    )
    page.rows(
        "Alerts",
        "Pending and firing alerts; a row without a state when there is none.",
        "none",
        Query(
            "max by (alertname, alertstate, severity) (ALERTS) "
            'or on () label_replace(vector(0), "alertname", "none", "", "")'
        ),
        "active",
        {"1": ("yes", RED), "0": ("no", GREEN)},
    )
