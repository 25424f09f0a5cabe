"""Training examples: where the answer is, sentences that do not answer, an order that a resume repeats."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from keymiss.models import squad
from keymiss.models.examples import Example, Maker, Mix, Stream, collate, micro_batches, source
from keymiss.reading import tokenizers
from keymiss.resources import PROJECT

CONTEXT = (
    "The hall was built in 1890. It was rebuilt by Anna Berg in 1921 after a fire. Today it is a museum."
)
TOKENIZER = tokenizers.load_tokenizer(PROJECT / "models" / "reader" / "tokenizer.json")


def question(asked: str, *answers: str) -> squad.Question:
    return squad.Question(asked, asked, tuple(squad.Answer(a, CONTEXT.index(a)) for a in answers))


WHO = question("Who rebuilt the hall?", "Anna Berg", "Berg")
WHEN = question("When was the hall built?", "1890")
PARAGRAPH = squad.Paragraph("a-0", 0, CONTEXT, (WHO, WHEN))
OTHER = squad.Paragraph("a-0", 1, "The river is long. It has three bridges and many boats.", ())
MAKER = Maker(TOKENIZER, 96)


def words(example: Example, shares: np.ndarray) -> dict[str, float]:
    """Token -> share, of the tokens with a share."""
    places = np.flatnonzero(shares)
    return {
        TOKENIZER.id_to_token(int(example.ids[place])): round(float(shares[place]), 3) for place in places
    }


def decoded(example: Example) -> str:
    return str(TOKENIZER.decode(example.ids.tolist(), skip_special_tokens=False))


def test_a_paragraph_has_the_answers_of_all_people() -> None:
    example = MAKER.paragraph(PARAGRAPH, WHO, random.Random(1))
    assert example is not None
    assert words(example, example.starts) == {"anna": 0.5, "berg": 0.5}
    assert words(example, example.ends) == {"berg": 1.0}
    assert "museum" in decoded(example)
    assert not example.allowed[1 : int(example.types.argmax())].any()  # the question is no answer
    assert example.allowed[0]
    assert not example.allowed[-1]


def test_a_long_paragraph_is_cut_around_the_answer() -> None:
    long = squad.Paragraph("a-0", 0, CONTEXT + " More words follow here." * 60, (WHO,))
    for seed in range(20):
        example = MAKER.paragraph(long, WHO, random.Random(seed))
        assert example is not None
        assert len(example.ids) <= 96
        assert set(words(example, example.ends)) == {"berg"}


def test_the_right_sentence_holds_the_answer() -> None:
    for seed in range(20):
        example = MAKER.right(PARAGRAPH, WHO, random.Random(seed))
        assert example is not None
        assert "rebuilt by anna berg" in decoded(example)
        assert set(words(example, example.ends)) == {"berg"}


def test_a_wrong_sentence_holds_no_answer() -> None:
    here = source("a", [[PARAGRAPH, OTHER]])
    seen = set()
    for seed in range(60):
        example = MAKER.wrong(here, PARAGRAPH, WHO, random.Random(seed))
        if example is None:
            continue
        assert words(example, example.starts) == words(example, example.ends) == {"[CLS]": 1.0}
        assert "berg" not in decoded(example)
        seen |= {word for word in ("1890", "museum", "bridges") if word in decoded(example)}
    assert seen == {"1890", "museum", "bridges"}  # of its own paragraph and of the article's others


def test_a_question_without_an_answer_is_not_trained_on() -> None:
    none = squad.Question("x", "Who?", ())
    assert source("a", [[squad.Paragraph("a-0", 0, CONTEXT, (none, WHO))]]).pairs == [
        (squad.Paragraph("a-0", 0, CONTEXT, (none, WHO)), WHO)
    ]


def stream(steps: int, skip: int = 0) -> list[list[Example]]:
    here = source("a", [[PARAGRAPH, OTHER]])
    mix = Mix(2, 2, 2, {"a": 1.0}, {"a": 1.0}, 0.5)
    return list(Stream([here], MAKER, mix, 7).batches(steps, skip))


def test_the_order_is_the_same_after_a_resume() -> None:
    whole, rest = stream(8), stream(8, skip=5)
    assert len(rest) == 3
    for one, other in zip(whole[5:], rest, strict=True):
        assert [e.ids.tolist() for e in one] == [e.ids.tolist() for e in other]


def test_each_question_comes_before_any_comes_again() -> None:
    whole = stream(6)
    asked = [decoded(example).split(" [SEP]")[0] for batch in whole for example in batch[:2]]
    assert all(one != other for one, other in list(pairwise(asked))[::2])


def test_batches_are_padded_little_and_hold_every_example() -> None:
    rng = random.Random(3)
    made = [MAKER.right(PARAGRAPH, rng.choice((WHO, WHEN)), rng) for _ in range(40)]
    examples = [example for example in made if example is not None]
    groups = list(micro_batches(examples, 200))
    assert sum(len(group) for group in groups) == len(examples)
    for group in groups:
        arrays = collate(group)
        assert arrays["ids"].size <= 200 or len(group) == 1
        assert arrays["mask"].mean() > 0.8
        assert arrays["starts"].sum(-1) == pytest.approx(np.ones(len(group)))
        assert not (arrays["starts"] * ~arrays["allowed"].astype(bool)).any()
