"""Questions and sentences to model inputs: BERT's layout, its 512 tokens, character offsets."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from keymiss import text

CLS, SEP = 101, 102
QUESTION = "Who performs viral transmission among adults"


def words(count: int) -> str:
    return " ".join(f"virus{'' if i % 3 else ' spreads'}" for i in range(count))


def test_sentence_ids_end_with_sep() -> None:
    ids = text.sentence_ids("Children carry it.")
    assert ids.dtype == np.int64
    assert ids.ndim == 1
    assert ids[-1] == SEP
    assert CLS not in ids


def test_layout_of_a_short_pair() -> None:
    sentence = text.encode_sentence("Children carry it.")
    inputs = text.build_inputs(QUESTION, sentence)
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
    offsets = text.encode_sentence(context).offsets.tolist()
    cut = [context[a:b] for a, b in offsets]
    assert cut.count("coronaviridae") > 1  # each of its word pieces stands for the whole word
    assert {"Ärzte", "病", ";"} <= set(cut)
    assert not any(piece != piece.strip() or not piece for piece in cut)


def test_a_long_sentence_is_cut_in_windows_that_overlap() -> None:
    sentence = text.encode_sentence(words(900))
    n = len(sentence.ids) - 1
    inputs = text.build_inputs(QUESTION, sentence)
    windows, seq = inputs.input_ids.shape
    assert windows > 1
    assert seq == text.MAX_SEQUENCE_TOKENS
    assert (inputs.attention_mask == 1).all()
    seen = [row[row[:, 0] >= 0] for row in inputs.offsets]
    assert seen[0][0].tolist() == sentence.offsets[0].tolist()
    assert seen[-1][-1].tolist() == sentence.offsets[-1].tolist()
    for before, after in pairwise(seen):
        assert (before[:, 0] >= after[0, 0]).sum() >= text.WINDOW_OVERLAP_TOKENS
    assert {int(a) for row in seen for a in row[:, 0]} == {int(a) for a in sentence.offsets[:n, 0]}


@pytest.mark.parametrize("n_words", [300, 440, 441, 460, 510, 600])
@pytest.mark.parametrize("question", ["Who", QUESTION, "why " * 400])
def test_never_more_than_512_tokens(n_words: int, question: str) -> None:
    inputs = text.build_inputs(question, text.encode_sentence("virus " * n_words))
    assert inputs.input_ids.shape[1] <= 512
    assert (inputs.input_ids[:, -1] == SEP).all()


def test_a_long_question_keeps_64_tokens() -> None:
    assert len(text.question_ids("why " * 100)) == text.MAX_QUESTION_TOKENS


def test_errors_say_why() -> None:
    sentence = text.encode_sentence("Children carry it.")
    with pytest.raises(text.TextError, match="no words"):
        text.build_inputs("  ", sentence)
    with pytest.raises(text.TextError, match="1000000 characters"):
        text.build_inputs("x" * 1_000_000, sentence)
    with pytest.raises(text.TextError, match="sentence has no words"):
        text.build_inputs(QUESTION, text.encode_sentence(" "))
    with pytest.raises(text.TextError, match="too many"):
        text.build_inputs(QUESTION, text.encode_sentence("virus " * 20_000))


def test_a_model_without_a_tokenizer_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYMISS_MODEL", "someone/some-model")
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"models\.export --model someone/some-model"):
        text.tokenizer()


def test_special_tokens_in_a_text_are_no_separators() -> None:
    """A question that spells [SEP] must not end the question."""
    inputs = text.build_inputs("what is [SEP] here", text.encode_sentence("Children [CLS] carry it."))
    assert inputs.input_ids[0].tolist().count(SEP) == 2
    assert inputs.input_ids[0].tolist().count(CLS) == 1
