"""From an article's text to its sentences, and what is written of it: sentences that changed, and the state.

English is kept; a paragraph in another language is left out, and so is an article that is mostly so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keymiss.corpus.prose import languages_of, paragraphs_of, sentences_of
from keymiss.pipeline.records import as_list, bytes_of

VERSION = "2"  # another one splits every article again

# KEYS: sentences, state. ARGV: number of fields and values to set, they, number of fields to delete, they,
# state.
WRITE = """
local at = 1
local function take(n)
    local part = {}
    for i = at, at + n - 1 do part[#part + 1] = ARGV[i] end
    at = at + n
    return part
end
local function in_parts(command, key, n)
    while n > 0 do
        local size = math.min(n, 4000)
        redis.call(command, key, unpack(take(size)))
        n = n - size
    end
end
in_parts('HSET', KEYS[1], tonumber(take(1)[1]))
in_parts('HDEL', KEYS[1], tonumber(take(1)[1]))
redis.call('DEL', KEYS[2])
redis.call('HSET', KEYS[2], unpack(take(#ARGV - at + 1)))
return redis.status_reply('OK')
"""

Fields = dict[str, str]


def source_digest(text: str | bytes, year: str, spelling: str) -> str:
    """Of all that the sentences and the state depend on."""
    return hashlib.sha1(f"{VERSION} {year} {spelling} ".encode() + bytes_of(text)).hexdigest()


@dataclass(frozen=True)
class Split:
    """The sentences in order, and what the state says of them."""

    sentences: list[str]
    said: Fields


def split_text(text: str | bytes, repair: Callable[[str], str] | None = None) -> Split:
    """`text`: bytes if it is not UTF-8; `repair` mends a sentence's spelling."""
    sentences, paragraph_of, said = _sentences_in(text)
    return Split(
        [repair(sentence) for sentence in sentences] if repair else sentences,
        {
            **said,
            "text": hashlib.sha1(bytes_of(text)).hexdigest(),  # shows whether this is of the text as it is
            "sentences": str(len(sentences)),
            "paragraph_of": json.dumps(paragraph_of, separators=(",", ":")),
        },
    )


def _sentences_in(text: str | bytes) -> tuple[list[str], list[int], Fields]:
    """Sentences, the number of each one's paragraph, what the state says of the language."""
    if not isinstance(text, str):
        return [], [], {"language": "", "skipped": "the text is not UTF-8"}
    paragraphs = paragraphs_of(text)
    languages = languages_of(paragraphs)
    said = {"language": languages.main}
    if languages.others:
        said["left_out"] = " ".join(f"{code}:{n}" for code, n in sorted(languages.others.items()))
    if languages.main != "en":
        return [], [], said | {"skipped": f"the language is {languages.main}, not en"}
    found = [(sentence, number) for number in languages.kept for sentence in sentences_of(paragraphs[number])]
    if not found:
        said["skipped"] = "there is no sentence"
    return [sentence for sentence, _ in found], [number for _, number in found], said


@dataclass(frozen=True)
class HashChange:
    """Fields of the hash of sentences to set, and fields to delete."""

    set: Fields
    delete: list[str]


def sentence_changes(sentences: Sequence[str], there: Mapping[str, str], year_changed: bool) -> HashChange:
    """From what is there to `sentences`. When nothing changed but the year, one is set to what it is: an
    event for the functions that read the year."""
    left = dict(there)
    new = {str(idx): one for idx, one in enumerate(sentences) if left.pop(str(idx), None) != one}
    if sentences and not new and year_changed:
        new = {"0": sentences[0]}
    return HashChange(new, list(left))


def write_command(sentences: tuple[str, HashChange], state: tuple[str, Fields]) -> list[str]:
    """Writes both or nothing: changes of the hash of sentences, and the state in place of the old one. Each
    with its key."""
    (key, change), (state_key, said) = sentences, state
    arguments = [*_counted(as_list(change.set)), *_counted(change.delete), *as_list(said)]
    return ["EVAL", WRITE, "2", key, state_key, *arguments]


def _counted(arguments: Sequence[str]) -> list[str]:
    return [str(len(arguments)), *arguments]
