"""Figures of `keymiss status`: per second between two looks, and as short texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keymiss.cli.status_nodes import ClusterStatus, ModelStatus, NodeStatus

RATED = {
    "hits": "filter_hits",
    "misses": "filter_misses",
    "coalesced": "clients_coalesced",
    "done": "jobs_done",
    "failed": "jobs_failed",
}
"""Column -> figure of KM.STATS that only grows."""


@dataclass(frozen=True, slots=True)
class ModelRate:
    """What a model did between two looks; `mean_ms` of a call, None without one."""

    calls_per_s: float
    mean_ms: float | None


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened between two looks; nothing of a node that was restarted, or is new.

    `of`: address -> ops and the names of RATED -> per second. `models`: by address and name.
    """

    of: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    models: Mapping[tuple[str, str], ModelRate] = field(default_factory=dict)

    @classmethod
    def between(cls, before: ClusterStatus | None, now: ClusterStatus) -> Rates:
        """Empty without a look before."""
        if before is None or now.t <= before.t:
            return cls()
        old = {node.run_id: node for node in before.nodes if node.run_id}
        pairs = [(old[node.run_id], node) for node in now.nodes if node.run_id in old]
        took_s = now.t - before.t
        of = {
            node.at: {name: max(0, grown) / took_s for name, grown in _grown(was, node).items()}
            for was, node in pairs
        }
        models = {
            (node.at, model.name): _model_rate(earlier, model, took_s)
            for was, node in pairs
            for earlier in was.models
            for model in node.models
            if model.name == earlier.name
        }
        return cls(of, models)


def _grown(was: NodeStatus, node: NodeStatus) -> dict[str, int]:
    """The figures that both looks have."""
    both = {n: key for n, key in RATED.items() if key in node.stats and key in was.stats}
    grown = {name: node.stats[key] - was.stats[key] for name, key in both.items()}
    return {"ops": node.commands - was.commands, **grown}


def _model_rate(was: ModelStatus, model: ModelStatus, took_s: float) -> ModelRate:
    """Nothing when the figures were reset in between."""
    calls, duration_us = model.calls - was.calls, model.duration_us - was.duration_us
    if calls <= 0 or duration_us < 0:
        return ModelRate(0.0, None)
    return ModelRate(calls / took_s, duration_us / calls / 1000)


def count(number: int) -> str:
    """At most five characters: 9999, 12.3k, 4.56M."""
    return str(number) if number < 10_000 else _short(number)


def size(number: int) -> str:
    """Bytes, powers of 1000: 312, 45.1k, 1.20G."""
    return str(number) if number < 1000 else _short(number)


def _short(number: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if number < 999.5 or unit == "T":
            break
        number /= 1000
    digits = 0 if number >= 100 or not unit else 1 if number >= 10 else 2
    return f"{number:.{digits}f}{unit}"


def rate(per_s: float) -> str:
    """0, 0.3, 12, 1.20k."""
    if per_s == 0:
        return "0"
    return f"{per_s:.1f}" if per_s < 10 else _short(per_s)


def age(milliseconds: int) -> str:
    """0, 120 ms, 3.4 s, 12 min, 3 h."""
    seconds = milliseconds / 1000
    for limit, text in ((0.0005, "0"), (1, f"{milliseconds} ms"), (60, f"{seconds:.1f} s")):
        if seconds < limit:
            return text
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
