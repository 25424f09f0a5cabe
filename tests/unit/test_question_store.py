"""What is trained on: answers as tokens, nothing held out, and nothing that answers among what does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from keymiss.models import question_store, squad
from keymiss.models.question_store import Ragged, Store, holds, with_quantifier
from keymiss.reading import tokenizers
from keymiss.resources import PROJECT

TOKENIZER = PROJECT / "models" / "reader" / "tokenizer.json"
NAMES = [
    "Berlin",
    "Vienna",
    "Prague",
    "Oslo",
    "Rome",
    "Paris",
    "Madrid",
    "Athens",
    "Cairo",
    "Lima",
    "Quito",
    "Bern",
    "Turin",
    "Lyon",
    "Ghent",
    "Basel",
    "Porto",
    "Delft",
]


def put_cities(path: Path) -> Path:
    """An article a city, of two paragraphs; the year of the bridge and the number of boats are asked."""
    articles = []
    for number, name in enumerate(NAMES):
        year, boats = str(1900 + number), str(40 + number)
        bridge = (
            f"The city of {name} is old. The bridge of {name} was opened in {year}. "
            f"A second bridge of {name} was never opened. Trams run there since {year}."
        )
        harbour = f"In {name} less than {boats} boats are left. The harbour of {name} has no bridge."
        asked = [
            (bridge, f"When was the bridge of {name} opened?", year),
            (harbour, f"How many boats are left in {name}?", boats),
        ]
        paragraphs = [
            {
                "context": context,
                "qas": [{
                    "id": f"{name} {answer}", "question": question,
                    "answers": [{"text": answer, "answer_start": context.index(answer)}],
                }],
            }
            for context, question, answer in asked
        ]  # fmt: skip
        articles.append({"title": name, "paragraphs": paragraphs})
    path.write_text(json.dumps({"data": articles}))
    return path


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return tokenizers.load_tokenizer(TOKENIZER)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_cities(tmp_path_factory.mktemp("data") / "cities.json")


@pytest.fixture(scope="module")
def store(data: Path, tokenizer: Tokenizer) -> Store:
    return question_store.build([data], tokenizer, 3, lambda _: None)


def words(tokenizer: Tokenizer, ids: np.ndarray) -> str:
    return str(tokenizer.decode(ids.tolist()))


def answers(store: Store, tokenizer: Tokenizer, number: int) -> list[str]:
    passage = store.passages[int(store.passage_of[number])]
    return [words(tokenizer, passage[a : b + 1]) for a, b in store.spans[number].reshape(-1, 2)]


def sentence(store: Store, tokenizer: Tokenizer, number: int) -> str:
    passage, place = store.sentence(number)
    first, last = store.sentences[passage].reshape(-1, 2)[place]
    return words(tokenizer, store.passages[passage][first:last])


def test_only_the_part_that_is_trained_on(store: Store, data: Path, tokenizer: Tokenizer) -> None:
    parts = squad.split(squad.read(data))
    assert len(store.passages) == 2 * len(parts.train)
    known = {words(tokenizer, store.passages[number]) for number in range(len(store.passages))}
    for article in parts.held_out + parts.calibration:
        assert not known & {words(tokenizer, np.array(tokenizer.encode(p.context).ids)) for p in article}
        name = article[0].context.split()[3].casefold()
        assert not any(name in passage for passage in known)


def test_answers_are_at_their_tokens_with_their_quantifier(store: Store, tokenizer: Tokenizer) -> None:
    for number in range(len(store.questions)):
        question = words(tokenizer, store.questions[number])
        (answer,) = answers(store, tokenizer, number)
        assert answer.startswith("less than " if "boats" in question else "19"), (question, answer)


def test_what_does_not_answer_never_holds_the_answer(store: Store, tokenizer: Tokenizer) -> None:
    found = 0
    for number in range(len(store.questions)):
        answer = answers(store, tokenizer, number)[0]
        for kind in (store.near, store.far):
            for other in kind[number].tolist():
                found += 1
                assert answer not in sentence(store, tokenizer, other).split()
                assert answer not in sentence(store, tokenizer, other)
    assert found > len(store.questions)


def test_near_is_of_the_same_article_and_far_is_not(store: Store) -> None:
    for number in range(len(store.questions)):
        article = store.passage_of[number] // 2
        assert all(store.sentence(other)[0] // 2 == article for other in store.near[number].tolist())
        assert all(store.sentence(other)[0] // 2 != article for other in store.far[number].tolist())


def test_near_misses_are_of_another_city(store: Store, tokenizer: Tokenizer) -> None:
    asked = said = 0
    for number in range(len(store.questions)):
        question = words(tokenizer, store.questions[number])
        city = question.removesuffix("?").removesuffix(" opened").split()[-1]
        for variant in (store.asked0, store.asked1):
            missed = words(tokenizer, variant[number])
            asked += bool(missed)
            assert city not in missed
        for variant in (store.said0, store.said1):
            missed = words(tokenizer, variant[number])
            said += bool(missed)
            assert city not in missed
            assert not missed or answers(store, tokenizer, number)[0] in missed
    assert min(asked, said) > len(store.questions) / 2


def test_saved_and_loaded_it_is_the_same(store: Store, tmp_path: Path) -> None:
    store.save(tmp_path / "questions.npz")
    again = Store.load(tmp_path / "questions.npz")
    assert again.files == ["cities"]
    for name in ("passages", "sentences", "questions", "spans", "near", "far", "asked0", "said1"):
        one, other = getattr(store, name), getattr(again, name)
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.ends, other.ends)
    assert np.array_equal(store.passage_of, again.passage_of)


def test_the_same_seed_gives_the_same(store: Store, data: Path, tokenizer: Tokenizer) -> None:
    again = question_store.build([data], tokenizer, 3, lambda _: None)
    other = question_store.build([data], tokenizer, 4, lambda _: None)
    assert np.array_equal(store.asked0.values, again.asked0.values)
    assert not np.array_equal(store.asked0.values, other.asked0.values)


def test_the_digest_knows_files_and_seed(data: Path, tmp_path: Path) -> None:
    one = question_store.digest([data], TOKENIZER, 3)
    assert one == question_store.digest([data], TOKENIZER, 3)
    changed = tmp_path / data.name
    changed.write_bytes(data.read_bytes() + b"\n")
    assert (
        len(
            {one, question_store.digest([data], TOKENIZER, 4), question_store.digest([changed], TOKENIZER, 3)}
        )
        == 3
    )


@pytest.mark.parametrize(
    ("context", "answer", "wanted"),
    [
        ("It took less than 5 days.", "5 days", "less than 5 days"),
        ("It took up to 14 days.", "14", "up to 14"),
        ("It cost about $40 a day.", "40", "about $40"),
        ("Within 3 weeks they died.", "3 weeks", "Within 3 weeks"),
        ("No more than two people.", "two", "No more than two"),
        ("It happened in 1905.", "1905", "1905"),
        ("They wrote about Vienna.", "Vienna", "Vienna"),
        ("The 5 of them.", "5", "5"),
    ],
)
def test_a_quantifier_belongs_to_its_number(context: str, answer: str, wanted: str) -> None:
    found = with_quantifier(context, squad.Answer(answer, context.index(answer)))
    assert found.text == wanted
    assert context[found.start : found.end] == wanted


def test_ragged_gives_back_what_it_was_made_of() -> None:
    made = Ragged.of([[1, 2], [], [3]])
    assert [one.tolist() for one in (made[0], made[1], made[2])] == [[1, 2], [], [3]]
    assert len(made) == 3


@pytest.mark.parametrize(
    ("given", "wanted", "found"),
    [([1, 2, 3], [2, 3], True), ([1, 2, 3], [3, 2], False), ([1], [1, 2], False), ([1], [], False)],
)
def test_tokens_in_a_text(given: list[int], wanted: list[int], found: bool) -> None:
    assert holds(np.array(given, np.int32), np.array(wanted, np.int32)) is found
