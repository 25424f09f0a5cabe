"""Where sentences lie in an article, which are right, and the figures of what /qasearch said of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keymiss.corpus.article_file import parse_article
from keymiss.models import asking, front_door
from keymiss.models.asking import EvaluateError, Item
from keymiss.models.by_front_door import Answer, Asked, answers_in
from keymiss.models.front_door import figures, refusals, with_whole_file
from keymiss.models.loaded_articles import Corpus, as_json, places
from keymiss.models.squad import Paragraph
from tests.unit.test_squad import put, qa

GERMAN = "Der Fluss fließt durch das Land und wird von vielen Brücken überquert, die alle sehr alt sind."
CONTEXT = f"""The Amble\tis a  river.\x0bIt was bridged
by Ada Moore in 1894. ***

{GERMAN}

Its fish are trout and pike. Nobody swims in it."""
SENTENCES = [
    "The Amble\tis a  river.",
    "It was bridged\nby Ada Moore in 1894.",
    "Its fish are trout and pike.",
    "Nobody swims in it.",
]


def article_of(*contexts: str) -> tuple[list[Paragraph], list[str]]:
    """Paragraphs of these contexts, and the sentences that are found in them."""
    paragraphs = [Paragraph("one", number, context, ()) for number, context in enumerate(contexts)]
    found = places(parse_article(as_json("one", paragraphs)), paragraphs)
    assert [sentence.idx for sentence in found] == [str(idx) for idx in range(len(found))]
    return paragraphs, [contexts[one.context][one.start : one.end] for one in found]


def test_a_sentence_is_found_in_its_context_whatever_its_blanks() -> None:
    _, found = article_of(CONTEXT)
    assert [text.removesuffix(" ***") for text in found] == SENTENCES


def test_an_article_of_several_contexts() -> None:
    """The same sentence stands in both."""
    _, found = article_of("It is cold. It is far.", "It is far.")
    assert found == ["It is cold.", "It is far.", "It is far."]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Ada Moore", {"1"}),
        ("river.\x0bIt was", {"0", "1"}),
        ("pike. Nobody", {"2", "3"}),
        ("Fluss", set()),  # in a paragraph that is not English
    ],
)
def test_a_sentence_is_right_if_it_overlaps_the_answer(tmp_path: Path, answer: str, right: set[str]) -> None:
    path = put(tmp_path, [(CONTEXT, [qa("What?", (answer, CONTEXT.index(answer)))])])
    part = asking.part_of(path, "all")
    made = parse_article(as_json("one", part.articles[0]))
    corpus = Corpus(["one"], {"one": places(made, part.articles[0])}, [])
    assert corpus.right(part.items[0]) == {("one", idx) for idx in right}


def test_the_whole_file_is_loaded_and_the_part_asked(tmp_path: Path) -> None:
    articles = [[(f"Text {n}.", [qa("What?", ("Text", 0), id=str(n))])] for n in range(20)]
    path = put(tmp_path, *articles)
    part = asking.part_of(path, "held-out")
    whole = with_whole_file(path, part)
    assert (len(part.articles), len(whole.articles), whole.items) == (2, 20, part.items)
    assert whole.articles[:2] == part.articles
    assert len({article[0].context for article in whole.articles}) == 20


def answer(text: str, idx: int, score: float, *also: int) -> Answer:
    sources = frozenset(("one", str(each)) for each in (idx, *also))
    return Answer(text, ("one", str(idx)), f"Sentence {idx}.", sources, score)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    """A question whose answer is "trout"."""
    [found] = asking.part_of(put(tmp_path, [("A trout.", [qa("What?", ("trout", 2))])]), "all").items
    return found


def asked(item: Item, read: list[Answer], shown: int, ms: float = 1.0, problem: str = "") -> Asked:
    """The first `shown` answers are shown; sentence 7 is right."""
    return Asked(item, frozenset({("one", "7")}), tuple(read[:shown]), tuple(read), 3, 1, (), ms, problem)


def test_figures_by_hand(item: Item) -> None:
    first = asked(item, [answer("trout", 7, 0.9), answer("pike", 2, 0.4)], 2, ms=10)
    second = asked(item, [answer("pike", 2, 0.6), answer("trout", 7, 0.5)], 2, ms=20)
    as_source = asked(item, [answer("a trout fish", 1, 0.6, 7)], 1, ms=30)
    unsure = asked(item, [answer("trout", 7, 0.1)], 0, ms=40)
    not_read = asked(item, [answer("pike", 2, 0.6)], 1, ms=50)
    away = asked(item, [], 0, problem="503 away")
    found = figures([first, second, as_source, unsure, not_read, away])
    assert [found[name] for name in ("questions", "failed", "p50_ms", "p95_ms")] == [6, 1, 30, 48]
    shares = [
        found[name] / 100 * 6 for name in ("right_1", "right_5", "right_shown", "refused", "right_read")
    ]
    assert shares == pytest.approx([1, 2, 3, 1, 4])
    assert found["f1"] == pytest.approx(100 * (1 + 2 / 3) / 6)
    assert found["lost"] == {
        "another sentence first": 2, "refused": 1, "right sentence not read": 1, "not put": 1,
    }  # fmt: skip
    assert (found["sentences_asked"], found["sentences_late"]) == (18, 6)


def test_refusals_by_hand(item: Item) -> None:
    sure = asked(item, [answer("trout", 7, 0.8)], 1)
    unsure = asked(item, [answer("trout", 7, 0.12)], 0)
    wrong = asked(item, [answer("pike", 2, 0.7), answer("trout", 7, 0.1)], 1)
    not_read = asked(item, [answer("pike", 2, 0.1)], 0)
    away = asked(item, [], 0, problem="503 away")
    others = [asked(item, [answer("pike", 2, score)], shown) for score, shown in ((0.3, 1), (0.02, 0))]
    others += [asked(item, [], 0), away]  # no sentence at all: refused; no reply: nothing is known
    found = refusals([sure, unsure, wrong, not_read, away], others)
    assert (found["unanswerable"], found["unanswerable_refused"]) == (3, pytest.approx(200 / 3))
    assert found["read_refused"] == pytest.approx(100 / 3)
    assert found["auc"] == pytest.approx((3 + 2) / 6)  # 0.8 and 0.12 against 0.3, 0.02 and none
    table = {row["min_score"]: row for row in found["thresholds"]}
    assert table[0.1] == {
        "min_score": 0.1,
        "unanswerable_refused": pytest.approx(200 / 3),
        "read_refused": 0,
        "right_1": pytest.approx(40),
    }
    assert [table[0.15][name] for name in ("read_refused", "right_1")] == [pytest.approx(100 / 3), 20]
    assert [table[0.9][name] for name in ("unanswerable_refused", "read_refused", "right_1")] == [100, 100, 0]


def test_a_result_has_its_own_score_and_all_its_sources() -> None:
    sources = [
        {"sentencekey": "sentence:evaluate-1-a-0:{6fd}:33", "reader_score": 0.2},
        {"sentencekey": "sentence:KM0007:{a0}:4", "reader_score": 0.6},
    ]
    result = sources[0] | {"answer": "trout", "sentence": "A trout.", "score": 0.7, "sources": sources}
    [found] = answers_in(json.loads(json.dumps({"results": [result]})))
    assert (found.score, found.sentence) == (0.7, ("evaluate-1-a-0", "33"))
    assert found.sources == {("evaluate-1-a-0", "33"), ("KM0007", "4")}


@pytest.mark.parametrize(
    ("questions", "refusal", "reason"),
    [
        ([qa("Who?")], False, "no question has an answer"),
        ([qa("Who?", ("Amble", CONTEXT.index("Amble")))], True, "cannot be put into two halves"),
    ],
)
def test_what_cannot_be_measured(
    tmp_path: Path, questions: list[dict[str, object]], refusal: bool, reason: str
) -> None:
    part = asking.part_of(put(tmp_path, [(CONTEXT, questions)]), "all")
    with pytest.raises(EvaluateError, match=reason):
        front_door.front_door("http://127.0.0.1:1", "127.0.0.1:1", part, refusal, 1, None)  # type: ignore[arg-type]
