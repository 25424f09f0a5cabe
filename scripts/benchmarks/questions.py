"""Questions that nobody has asked before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def new_questions() -> Iterator[str]:
    """Those of data/sample-questions.json, again and again, each time with another number."""
    known = json.loads((REPO / "data" / "sample-questions.json").read_text(encoding="utf-8"))
    for turn in itertools.count(1):
        for one in known:
            yield f"{one['question'].rstrip('?')} in outbreak {turn}?"
