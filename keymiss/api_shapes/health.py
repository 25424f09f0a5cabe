"""What `/livez` and `/readyz` give."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from keymiss.api_shapes.base import Reply

NO_SENTENCES = "no sentences are loaded"
"""What is missing where nobody has loaded an article yet."""


class Live(Reply):
    """The process runs."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "live"}]})

    status: str


class Ready(Reply):
    """Every shard's model answers."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "ready", "shards": {"6fd": 21.4, "a0": 19.8}}]}
    )

    status: str
    shards: dict[str, float] = Field(description="Shard -> milliseconds of its model's answer.")
