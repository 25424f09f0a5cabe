"""One form for questions that differ in capitals or the question mark; the reader sees the same tokens."""

from __future__ import annotations

import pytest

from keymiss.api.questions.question_in_key import question_in_key
from keymiss.reading.tokenizers import load_tokenizer
from tests.servers import REPO

SAME = "Who performs viral transmission among adults?"
TOKENIZERS = [REPO / "models" / name / "tokenizer.json" for name in ("reader", "encoder")]


@pytest.mark.parametrize(
    "asked",
    [
        SAME,
        SAME.upper(),
        SAME.rstrip("?"),
        f"{SAME}??",
        SAME.replace("?", " ? ?"),
        "who Performs viral transmission among adults",
    ],
)
def test_one_form(asked: str) -> None:
    assert question_in_key(asked) == SAME.lower()


def test_a_reader_that_tells_capitals_apart() -> None:
    assert question_in_key("Does WHO say so", ignore_case=False) == "Does WHO say so?"


@pytest.mark.parametrize("asked", ["?", "???", "a? b", "a.", "\u00bfqu\u00e9?"])
def test_what_is_of_this_form_stays(asked: str) -> None:
    once = question_in_key(asked)
    assert once.endswith("?")
    assert question_in_key(once) == once
    assert question_in_key("a? b") == "a? b?"


@pytest.mark.parametrize("path", TOKENIZERS, ids=lambda path: path.parent.name)
@pytest.mark.parametrize(
    "asked",
    [  # the second has both kinds of a small sigma
        "Does COVID-19 (SARS-CoV-2) infect ACE2-positive cells at 37 \u00b0C?",
        "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3 \u03bb\u03cc\u03b3\u03bf\u03c2?",
        "\u0130stanbul, STRASSE, Stra\u00dfe, \u1e9e, \u01c5?",
        "\u00c9TUDE \ufb01ne \u212b?",
    ],
)
def test_the_models_read_the_same_tokens(path: object, asked: str) -> None:
    tokenizer = load_tokenizer(path)  # type: ignore[arg-type]
    before = tokenizer.encode(asked, add_special_tokens=False).ids
    assert tokenizer.encode(question_in_key(asked), add_special_tokens=False).ids == before
