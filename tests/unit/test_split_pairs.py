"""The pairs of a step: what is labelled an answer is one, what is not is none, and batches keep them
whole."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from keymiss.models import question_store
from keymiss.models.question_store import Store, holds
from keymiss.models.split_pairs import (
    MAX_TEXT_TOKENS,
    TIGHT,
    Pair,
    PairMaker,
    Stream,
    batch_of,
    buckets,
    shared_out,
)
from keymiss.reading import tokenizers
from tests.unit.test_question_store import TOKENIZER, put_cities

CLS, SEP = 101, 102


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.load_tokenizer(TOKENIZER)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Store:
    data = put_cities(tmp_path_factory.mktemp("data") / "cities.json")
    return question_store.build([data], tokenizer, 3, lambda _: None)


@pytest.fixture(scope="module")
def many(store: Store) -> list[tuple[int, Pair]]:
    """Many pairs, with the question each was made for."""
    maker = PairMaker(store, CLS, SEP)
    rng = random.Random(1)
    numbers = [*range(len(store.questions))] * 30
    return [(number, pair) for number in numbers for pair in maker.pairs([number], rng)]


def answer_of(store: Store, number: int) -> np.ndarray:
    first, last = store.spans[number][:2]
    return store.passages[int(store.passage_of[number])][first : last + 1]


def test_spans_are_the_answer(store: Store, many: list[tuple[int, Pair]]) -> None:
    answered = [(number, pair) for number, pair in many if pair.spans]
    assert answered
    for number, pair in answered:
        for first, last in pair.spans:
            assert np.array_equal(pair.text[first : last + 1], answer_of(store, number))
        assert np.array_equal(pair.question[1:-1], store.questions[number])


def test_what_does_not_answer_holds_no_answer_or_asks_something_else(
    store: Store, many: list[tuple[int, Pair]]
) -> None:
    kinds = {"other text": 0, "other question": 0, "other in the sentence": 0}
    for number, pair in many:
        if pair.spans:
            continue
        asks_this = np.array_equal(pair.question[1:-1], store.questions[number])
        said = any(np.array_equal(pair.text[:-1], one[number]) for one in (store.said0, store.said1))
        if asks_this and not said:
            kinds["other text"] += 1
            assert not holds(pair.text, answer_of(store, number))
        else:
            kinds["other in the sentence" if said else "other question"] += 1
    assert all(kinds.values()), kinds


def test_they_are_of_every_length_that_is_read(store: Store, many: list[tuple[int, Pair]]) -> None:
    """Whole passages, single sentences, and sentences with neighbours."""
    numbers = [number for number, _ in many if len(store.sentences[int(store.passage_of[number])]) == 8]
    passage = int(store.passage_of[numbers[0]])
    sentences = store.sentences[passage].reshape(-1, 2)
    lengths = {len(pair.text) - 1 for number, pair in many if number == numbers[0] and pair.spans}
    assert len(store.passages[passage]) in lengths
    assert {int(last - first) for first, last in sentences} & lengths
    assert any(length not in {int(b - a) for a, b in sentences} for length in lengths)
    assert all(
        pair.text[-1] == SEP and pair.question[0] == CLS and pair.question[-1] == SEP for _, pair in many
    )


def test_a_long_passage_is_read_in_a_window_with_the_answer(tokenizer: Tokenizer, tmp_path: Path) -> None:
    store = _long(tokenizer, tmp_path)
    maker = PairMaker(store, CLS, SEP)
    pairs = [pair for seed in range(30) for pair in maker.pairs([0], random.Random(seed))]
    assert max(len(pair.text) for pair in pairs) <= MAX_TEXT_TOKENS
    windows = [pair for pair in pairs if pair.spans and len(pair.text) > 100]
    assert len({pair.text.tobytes() for pair in windows}) > 10


def _long(tokenizer: Tokenizer, folder: Path) -> Store:
    import json

    context = "They went on and on. " * 150 + "The bridge was opened in 1905. " + "Nobody came back. " * 150
    articles = []
    for number in range(12):
        here = f"Part {number}. {context}"
        asked = {"id": str(number), "question": "When was the bridge opened?"}
        asked["answers"] = [{"text": "1905", "answer_start": here.index("1905")}]  # type: ignore[assignment]
        articles.append({"paragraphs": [{"context": here, "qas": [asked]}]})
    (folder / "long.json").write_text(json.dumps({"data": articles}))
    return question_store.build([folder / "long.json"], tokenizer, 1, lambda _: None)


# ---- the stream


def stream(store: Store, seed: int = 5) -> Stream:
    return Stream(store, 4, seed)


def drawn(store: Store, made: Stream) -> list[list[Pair]]:
    return PairMaker(store, CLS, SEP).of_step(*made.drawn({"cities": 1.0}))


def bytes_of(groups: list[list[Pair]]) -> list[tuple[bytes, bytes, tuple[tuple[int, int], ...]]]:
    return [(pair.question.tobytes(), pair.text.tobytes(), pair.spans) for pairs in groups for pair in pairs]


def test_after_steps_that_are_skipped_it_goes_on_the_same(store: Store) -> None:
    shares = {"cities": 1.0}
    whole, later, other = stream(store), stream(store), stream(store, 6)
    steps = [bytes_of(drawn(store, whole)) for _ in range(12)]
    later.skip(7, shares)
    assert [bytes_of(drawn(store, later)) for _ in range(5)] == steps[7:]
    assert bytes_of(drawn(store, other)) != steps[0]


def test_every_question_once_before_any_comes_again(store: Store) -> None:
    made = stream(store)
    count = len(store.questions)
    drawn = [tuple(next(made._orders.setdefault("cities", made._order("cities")))) for _ in range(count)]
    assert sorted(number for numbers in drawn for number in numbers) == list(range(count))


def test_shares_follow_questions_and_factors(store: Store) -> None:
    made = stream(store)
    assert made.group_shares({})["cities"] == len(store.questions)  # one question a passage
    assert made.group_shares({"cities": 0.5})["cities"] == 0.5 * len(store.questions)


# ---- batches


def test_a_batch_has_every_pair_whole_and_every_half_once(many: list[tuple[int, Pair]]) -> None:
    pairs = [pair for _, pair in many[:60]]
    batch = batch_of(pairs)
    table = [np.zeros(1, np.int64)]
    masks = [np.zeros(1, np.bool_)]
    for half in (*batch.questions, *batch.texts):
        table.append(half.ids.reshape(-1))
        masks.append(half.mask.reshape(-1))
    ids, mask = np.concatenate(table), np.concatenate(masks)
    got = []
    for read in batch.reads:
        assert mask[read.rows[read.mask]].all()
        assert (read.rows[~read.mask] == 0).all()
        for line in range(len(read.rows)):
            got.append(ids[read.rows[line][read.mask[line]]].astype(np.int32).tobytes())
            assert read.starts[line].sum() == pytest.approx(1)
            assert read.ends[line].sum() == pytest.approx(1)
            assert (read.starts[line] > 0)[~read.allowed[line]].sum() == 0
            assert (read.starts[line][0] == 1) == (read.answers[line] == 0)
    assert sorted(got) == sorted(pair.question.tobytes() + pair.text.tobytes() for pair in pairs)
    halves = {pair.question.tobytes() for pair in pairs}, {pair.text.tobytes() for pair in pairs}
    assert sum(len(half.ids) for half in batch.questions) == len(halves[0])
    assert sum(len(half.ids) for half in batch.texts) == len(halves[1]) < len(pairs)


def test_spans_are_behind_the_question(many: list[tuple[int, Pair]]) -> None:
    pair = next(pair for _, pair in many if pair.spans)
    (read,) = batch_of([pair]).reads
    first, last = pair.spans[0]
    assert read.starts[0].argmax() == len(pair.question) + first
    assert read.ends[0].argmax() == len(pair.question) + last
    assert read.allowed[0].sum() == 1 + len(pair.text) - 1  # [CLS] and the text without [SEP]


def test_buckets_are_of_about_one_length() -> None:
    lengths = [random.Random(2).randint(5, 300) for _ in range(200)]
    groups = list(buckets(lengths))
    assert sorted(number for group in groups for number in group) == list(range(200))
    for group in groups:
        shortest, longest = (pick(lengths[one] for one in group) for pick in (min, max))
        assert longest <= max(TIGHT.ratio * shortest, shortest + TIGHT.tokens)


def test_work_is_shared_out_evenly_and_passages_stay_together() -> None:
    def pair(tokens: int) -> Pair:
        return Pair(np.zeros(8, np.int32), np.zeros(tokens, np.int32), ())

    groups = [[pair(tokens)] * 2 for tokens in (100, 90, 80, 30, 20, 10)]
    parts = shared_out(groups, 3)
    work = [sum(one.cost for one in part) for part in parts]
    assert max(work) - min(work) < 100
    assert sum(map(len, parts)) == 12
    assert shared_out(groups[:1], 3) == [groups[0]]
