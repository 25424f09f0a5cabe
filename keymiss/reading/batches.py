"""Which texts go through a model together: a run costs about as much as it has tokens, with the padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

MAX_TEXTS = 16  # more gains nothing on a CPU
MAX_TOKENS = 512  # with the padding: what is urgent waits for a run's end
MAX_PADDING = 0.15  # of the texts' own tokens


def of_like_length(lengths: Sequence[int], at_most: int = MAX_TEXTS) -> Iterator[list[int]]:
    """Places of texts of so many tokens, a batch after the other, the shortest first. Each place comes once;
    a text longer than MAX_TOKENS is alone. `at_most`: so many texts are a batch, or MAX_TEXTS, or one."""
    most = max(1, min(at_most, MAX_TEXTS))
    batch: list[int] = []
    own = 0
    for place in sorted(range(len(lengths)), key=lambda one: lengths[one]):
        own += lengths[place]
        padded = (len(batch) + 1) * lengths[place]
        if batch and (len(batch) == most or padded > min(MAX_TOKENS, (1 + MAX_PADDING) * own)):
            yield batch
            batch, own = [], lengths[place]
        batch.append(place)
    if batch:
        yield batch
