"""Near misses: what question and sentence share is replaced by another of its kind, in one of them."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from keymiss.models.near_misses import Pool, mentions, swapped

QUESTION = "When was the bridge of Basel opened?"
SENTENCE = "The bridge of Basel was opened in 1905."
ANSWER = (SENTENCE.index("1905"), SENTENCE.index("1905") + 4)
POOL = Pool({"name": ["Lyon"], "place": ["Ghent"]}, {"name": ["Vienna", "Basel"], "-ium": ["sodium"]})


def kinds(text: str, rare: Counter[str] | None = None) -> list[tuple[str, str]]:
    return [(one.kind, one.text) for one in mentions(text, rare)]


def test_years_numbers_names_and_places_are_told_apart() -> None:
    found = kinds("In 1905 Ada Moore built 1,200 boats in Basel for 3.5 million.")
    assert found == [
        ("year", "1905"), ("name", "Ada Moore"), ("number", "1,200"), ("place", "Basel"), ("number", "3.5"),
    ]  # fmt: skip


def test_the_first_word_is_no_name_unless_it_looks_like_one() -> None:
    assert kinds("Moving between keys is hard.") == []
    assert kinds("When did Oslo grow?") == [("name", "Oslo")]
    assert kinds("MERS spreads.") == [("name", "MERS")]


def test_rare_words_by_their_ending() -> None:
    rare = Counter({"potassium": 2, "often": 5000})
    assert kinds("Does it often need potassium?", rare) == [("-ium", "potassium")]


@pytest.mark.parametrize("seed", range(20))
def test_one_of_the_two_speaks_of_something_else(seed: int) -> None:
    asked, said = swapped(QUESTION, SENTENCE, [ANSWER], POOL, random.Random(seed))
    assert asked in ("When was the bridge of Lyon opened?", "When was the bridge of Vienna opened?")
    assert said in ("The bridge of Lyon was opened in 1905.", "The bridge of Vienna was opened in 1905.")


@pytest.mark.parametrize("seed", range(20))
def test_a_year_and_a_number_become_others(seed: int) -> None:
    rng = random.Random(seed)
    asked, said = swapped("Who won in 1990?", "In 1990 it was won by Ada.", [(22, 25)], POOL, rng)
    assert asked is not None
    assert said is not None
    assert asked != "Who won in 1990?"
    assert said.endswith(" it was won by Ada.")
    asked, _ = swapped("Who has 12 boats?", "Ada has 12 boats.", [(0, 3)], POOL, rng)
    assert asked is not None
    assert asked != "Who has 12 boats?"


def test_the_answer_is_left_as_it_is() -> None:
    """The question's year is also in the answer: then only the question is changed."""
    sentence = "It lasted from 1990 to 1995."
    asked, said = swapped("When did it end that began in 1990?", sentence, [(10, 27)], POOL, random.Random(1))
    assert asked is not None
    assert said is None


def test_what_is_put_in_is_spoken_of_nowhere_else() -> None:
    only = Pool({"name": ["Lyon"]}, {"name": ["Lyon"]})
    given = (QUESTION, SENTENCE, [ANSWER], only, random.Random(1))
    assert swapped(*given) != (None, None)
    assert swapped(*given, also_not_in="Lyon has a bridge too.") == (None, None)


def test_another_form_of_the_same_word_is_no_other() -> None:
    only = Pool({"name": ["Basels", "Basel"]}, {})
    assert swapped(QUESTION, SENTENCE, [ANSWER], only, random.Random(1)) == (None, None)


def test_nothing_shared_nothing_to_swap() -> None:
    assert swapped("Who swims?", SENTENCE, [ANSWER], POOL, random.Random(1)) == (None, None)


def test_the_same_seed_gives_the_same() -> None:
    one, other = (swapped(QUESTION, SENTENCE, [ANSWER], POOL, random.Random(7)) for _ in range(2))
    assert one == other
