"""Texts that go through a model together."""

from hypothesis import given
from hypothesis import strategies as st

from keymiss.reading.batches import MAX_PADDING, MAX_TEXTS, MAX_TOKENS, of_like_length


@given(st.lists(st.integers(1, 700), max_size=80))
def test_every_text_is_in_one_batch_and_little_is_padded(lengths: list[int]) -> None:
    batches = list(of_like_length(lengths))
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        own = [lengths[place] for place in batch]
        padded = len(own) * max(own)
        assert len(own) <= MAX_TEXTS
        assert len(own) == 1 or padded <= min(MAX_TOKENS, (1 + MAX_PADDING) * sum(own))
    in_order = [lengths[place] for batch in batches for place in batch]
    assert in_order == sorted(lengths)


def test_a_batch_takes_as_many_as_it_may() -> None:
    assert [len(batch) for batch in of_like_length([10] * 33)] == [MAX_TEXTS, MAX_TEXTS, 1]
    assert [len(batch) for batch in of_like_length([100] * 11)] == [5, 5, 1]
    assert list(of_like_length([30, 9, 9])) == [[1, 2], [0]]
