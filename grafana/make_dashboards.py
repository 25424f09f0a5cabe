"""Writes grafana/dashboards/*.json. Usage: python -m grafana.make_dashboards

Needs grafana-foundation-sdk (requirements-dev.lock). The files are committed; a test says when they are old.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import gears_and_models, redis_cluster, the_pattern

FOLDER = Path(__file__).resolve().parent / "dashboards"


def dashboards() -> dict[str, str]:
    """File name -> the text of the file."""
    pages = {
        "the-pattern": the_pattern.make(),
        "gears-and-models": gears_and_models.make(),
        "redis-cluster": redis_cluster.make(),
    }
    return {
        f"{name}.json": json.dumps(page, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for name, page in pages.items()
    }


def main() -> None:
    """Writes every file."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
