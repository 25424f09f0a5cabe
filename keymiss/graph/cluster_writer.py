"""The concept graph in the cluster itself: one part of it, changed by one script per batch.

A part holds the edges of the sentences of its slots (`keymiss.keys` lists the four kinds of keys), so a
change is atomic on one server and nothing waits for another shard; readers ask for all and add up.

The script names keys that its command line does not: all carry the tag of KEYS[1], so they lie in one
slot, and an ACL must allow ``~graph:*``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from redis.exceptions import ResponseError

from keymiss.graph.events import ADD, EdgeEvent, chunks, last_of_each, member_of
from keymiss.graph.graph_store import Applied, Execute
from keymiss.keys import graph_edge_key, graph_links_key, graph_nodes_key, graph_years_key

EVENTS_PER_SCRIPT = 500
"""Keeps the server busy for about 5 ms at a time: 10 microseconds for an event that adds a carrier."""

# KEYS[1] the zset of nodes; ARGV: the prefixes of edge, years and links keys, then for every event
# "a" or "d", source, target, member, score, year. Ranks are added up first and written once for each
# concept and pair: a concept comes many times in a batch. A rank of 0 is removed, so empty keys vanish.
SCRIPT = """
local edge_prefix, years_prefix, links_prefix = ARGV[1], ARGV[2], ARGV[3]
local call = redis.call
local added, removed = 0, 0
local pairs_changed, nodes_changed = {}, {}
for i = 4, #ARGV, 6 do
  local source, target, member, year = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 5]
  local pair = source .. ':' .. target
  local change = 0
  if ARGV[i] == 'a' then
    change = call('ZADD', edge_prefix .. pair, ARGV[i + 4], member)
    added = added + change
  else
    change = -call('ZREM', edge_prefix .. pair, member)
    removed = removed - change
  end
  if change ~= 0 then
    local years = years_prefix .. pair
    if call('HINCRBY', years, year, change) <= 0 then call('HDEL', years, year) end
    local known = pairs_changed[pair]
    if known then
      known[3] = known[3] + change
    else
      pairs_changed[pair] = {source, target, change}
    end
    nodes_changed[source] = (nodes_changed[source] or 0) + change
    nodes_changed[target] = (nodes_changed[target] or 0) + change
  end
end
local function rank(key, member, change)
  if change ~= 0 and tonumber(call('ZINCRBY', key, change, member)) <= 0 then call('ZREM', key, member) end
end
for _, each in pairs(pairs_changed) do
  rank(links_prefix .. each[1], each[2], each[3])
  rank(links_prefix .. each[2], each[1], each[3])
end
for concept, change in pairs(nodes_changed) do rank(KEYS[1], concept, change) end
return {added, removed}
"""
SCRIPT_SHA1 = hashlib.sha1(SCRIPT.encode()).hexdigest()


class ClusterGraph:
    """The part of the graph with this tag."""

    def __init__(self, execute: Execute, tag: str) -> None:
        self._execute = execute
        self._nodes_key = graph_nodes_key(tag)
        self._prefixes = (
            graph_edge_key(tag, "", "")[:-1],
            graph_years_key(tag, "", "")[:-1],
            graph_links_key(tag, ""),
        )

    def apply(self, events: Iterable[EdgeEvent]) -> Applied:
        """See `GraphStore`. Atomic for each `EVENTS_PER_SCRIPT` events, of which only the last of each
        carrier is sent: it decides."""
        added = removed = 0
        for chunk in chunks(events, EVENTS_PER_SCRIPT):
            arguments: list[str] = [*self._prefixes]
            for each in last_of_each(chunk):
                arguments += (
                    "a" if each.op == ADD else "d",
                    each.source,
                    each.target,
                    member_of(each.sentence, each.year),
                    repr(each.score),
                    "" if each.year is None else str(each.year),
                )
            reply = self._run(arguments)
            added += int(reply[0])
            removed += int(reply[1])
        return Applied(added, removed)

    def _run(self, arguments: list[str]) -> list[int]:
        try:
            reply: list[int] = self._execute("EVALSHA", SCRIPT_SHA1, 1, self._nodes_key, *arguments)
        except ResponseError as error:
            if not is_no_script(error):
                raise
            reply = self._execute("EVAL", SCRIPT, 1, self._nodes_key, *arguments)
        return reply


def is_no_script(error: ResponseError) -> bool:
    """True when the server does not know the script (yet, or after a restart or SCRIPT FLUSH)."""
    return "NOSCRIPT" in str(error) or "No matching script" in str(error)
