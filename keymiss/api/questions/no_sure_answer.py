"""What a reply without a sure answer says in words, for a person."""

from __future__ import annotations

from collections.abc import Sequence

from keymiss.api.questions.merge import Coverage, Group
from keymiss.api.unused import Unused
from keymiss.retrieval import CorpusFilter


def no_sure_answer(
    groups: Sequence[Group], covered: Coverage, min_score: float, only: CorpusFilter, takes_any: bool
) -> str:
    """What was read without a sure answer, and what was not read. ``takes_any``: whether the filter takes a
    sentence at all."""
    read = covered.sentences["answered"]
    if covered.sentences["asked"]:
        said = f"No sure answer: {_many(read, 'sentence')}{_within(only)} {'was' if read == 1 else 'were'} "
        said += f"read on {_many(len(covered.shards['answered']), 'shard')}, "
        if groups:
            said += f"and the best answer's probability, {max(g.score for g in groups):.2g}, "
            said += f"is below {min_score:g}."
        else:
            said += "and none holds an answer."
    elif takes_any:
        said = f"Nothing was found: no sentence{_within(only)} has to do with the question's words."
    else:
        said = f"Nothing was found: there is no sentence{_within(only)}."
    if count := covered.sentences["unread"]:
        lies, was = ("lies", "was") if count == 1 else ("lie", "were")
        said += (
            f" {_many(count, 'more sentence')} {lies} far behind and {was} not read (exhaustive reads all)."
        )
    for status, what in (("late", "did not answer in time"), ("failed", "failed")):
        if count := covered.sentences[status]:
            said += f" {_many(count, 'sentence')} {what} (shards {', '.join(covered.shards[status])})."
    if covered.shards["unindexed"]:
        said += f" Not searched yet: shards {', '.join(covered.shards['unindexed'])}."
    if covered.unused:
        said += f" Not all could be used: {', '.join(map(_in_words, covered.unused))}."
    return said


def _within(only: CorpusFilter) -> str:
    first, last = only.first_year, only.last_year
    said = ""
    if first is not None and first == last:
        said += f" of {first}"
    elif first is not None and last is not None:
        said += f" of {first} to {last}"
    elif first is not None:
        said += f" of {first} or later"
    elif last is not None:
        said += f" of {last} or earlier"
    if only.articles:
        said += f" in {', '.join(sorted(only.articles))}"
    return said


def _in_words(unused: Unused) -> str:
    where = f": {', '.join(unused.missing)}" if unused.missing else ""
    return f"{unused.signal} ({unused.reason}{where})"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
