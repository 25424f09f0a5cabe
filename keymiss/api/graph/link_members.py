"""A link of the graph, as replies have it."""

from __future__ import annotations

from typing import Any

from keymiss.graph.pages import Link


def link_members(link: Link) -> dict[str, Any]:
    """`created_at` is what The Pattern calls the year, a text."""
    return {
        "source": link.source,
        "target": link.target,
        "rank": link.rank,
        "first_year": link.first_year,
        "created_at": None if link.first_year is None else str(link.first_year),
    }
