"""Which sentences of an article have changed since something was made of them, told by a mark of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

Mark = TypeVar("Mark", str, bytes)


@dataclass(frozen=True)
class Changes:
    """`new`: index -> sentence, of those that nothing, or something else, was made of. `gone`: the indices of
    what was made of sentences that are not there any more."""

    new: dict[str, str]
    gone: list[str]


def changes(
    sentences: Mapping[str | bytes, str | bytes] | None,
    made: Mapping[str, Mark],
    mark_of: Callable[[str], Mark],
) -> Changes:
    """`sentences`: the hash as it is now, None if it is gone; `made`: index -> mark of the sentence that
    something was made of. A sentence that is not UTF-8 counts as none: asking about it says so."""
    left, new = dict(made), {}
    for idx, sentence in (sentences or {}).items():
        if isinstance(idx, str) and isinstance(sentence, str) and left.pop(idx, None) != mark_of(sentence):
            new[idx] = sentence
    return Changes(new, list(left))
