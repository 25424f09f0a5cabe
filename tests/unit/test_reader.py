"""Questions and sentences to model inputs, logits to answers: layout, windows, offsets, the score."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from keymiss.reading import reader, tokenizers
from keymiss.reading.reader import About, Calibration, Reader
from keymiss.resources import PROJECT

CLS, SEP = 101, 102
QUESTION = "Who performs viral transmission among adults"
READER = reader.default_reader()


def words(count: int) -> str:
    return " ".join(f"virus{'' if i % 3 else ' spreads'}" for i in range(count))


def test_sentence_ids_end_with_sep() -> None:
    ids = READER.sentence("Children carry it.").ids
    assert ids.dtype == np.int64
    assert ids.ndim == 1
    assert ids[-1] == SEP
    assert CLS not in ids


def test_layout_of_a_short_pair() -> None:
    sentence = READER.sentence("Children carry it.")
    inputs = READER.inputs(QUESTION, sentence)
    ids = inputs.input_ids[0].tolist()
    assert inputs.input_ids.shape == inputs.attention_mask.shape == inputs.token_type_ids.shape
    assert all(a.dtype == np.int64 for a in (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids))
    assert (ids[0], ids[-1], ids.count(SEP)) == (CLS, SEP, 2)
    assert ids[ids.index(SEP) + 1 :] == sentence.ids.tolist()
    assert inputs.token_type_ids[0].tolist() == [0] * (ids.index(SEP) + 1) + [1] * len(sentence.ids)
    inside = inputs.offsets[0][:, 0] >= 0
    assert inside.tolist() == [ids.index(SEP) < i < len(ids) - 1 for i in range(len(ids))]


def test_offsets_cover_whole_words() -> None:
    context = "The coronaviridae spread; Ärzte and 病毒 too."
    offsets = READER.sentence(context).offsets.tolist()
    cut = [context[a:b] for a, b in offsets]
    assert cut.count("coronaviridae") > 1  # each of its word pieces stands for the whole word
    assert {"Ärzte", "病", ";"} <= set(cut)
    assert not any(piece != piece.strip() or not piece for piece in cut)


def test_a_long_sentence_is_cut_in_windows_that_overlap() -> None:
    sentence = READER.sentence(words(900))
    n = len(sentence.ids) - 1
    inputs = READER.inputs(QUESTION, sentence)
    windows, seq = inputs.input_ids.shape
    assert windows > 1
    assert seq == reader.MAX_SEQUENCE_TOKENS
    assert (inputs.attention_mask == 1).all()
    seen = [row[row[:, 0] >= 0] for row in inputs.offsets]
    assert seen[0][0].tolist() == sentence.offsets[0].tolist()
    assert seen[-1][-1].tolist() == sentence.offsets[-1].tolist()
    for before, after in pairwise(seen):
        assert (before[:, 0] >= after[0, 0]).sum() >= reader.WINDOW_OVERLAP_TOKENS
    assert {int(a) for row in seen for a in row[:, 0]} == {int(a) for a in sentence.offsets[:n, 0]}


@pytest.mark.parametrize("n_words", [300, 440, 441, 460, 510, 600])
@pytest.mark.parametrize("question", ["Who", QUESTION, "why " * 400])
def test_never_more_than_512_tokens(n_words: int, question: str) -> None:
    inputs = READER.inputs(question, READER.sentence("virus " * n_words))
    assert inputs.input_ids.shape[1] <= 512
    assert (inputs.input_ids[:, -1] == SEP).all()


def test_a_long_question_keeps_64_tokens() -> None:
    assert len(READER.question_ids("why " * 100)) == reader.MAX_QUESTION_TOKENS


def test_errors_say_why() -> None:
    sentence = READER.sentence("Children carry it.")
    with pytest.raises(tokenizers.TextError, match="no words"):
        READER.inputs("  ", sentence)
    with pytest.raises(tokenizers.TextError, match="1000000 characters"):
        READER.inputs("x" * 1_000_000, sentence)
    with pytest.raises(tokenizers.TextError, match="sentence has no words"):
        READER.inputs(QUESTION, READER.sentence(" "))
    with pytest.raises(tokenizers.TextError, match="too many"):
        READER.inputs(QUESTION, READER.sentence("virus " * 30_000))


def test_a_model_without_a_tokenizer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYMISS_MODEL", "someone/some-model")
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"models export --model someone/some-model"):
        reader.default_reader.__wrapped__()


def test_special_tokens_in_a_text_are_no_separators() -> None:
    """A question that spells [SEP] must not end the question."""
    inputs = READER.inputs("what is [SEP] here", READER.sentence("Children [CLS] carry it."))
    assert inputs.input_ids[0].tolist().count(SEP) == 2
    assert inputs.input_ids[0].tolist().count(CLS) == 1


def logits_for(inputs: reader.Inputs, window: int, token: int, height: float) -> np.ndarray:
    """Zero everywhere but for one token of one window."""
    made = np.zeros(inputs.input_ids.shape, np.float32)
    made[window, token] = height
    return made


def test_the_answer_is_cut_from_the_text_as_written() -> None:
    sentence = READER.sentence("In  Wuhan,CHINA (2019) the Virus spread.")
    inputs = READER.inputs("Where?", sentence)
    starts, ends = inputs.offsets[0][:, 0].tolist(), inputs.offsets[0][:, 1].tolist()
    first, last = starts.index(4), ends.index(15)
    found = READER.answer(sentence, inputs, logits_for(inputs, 0, first, 9), logits_for(inputs, 0, last, 9))
    assert (found.text, found.start, found.end) == ("Wuhan,CHINA", 4, 15)


def test_the_best_window_answers() -> None:
    sentence = READER.sentence(words(900) + " Berlin")
    inputs = READER.inputs("Where?", sentence)
    last = len(inputs.input_ids) - 1
    token = inputs.offsets[last][:, 0].tolist().index(len(sentence.text) - len("Berlin"))
    high = logits_for(inputs, last, token, 9)
    for calibration in (None, Calibration(1.0, 0.0)):
        found = Reader(tokenizers.tokenizer_from(tokenizer_json(), "x"), calibration).answer(
            sentence, inputs, high, high
        )
        assert found.text == "Berlin"


def test_a_window_that_is_sure_of_no_answer_loses() -> None:
    """Calibrated, what counts is how far a span is above "no answer" in its own window."""
    sentence = READER.sentence(words(700))
    inputs = READER.inputs("Where?", sentence)
    token = int(np.flatnonzero(inputs.offsets[0][:, 0] >= 0)[3])
    logits = (
        logits_for(inputs, 0, token, 9) + logits_for(inputs, 0, 0, 20) + logits_for(inputs, 1, token + 1, 5)
    )
    calibrated = Reader(tokenizers.tokenizer_from(tokenizer_json(), "x"), Calibration(0.5, 0.0))
    found = calibrated.answer(sentence, inputs, logits, logits)
    assert found.margin == pytest.approx(10.0)
    assert found.score == pytest.approx(1 / (1 + np.exp(-5)))


def test_relevance_is_part_of_a_score_that_is_made_of_both() -> None:
    """Of two windows with the same margin the more relevant one gives the answer."""
    sentence = READER.sentence(words(700))
    inputs = READER.inputs("Where?", sentence)
    first = int(np.flatnonzero(inputs.offsets[0][:, 0] >= 0)[3])
    logits = logits_for(inputs, 0, first, 5) + logits_for(inputs, 1, first, 5)
    calibrated = Reader(tokenizers.tokenizer_from(tokenizer_json(), "x"), Calibration(0.5, -1.0, 0.25))
    told = np.full(len(inputs.input_ids), -8.0)
    told[1] = 4.0
    found = calibrated.answer(sentence, inputs, logits, logits, told)
    assert found.start == inputs.offsets[1][first][0]
    assert found.score == pytest.approx(1 / (1 + np.exp(-(0.5 * 10 + 0.25 * 4 - 1))))
    with pytest.raises(ValueError, match="relevance too, which is not given"):
        calibrated.answer(sentence, inputs, logits, logits)
    with pytest.raises(ValueError, match="windows"):
        calibrated.answer(sentence, inputs, logits, logits, told[:1])


def test_windows_run_in_groups() -> None:
    inputs = READER.inputs(QUESTION, READER.sentence(words(9000)))
    parts = list(inputs.runs())
    assert max(len(part.input_ids) for part in parts) == reader.WINDOWS_A_RUN
    assert np.array_equal(np.concatenate([part.offsets for part in parts]), inputs.offsets)


def test_logits_that_do_not_fit_are_an_error() -> None:
    sentence = READER.sentence("Children carry it.")
    inputs = READER.inputs(QUESTION, sentence)
    with pytest.raises(ValueError, match="logits"):
        READER.answer(sentence, inputs, np.zeros((1, 3)), np.zeros((1, 3)))


@pytest.mark.parametrize("margin", [-2000.0, -3.0, 0.0, 3.0, 2000.0])
def test_a_probability_whatever_the_margin(margin: float) -> None:
    assert 0 <= Calibration(2.0, 1.0).probability(margin) <= 1
    assert Calibration(2.0, -6.0).probability(3.0) == pytest.approx(0.5)


def tokenizer_json() -> str:
    return (PROJECT / "models" / "reader" / "tokenizer.json").read_text()


def test_what_a_model_says_of_itself_comes_back() -> None:
    about = About("a/b", "float32", tokenizer_json(), 30522, 512, Calibration(0.5, -1.25, 0.125))
    assert About.from_json(about.to_json()) == about
    assert Reader.of(about).calibration == Calibration(0.5, -1.25, 0.125)
    assert Reader.of(about).sentence("Children carry it.").ids[-1] == SEP


def test_a_model_of_fewer_tokens_gets_shorter_windows() -> None:
    short = Reader.of(About("a/b", "float32", tokenizer_json(), 30522, 64))
    assert short.inputs(QUESTION, short.sentence(words(100))).input_ids.shape[1] == 64
    with pytest.raises(tokenizers.TextError, match="leaves no room"):
        short.inputs("why " * 64, short.sentence(words(100)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "format unknown"),
        ('{"format": 1, "calibration": null}', "cannot be read"),
        ('{"format": 1, "calibration": {"scale": -1, "shift": 0}}', "not a calibration"),
    ],
)
def test_what_a_broken_file_says_of_itself(given: str, why: str) -> None:
    with pytest.raises(tokenizers.TextError, match=why):
        About.from_json(given)


def test_a_tokenizer_that_is_none() -> None:
    with pytest.raises(tokenizers.TextError, match="x has no tokenizer"):
        tokenizers.tokenizer_from("{}", "x")
