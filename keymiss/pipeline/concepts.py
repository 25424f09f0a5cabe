"""From the concepts of an article's sentences to the pairs that its sentences gained and lost.

What was found in a sentence is a field of ``concepts:<article>:{tag}``: ``<year or nothing> <id> <id> ...``.
A pair that was gained or lost is an entry of the stream ``edges:{part}`` (`keymiss.graph.events` reads them).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

MAX_CONCEPTS = 16  # of one sentence: 120 pairs. A list of fifty names says little about each pair of them.

# KEYS: found. ARGV: for each sentence idx, found ("" for none).
WRITE = """
for at = 1, #ARGV, 2 do
    local idx, found = ARGV[at], ARGV[at + 1]
    if found == '' then redis.call('HDEL', KEYS[1], idx) else redis.call('HSET', KEYS[1], idx, found) end
end
return redis.status_reply('OK')
"""

# KEYS: stream. ARGV: six of each entry.
ADD_EDGES = """
for at = 1, #ARGV, 6 do
    redis.call('XADD', KEYS[1], '*', 'op', ARGV[at], 'source', ARGV[at + 1], 'target', ARGV[at + 2],
        'sentence', ARGV[at + 3], 'score', ARGV[at + 4], 'year', ARGV[at + 5])
end
return redis.status_reply('OK')
"""


class Entry(NamedTuple):
    """One entry of the stream, as text; `op` is "add" or "del"."""

    op: str
    source: str
    target: str
    sentence: str
    score: str
    year: str


class SentenceChange(NamedTuple):
    """`found`: what the sentence has now, "" for nothing."""

    idx: str
    found: str
    entries: list[Entry]


def changed_concepts(
    sentences: Mapping[str, str | bytes] | None,
    known: Mapping[str, str],
    year: str,
    ids_in: Callable[[str], list[str]] | None,
    name_of: Callable[[str], str],
) -> list[SentenceChange]:
    """What differs from `known` (index -> what was found before). `ids_in` finds the concepts of a sentence,
    None: there are none; `name_of` an index names the sentence in entries."""
    left, changed = dict(known), []
    for idx, sentence in (sentences or {}).items():
        ids = ids_in(sentence)[:MAX_CONCEPTS] if ids_in and isinstance(sentence, str) else []
        found, old = " ".join([year, *ids]) if ids else "", left.pop(idx, "")
        if found != old:
            changed.append(SentenceChange(idx, found, entries_between(old, found, name_of(idx))))
    return changed + [
        SentenceChange(idx, "", entries_between(old, "", name_of(idx))) for idx, old in left.items()
    ]


def entries_between(old: str, new: str, sentence: str) -> list[Entry]:
    """From what was found before to what is found now. A pair of another year goes and comes; one of another
    score comes again."""
    before, after = _pairs(old), _pairs(new)
    entries = []
    for (source, target), (score, year) in before.items():
        if (source, target) not in after or after[source, target][1] != year:
            entries.append(Entry("del", source, target, sentence, score, year))
    for (source, target), (score, year) in after.items():
        if before.get((source, target)) != (score, year):
            entries.append(Entry("add", source, target, sentence, score, year))
    return entries


def _pairs(found: str) -> dict[tuple[str, str], tuple[str, str]]:
    """(source, target) -> score, year.

    A sentence that speaks of two concepts says more about the pair than one that speaks of ten: the score is
    2 / n.
    """
    year, *ids = found.split(" ")
    score = f"{2 / max(len(ids), 2):.4g}"
    ids = sorted(ids)
    return {(a, b): (score, year) for i, a in enumerate(ids) for b in ids[i + 1 :]}


def edges_command(stream: str, changed: Sequence[SentenceChange]) -> list[str]:
    """Writes the entries; empty if there are none."""
    arguments = [part for change in changed for entry in change.entries for part in entry]
    return ["EVAL", ADD_EDGES, "1", stream, *arguments] if arguments else []


def write_command(found_key: str, changed: Sequence[SentenceChange]) -> list[str]:
    """Writes what was found: after the entries, which come again if this was not written."""
    arguments = [part for change in changed for part in (change.idx, change.found)]
    return ["EVAL", WRITE, "1", found_key, *arguments]
