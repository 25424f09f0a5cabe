"""The Redis nodes as any Redis operator watches them, from prometheus-redis-exporter."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana.panels import GREEN, ORANGE, RATE, RED, Page, Query, per_second


def make() -> Dashboard:
    """Built anew at each call."""
    page = Page("keymiss-redis", "Redis cluster", "Load, memory, replication and slots of the nodes.")
    _now(page)
    _load(page)
    _memory(page)
    _replication(page)
    return page.build()


def _now(page: Page) -> None:
    page.number(
        "Nodes that say ok",
        "Nodes whose cluster_state is ok.",
        "none",
        Query("sum(redis_cluster_state)", "ok"),
        ((None, RED), (1, GREEN)),
    )
    page.dial(
        "Slots ok",
        "Of 16384, in the view of the node that sees the fewest.",
        "none",
        Query("min(redis_cluster_slots_ok)", "slots"),
        ((None, RED), (16384, GREEN)),
        most=16384,
    )
    page.number(
        "Replicas missing",
        "Nodes known less masters with slots less replicas that are connected to a master.",
        "none",
        Query(
            "max(redis_cluster_known_nodes) - max(redis_cluster_size) - sum(redis_connected_slaves)",
            "missing",
        ),
        ((None, GREEN), (1, RED)),
    )
    page.number(
        "Commands",
        "Each second, over all nodes.",
        "ops",
        Query(per_second("redis_commands_processed_total"), "commands"),
        ((None, GREEN),),
    )
    page.number(
        "Keys",
        "Keys of the masters.",
        "short",
        Query(
            'sum(redis_db_keys{db="db0"} * on (instance) group_left () redis_instance_info{role="master"})',
            "keys",
        ),
        ((None, GREEN),),
    )
    page.number(
        "Memory",
        "Resident memory of all nodes.",
        "bytes",
        Query("sum(redis_memory_used_rss_bytes)", "resident"),
        ((None, GREEN),),
    )


def _load(page: Page) -> None:
    page.graph(
        "Commands by node",
        "Processed each second. Replicas process what their masters write.",
        "ops",
        Query(per_second("redis_commands_processed_total", "instance"), "{{instance}}"),
    )
    page.graph(
        "Clients",
        "Connections, and clients that are blocked: those that wait for a miss, and the worker's pulls.",
        "none",
        Query("sum by (instance) (redis_connected_clients)", "{{instance}}"),
        Query("sum(redis_blocked_clients)", "blocked, all nodes"),
    )
    page.graph(
        "Processor",
        "Share of one core each node uses. A node runs commands on one.",
        "percentunit",
        Query(
            f"sum by (instance) (rate(redis_cpu_sys_seconds_total[{RATE}]) + "
            f"rate(redis_cpu_user_seconds_total[{RATE}]))",
            "{{instance}}",
        ),
    )
    page.graph(
        "Hits and misses of the server",
        "Lookups each second of all nodes, as INFO stats counts them: every read command, not only "
        "questions.",
        "ops",
        Query(per_second("redis_keyspace_hits_total"), "hits"),
        Query(per_second("redis_keyspace_misses_total"), "misses"),
    )
    page.graph(
        "Network",
        "Bytes each second of all nodes. Out counts what goes to replicas.",
        "Bps",
        Query(per_second("redis_net_input_bytes_total"), "in"),
        Query(per_second("redis_net_output_bytes_total"), "out"),
    )
    page.bars(
        "Commands that take most",
        "Seconds of processor each second, of the six commands that take most, over all nodes.",
        "s",
        Query("topk(6, sum by (cmd) (rate(redis_commands_duration_seconds_total[5m])))", "{{cmd}}"),
        ((None, GREEN), (0.5, ORANGE), (0.9, RED)),
    )


def _memory(page: Page) -> None:
    page.graph(
        "Memory by node",
        "used_memory. Blobs of models that are in files are not part of it.",
        "bytes",
        Query("sum by (instance) (redis_memory_used_bytes)", "{{instance}}"),
    )
    page.graph(
        "Tensors and models",
        "Memory of each master's tensors and models, and blobs that are in files, which nodes share.",
        "bytes",
        Query("max by (shard) (keymiss_shard_tensors_and_models_bytes)", "{{shard}}"),
        Query("max by (shard) (keymiss_shard_mapped_models_bytes)", "{{shard}} in files"),
    )
    page.graph(
        "Evicted and expired",
        "Keys each second, over all nodes. Answers are what may go.",
        "ops",
        Query(per_second("redis_evicted_keys_total"), "evicted"),
        Query(per_second("redis_expired_keys_total"), "expired"),
    )


def _replication(page: Page) -> None:
    page.rows(
        "Roles",
        "Every node by its own word.",
        "none",
        Query("max by (instance, role, redis_version) (redis_instance_info)"),
        "answers",
        {"1": ("yes", GREEN)},
    )
    page.graph(
        "Replicas' lag",
        "Seconds since a replica's last word to its master.",
        "s",
        Query(
            "max by (instance, slave_port) (redis_connected_slave_lag_seconds)",
            "{{instance}} to {{slave_port}}",
        ),
    )
    page.graph(
        "Replicas behind, bytes",
        "What a master has written and a replica has not confirmed.",
        "bytes",
        Query(
            "max by (instance, slave_port) "
            "(redis_master_repl_offset - on (instance) group_right () redis_connected_slave_offset_bytes)",
            "{{instance}} to {{slave_port}}",
        ),
    )
    page.graph(
        "Slots",
        "Slots served, failing and perhaps failing, in the view of the node that sees it worst.",
        "none",
        Query("min(redis_cluster_slots_ok)", "ok"),
        Query("max(redis_cluster_slots_fail)", "failing"),
        Query("max(redis_cluster_slots_pfail)", "perhaps failing"),
    )
    page.graph(
        "Keys by node",
        "A replica has as many as its master.",
        "short",
        Query('sum by (instance) (redis_db_keys{db="db0"})', "{{instance}}"),
    )
    page.graph(
        "Links of replicas",
        "1: the replica is linked to its master; 0: it is not.",
        "none",
        Query("min by (instance) (redis_master_link_up)", "{{instance}}"),
    )
