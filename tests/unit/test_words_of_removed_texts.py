"""What was removed, as articles whose slots have moved, does not change which sentence is found."""

from __future__ import annotations

from keymiss.keys import sentence_key
from keymiss.retrieval import Mix
from keymiss.retrieval.across_shards import rank
from keymiss.retrieval.index import ShardIndex

ANIMALS = [f"animal{number}" for number in range(120)]
WANTED = ANIMALS[-1]
QUESTION = f"Which colour did {WANTED} have?"


def key(animal: str) -> bytes:
    return sentence_key(animal, "t").encode()


def put(index: ShardIndex, *animals: str) -> None:
    for animal in animals:
        sentences = {b"0": f"The {animal} of the village had a colour.".encode(), b"1": b"It was seen there."}
        index.put(key(animal), sentences)
    index.commit()


def first_found(**shards: ShardIndex) -> str:
    return rank(shards, QUESTION, Mix())[0][1].article


def test_the_last_that_is_left_on_a_shard_is_found() -> None:
    full, left = ShardIndex(), ShardIndex()
    put(left, *ANIMALS)
    assert first_found(one=full, other=left) == WANTED
    put(full, *ANIMALS[:-2])
    for animal in ANIMALS[:-2]:
        left.drop(key(animal))
    left.commit()
    found = rank({"one": full, "other": left}, QUESTION, Mix())
    assert [each.article for _, each in found[:2]] == [WANTED, WANTED]
    assert all(each.bm25 >= 0 for _, each in found)


def test_nothing_is_left() -> None:
    empty, full = ShardIndex(), ShardIndex()
    put(empty, *ANIMALS)
    for animal in ANIMALS:
        empty.drop(key(animal))
    empty.commit()
    put(full, *ANIMALS)
    assert first_found(one=empty, other=full) == WANTED
