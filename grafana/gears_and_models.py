"""The machinery behind a miss: queues, worker, functions, models, the pipeline."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.panels import BLUE, GREEN, ORANGE, RED, Page, Query, mean, per_second, quantile


def make() -> Dashboard:
    """Built anew at each call."""
    page = Page(
        "keymiss-gears",
        "Gears and models",
        "Queues, the worker, functions, models and the pipeline, by shard.",
    )
    _now(page)
    _queue(page)
    _worker(page)
    _functions(page)
    _models(page)
    _pipeline(page)
    return page.build()


def _shard(metric: str) -> str:
    """A gauge of the shards; max, as more than one API process may report it."""
    return f"max by (shard) ({metric})"


def _now(page: Page) -> None:
    page.number(
        "Worker connections, fewest",
        "Of the shard that has the fewest. 0: misses there end with NOWORKER.",
        "none",
        Query("min(max by (shard) (keymiss_shard_workers))", "workers"),
        ((None, RED), (1, GREEN)),
    )
    page.number(
        "Jobs that wait",
        "Misses, scripts and model runs in the shards' queues.",
        "none",
        Query(f"sum({_shard('keymiss_shard_jobs_queued')})", "jobs"),
        ((None, GREEN), (100, ORANGE), (1000, RED)),
    )
    page.number(
        "Oldest job",
        "How long the first job of the slowest shard has waited. The alert KeymissJobsWait is at 5 s.",
        "s",
        Query("max(keymiss_shard_oldest_job_seconds)", "age"),
        ((None, GREEN), (1, ORANGE), (5, RED)),
    )
    page.number(
        "Events that wait",
        "Key events for functions. While articles are loaded there are many.",
        "none",
        Query(f"sum({_shard('keymiss_shard_events_queued')})", "events"),
        ((None, GREEN), (10000, ORANGE), (500000, RED)),
    )
    page.number(
        "Threads in use",
        "Jobs that run in the worker, of the threads it has for them.",
        "percentunit",
        Query("sum(keymiss_worker_jobs_running) / sum(keymiss_worker_job_threads)", "busy"),
        ((None, GREEN), (0.9, ORANGE)),
    )
    page.number(
        "Worker restarts, 1 h",
        "How often a worker process began anew in the last hour.",
        "none",
        Query('sum(changes(process_start_time_seconds{job="keymiss-worker"}[1h]))', "restarts"),
        ((None, GREEN), (1, ORANGE), (5, RED)),
    )


def _queue(page: Page) -> None:
    page.graph(
        "Queue by shard",
        "Jobs and events that wait in each shard.",
        "none",
        Query(_shard("keymiss_shard_jobs_queued"), "{{shard}} jobs"),
        Query(_shard("keymiss_shard_events_queued"), "{{shard}} events"),
    )
    page.graph(
        "Age of the oldest job, by shard",
        "0 when nothing waits.",
        "s",
        Query(_shard("keymiss_shard_oldest_job_seconds"), "{{shard}}"),
    )
    page.graph(
        "Clients",
        "Clients blocked now, and each second: misses that opened a job, clients that joined one already "
        "open (one run answers all), and those that waited in vain.",
        "short",
        Query(f"sum({_shard('keymiss_shard_clients_waiting')})", "waiting now"),
        Query(per_second("keymiss_shard_flights_opened_total"), "flights opened, a second"),
        Query(per_second("keymiss_shard_clients_coalesced_total"), "joined, a second"),
        Query(per_second("keymiss_shard_clients_timed_out_total"), "timed out, a second"),
    )


def _worker(page: Page) -> None:
    page.graph(
        "Jobs by kind and end",
        "Jobs that ended in the worker, each second. Ends that never happened are left out.",
        "ops",
        Query(
            f"{per_second('keymiss_worker_jobs_total', 'kind, status')} "
            "and sum by (kind, status) (keymiss_worker_jobs_total) > 0",
            "{{kind}} {{status}}",
        ),
        stacked=True,
    )
    page.graph(
        "Wait of a job, p95",
        "In the shard's queue and in the worker until it starts.",
        "s",
        Query(quantile(0.95, "keymiss_worker_job_queue_seconds", "kind"), "{{kind}}"),
    )
    page.graph(
        "Time of a job, p95",
        "From its start to its end, model runs included.",
        "s",
        Query(quantile(0.95, "keymiss_worker_job_duration_seconds", "kind"), "{{kind}}"),
    )
    page.graph(
        "Jobs of a pull",
        "How many jobs one pull brought: under load they come in batches.",
        "none",
        Query(mean("keymiss_worker_pull_jobs"), "mean"),
        Query(quantile(0.95, "keymiss_worker_pull_jobs"), "p95"),
    )
    page.graph(
        "Worker's memory",
        "Resident memory of the process, and the models' bytes in it: every model once for all shards.",
        "bytes",
        Query('process_resident_memory_bytes{job="keymiss-worker"}', "{{instance}} all"),
        Query("keymiss_worker_models_bytes", "{{instance}} models"),
    )
    page.graph(
        "Refused and lost",
        "Each second: queue full, no worker, no function, worker died twice over a job, late, events lost, "
        "answers that a shard refused to keep.",
        "ops",
        Query(per_second("keymiss_shard_refused_busy_total"), "busy"),
        Query(per_second("keymiss_shard_refused_noworker_total"), "no worker"),
        Query(per_second("keymiss_shard_refused_nofunction_total"), "no function"),
        Query(per_second("keymiss_shard_jobs_lost_total"), "lost"),
        Query(per_second("keymiss_shard_jobs_late_total"), "late"),
        Query(per_second("keymiss_shard_events_dropped_total"), "events dropped"),
        Query(per_second("keymiss_worker_not_kept_total"), "not kept"),
    )


def _functions(page: Page) -> None:
    page.graph(
        "Registrations triggered",
        "Runs of each registered function, each second, over all shards.",
        "ops",
        Query(per_second("keymiss_registration_triggered_total", "registration"), "{{registration}}"),
    )
    page.graph(
        "Registrations failed",
        "Runs that ended with an error or were given up, each second. RG.DUMPREGISTRATIONS has the last "
        "error.",
        "ops",
        Query(
            f"{per_second('keymiss_registration_failed_total', 'registration')} + "
            f"{per_second('keymiss_registration_aborted_total', 'registration')}",
            "{{registration}}",
        ),
    )
    page.graph(
        "Time of a function",
        "Mean time of a run of each registered function.",
        "s",
        Query(
            f"{per_second('keymiss_registration_duration_seconds_total', 'registration')} / "
            f"({per_second('keymiss_registration_done_total', 'registration')} + "
            f"{per_second('keymiss_registration_failed_total', 'registration')})",
            "{{registration}}",
        ),
    )


def _models(page: Page) -> None:
    page.graph(
        "Model runs by shard",
        "Calls each second, as AI.INFO of the shard counts them.",
        "ops",
        Query(per_second("keymiss_model_calls_total", "shard, model"), "{{shard}} {{model}}"),
    )
    page.graph(
        "Model errors by shard",
        "Failed calls each second.",
        "ops",
        Query(per_second("keymiss_model_errors_total", "shard, model"), "{{shard}} {{model}}"),
    )
    page.graph(
        "Inference time by shard",
        "Mean time of a call, as AI.INFO of the shard has it.",
        "s",
        Query(
            f"{per_second('keymiss_model_duration_seconds_total', 'shard, model')} / "
            f"{per_second('keymiss_model_calls_total', 'shard, model')}",
            "{{shard}} {{model}}",
        ),
    )
    page.graph(
        "A model's run",
        "In the worker: half and 95 of 100 runs took less; p95 of the wait for a process that runs it.",
        "s",
        Query(quantile(0.5, "keymiss_worker_model_run_seconds", "model"), "{{model}} p50"),
        Query(quantile(0.95, "keymiss_worker_model_run_seconds", "model"), "{{model}} p95"),
        Query(quantile(0.95, "keymiss_worker_model_queue_seconds", "model"), "{{model}} wait p95"),
    )
    page.graph(
        "Tokens",
        "Elements of the models' first input, each second.",
        "short",
        Query(per_second("keymiss_worker_model_tokens_total", "model"), "{{model}}"),
        stacked=True,
    )
    page.bars(
        "Sentences of a run",
        "Mean number of samples of one model run in the last minutes.",
        "none",
        Query(
            "sum by (model) (rate(keymiss_worker_model_batch_size_sum[5m])) / "
            "sum by (model) (rate(keymiss_worker_model_batch_size_count[5m]))",
            "{{model}}",
        ),
        ((None, BLUE),),
    )


def _pipeline(page: Page) -> None:
    page.graph(
        "Key events",
        "Each second: queued for a function, and left out because the same one waited already.",
        "ops",
        Query(per_second("keymiss_shard_events_triggered_total", "shard"), "{{shard}} triggered"),
        Query(per_second("keymiss_shard_events_coalesced_total", "shard"), "{{shard}} left out"),
    )
    page.graph(
        "The graph",
        "Links that wait in the shards' streams for the graph's function, and concepts in the graph.",
        "none",
        Query("sum(max by (shard) (keymiss_shard_edges_waiting))", "links waiting"),
        Query("sum(max by (shard) (keymiss_shard_graph_concepts))", "concepts"),
    )
    page.graph(
        "Sentences",
        "What the API's index holds of each shard, and the sentences whose states the shard keeps.",
        "none",
        Query(_shard("keymiss_indexed_sentences"), "{{shard}} sentences"),
        Query(_shard("keymiss_indexed_vectors"), "{{shard}} vectors"),
        Query(_shard("keymiss_shard_states"), "{{shard}} states"),
    )
