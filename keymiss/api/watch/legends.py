"""Names of series, as Grafana makes them from a query's legend."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

AUTO = "__auto"
PLACE = re.compile(r"\{\{\s*(.+?)\s*\}\}")
NAME = "__name__"

Labels = Mapping[str, str]


def legends(template: str, expr: str, series: Sequence[Labels]) -> list[str]:
    """One name for each of a query's series.

    ``{{label}}`` is the label's value, empty where there is no such label. ``__auto`` names only the labels
    that tell the series apart; no legend at all names every label, as PromQL writes them.
    """
    if template == AUTO:
        return [_auto(labels, expr, telling_apart(series)) for labels in series]
    if template:
        return [PLACE.sub(lambda at, of=labels: of.get(at[1], ""), template) for labels in series]  # type: ignore[misc]
    return [_verbose(labels) or expr for labels in series]


def telling_apart(series: Sequence[Labels]) -> list[str]:
    """The labels that not all series share with the same value."""
    names = {name for labels in series for name in labels}
    return sorted(name for name in names if len({labels.get(name) for labels in series}) > 1)


def _auto(labels: Labels, expr: str, telling: Sequence[str]) -> str:
    if len(telling) == 1:
        return labels.get(telling[0], "") or expr
    if telling:
        return _verbose({name: labels[name] for name in telling if name in labels})
    if len(labels) == 1:
        return next(iter(labels.values()))
    return _verbose(labels) or expr


def _verbose(labels: Labels) -> str:
    """``name{label="value"}``; empty when there is neither."""
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != NAME)
    return labels.get(NAME, "") + (f"{{{inner}}}" if inner else "")
