"""How `keymiss status` looks: tables that fit 80 columns, with more in them when there is more room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict

from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keymiss.cli.status_figures import RATED, Rates, age, count, rate, size
from keymiss.cli.status_nodes import ClusterStatus, NodeStatus
from keymiss.cluster.topology import REPLICA
from keymiss.keys import SLOTS

WIDE = 110
"""From this many columns on, headings are whole words."""
WORK = (
    ("jobs", "events", "oldest", "run", "wait", "wrk"),
    ("hit", "miss", "ratio", "join", "done", "fail"),
)
"""Headings of what is now, and of what grows."""
WORK_WIDE = (
    ("jobs", "events", "oldest", "running", "waiting", "workers", "edges"),
    ("hits", "misses", "ratio", "coalesced", "done", "failed"),
)


Processes = Mapping[str, tuple[str, str]]
"""Name -> (state, description) of the local supervisor's programs; empty without one."""


def problems_of(status: ClusterStatus, processes: Processes) -> list[str]:
    """What does not run, a sentence each."""
    stopped = [
        f"{name} does not run: {state}" for name, (state, _) in processes.items() if state != "RUNNING"
    ]
    return [*stopped, *status.problems]


def render(status: ClusterStatus, processes: Processes, rates: Rates, width: int) -> RenderableType:
    """Everything, most important first."""
    wide = width >= WIDE
    problems = problems_of(status, processes)
    parts: list[RenderableType] = [_headline(status, ok=not problems)]
    parts += [Text(f"  {problem}", style="bold red") for problem in problems]
    if processes:
        parts += [_title("Processes"), *_processes(processes, width)]
    parts += [_title("Nodes"), _nodes(status, rates, wide)]
    if status.shards:
        when = "per second" if rates.of else "since each server started"
        parts += [_title(f"Queue, and what became of misses {when}"), _work(status, rates, wide)]
        parts += [_title("Models"), _models(status, rates, wide)]
        parts += [_title("Functions"), *_registrations(status, width)]
    return Group(*parts)


def _title(text: str) -> Text:
    return Text(f"\n{text}", "bold cyan")


def _headline(status: ClusterStatus, ok: bool) -> Text:
    roles = Counter(node.role for node in status.nodes if not node.error)
    down = sum(bool(node.error) for node in status.nodes)
    text = Text()
    text.append("● " if ok else "▲ ", "green" if ok else "bold red")
    if all(node.error for node in status.nodes):
        return text.append("no node answers", "bold")
    text.append(f"cluster {status.state}", "bold")
    text.append(
        f", {status.slots_covered} of {SLOTS} slots, {roles['master']} masters, {roles[REPLICA]} replicas"
        + (f", {down} down" if down else "")
    )
    return text


def _table(*headings: str, wide: bool, left: int = 1) -> Table:
    """The first `left` columns are texts, the others numbers."""
    gap = (0, 1, 0, 0) if wide else (0, 0, 0, 0)
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=gap,
        pad_edge=False,
        header_style="bold",
        border_style="dim",
    )
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=True)
    return table


def _processes(processes: Processes, width: int) -> list[RenderableType]:
    """As many beside each other as there is room for."""
    cells = []
    for name, (state, description) in processes.items():
        runs = state == "RUNNING"
        uptime = description.rpartition("uptime ")[2] if runs else description
        cell = Text(f"{name} ")
        cell.append(state, "green" if runs else "bold red")
        cell.append(f" {uptime}", "dim")
        cells.append(cell)
    usual = [cell for cell in cells if cell.cell_len <= 38]
    others: list[RenderableType] = [cell for cell in cells if cell.cell_len > 38]
    return [Columns(usual, width=38 if width >= 80 else None, padding=(0, 2, 0, 0)), *others]


def _nodes(status: ClusterStatus, rates: Rates, wide: bool) -> Table:
    texts = ("shard", "node", "role", "behind its master" if wide else "behind")
    numbers = ("slots", "keys", "memory", "ops/s", "clients" if wide else "conns")
    table = _table(*texts, *numbers, wide=wide, left=len(texts))
    for node in status.nodes:
        if node.error:
            state = Text("loading" if "loading" in node.error else "down", "bold red")
            table.add_row(_tag(node), node.at, state, f"as {node.role}" if node.role else "")
            continue
        table.add_row(
            _tag(node),
            node.at,
            node.role,
            _link(node),
            str(node.slots) if node.slots else "",
            count(node.keys),
            size(node.used_memory_bytes),
            rate(rates.of.get(node.at, {}).get("ops", node.ops_per_s)),
            count(node.clients),
        )
    return table


def _tag(node: NodeStatus) -> str:
    return f"{{{node.shard}}}" if node.shard else "-"


def _link(node: NodeStatus) -> Text:
    if not node.link:
        return Text()
    if node.link != "up":
        return Text(f"lost {age(node.link_down_s * 1000)}", "bold red")
    return Text("linked" if node.behind_bytes is None else f"{size(node.behind_bytes)} B")


def _work(status: ClusterStatus, rates: Rates, wide: bool) -> Table:
    """Queue and misses of each shard: per second when there was a look before, else since its start."""
    live = bool(rates.of)
    per = "/s" if live else ""
    now, since = WORK_WIDE if wide else WORK
    headings = [*now, *(heading if heading == "ratio" else heading + per for heading in since)]
    table = _table("shard", *headings, wide=wide)
    for node in status.shards:
        if node.error:
            table.add_row(_tag(node), *["-"] * len(headings))
            continue
        stats = node.stats
        per_s = rates.of.get(node.at, {})
        grown = {n: rate(per_s[n]) if n in per_s else "-" for n in RATED}
        if not live:
            grown = {n: count(stats.get(key, 0)) for n, key in RATED.items()}
        workers = stats.get("workers", 0)
        table.add_row(
            _tag(node),
            count(stats.get("jobs_queued", 0)),
            count(stats.get("events_queued", 0)),
            age(stats.get("oldest_job_ms", 0)),
            count(stats.get("jobs_running", 0)),
            count(stats.get("clients_waiting", 0)),
            Text(str(workers), "" if workers else "bold red"),
            *([count(node.edges)] if wide else []),
            grown["hits"],
            grown["misses"],
            _ratio(stats),
            grown["coalesced"],
            grown["done"],
            Text(grown["failed"], "" if grown["failed"] in ("0", "-") else "yellow"),
        )
    return table


def _ratio(stats: Mapping[str, int]) -> str:
    hits, misses = stats.get("filter_hits", 0), stats.get("filter_misses", 0)
    if not hits + misses:
        return "-"
    return f"{hits / (hits + misses):.1%}" if misses else "100%"


def _models(status: ClusterStatus, rates: Rates, wide: bool) -> Table:
    """Totals since each server started; with a look before, the time since then too."""
    live = ("calls/s", "ms now") if rates.of else ()
    columns = ("shard", "model", "backend", "digest", "calls", "mean ms", *live, "errors")
    table = _table(*columns, wide=wide, left=4)
    for node in status.shards:
        if node.error:
            continue
        if not node.models:
            table.add_row(_tag(node), Text("none", "yellow"))
        for model in node.models:
            recent = rates.models.get((node.at, model.name))
            now = [rate(recent.calls_per_s) if recent else "-", _ms(recent.mean_ms if recent else None)]
            table.add_row(
                _tag(node),
                model.name,
                model.backend,
                model.digest if wide else model.digest[:8],
                count(model.calls),
                _ms(model.mean_ms),
                *(now if live else ()),
                Text(count(model.errors), "yellow" if model.errors else ""),
            )
    return table


def _ms(mean_ms: float | None) -> str:
    return "-" if mean_ms is None else f"{mean_ms:.1f}"


def _registrations(status: ClusterStatus, width: int) -> list[RenderableType]:
    """How many there are, and those that failed since their server started, with their last error."""
    shards = [node for node in status.shards if not node.error]
    numbers = sorted({len(node.registrations) for node in shards})
    failing = [(node, one) for node in shards for one in node.registrations if one.failed]
    each = " to ".join(str(n) for n in dict.fromkeys([*numbers[:1], *numbers[-1:]])) or "0"
    summary = Text(f"{each} registered on each shard, ")
    summary.append(f"{len(failing)} with failures" if failing else "no failures", "yellow" if failing else "")
    lines: list[RenderableType] = [summary]
    for node, one in failing:
        line = f"{_tag(node)} {one.name}: {count(one.failed)} of {count(one.triggered)} failed, last: "
        text = Text(f"{line}{' '.join(one.last_error.split())}", "", no_wrap=True)
        text.truncate(width, overflow="ellipsis")
        lines.append(text)
    return lines


def as_json(status: ClusterStatus, processes: Processes, rates: Rates) -> dict[str, object]:
    """The same as one object; figures as the servers give them, times in their units."""
    nodes = (
        {**asdict(node), "per_s": dict(rates.of[node.at]) if node.at in rates.of else None}
        for node in status.nodes
    )
    return {
        "t": round(status.t, 3),
        "ok": not problems_of(status, processes),
        "problems": problems_of(status, processes),
        "cluster": {"state": status.state, "slots_covered": status.slots_covered},
        "processes": {name: {"state": state, "text": text} for name, (state, text) in processes.items()},
        "nodes": list(nodes),
    }
