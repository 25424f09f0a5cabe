"""The split reader: its halves alone give what one run with a mask of two blocks gives, Hugging Face's
too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, BertForSequenceClassification

from keymiss.models import split_reader
from keymiss.models.by_model import logits_of, open_model
from keymiss.models.by_split import SplitModel
from keymiss.models.export import SPLIT_KEY, is_split
from keymiss.models.split_reader import TEXT_POSITION, SplitReader, SplitReaderError
from keymiss.reading.tensors import Tensor
from tests.unit.test_export import small

QUESTION = torch.tensor([[101, 2043, 2001, 1996, 2958, 2441, 102]])
TEXT = torch.tensor([[1996, 2958, 2001, 2441, 1999, 6130, 1012, 102]])


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder with one relevance logit."""
    folder = tmp_path_factory.mktemp("cross-encoder")
    return small(folder, BertForSequenceClassification, num_labels=1, num_hidden_layers=3)


@pytest.fixture(scope="module")
def model(start: Path) -> SplitReader:
    made = split_reader.load(start, 2).eval()
    torch.nn.init.normal_(made.span.weight, generator=torch.Generator().manual_seed(5))  # so that it tells
    return made


def same(some: tuple[torch.Tensor, ...], others: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.allclose(one, other, atol=1e-5) for one, other in zip(some, others, strict=True))


@torch.inference_mode()
def test_halves_run_alone_give_what_the_joint_run_gives(model: SplitReader) -> None:
    halves = model.upper(model.lower(QUESTION, text=False), model.lower(TEXT, text=True))
    assert same(halves, model.joint(QUESTION, TEXT))
    assert halves[0].shape == (1, QUESTION.shape[1] + TEXT.shape[1])


@torch.inference_mode()
def test_the_halves_would_differ_with_full_attention(start: Path, model: SplitReader) -> None:
    """So the test before says something."""
    whole = split_reader.load(start, 0).eval()
    whole.load_state_dict(model.state_dict())
    assert not same(whole(QUESTION, TEXT), model(QUESTION, TEXT))


@torch.inference_mode()
def test_hugging_faces_layers_with_a_mask_give_the_same(
    start: Path, model: SplitReader, tmp_path: Path
) -> None:
    split_reader.save(model, tmp_path, start, torch.float32)
    theirs = BertForQuestionAnswering.from_pretrained(tmp_path, attn_implementation="eager").eval()
    first, ids = QUESTION.shape[1], torch.cat((QUESTION, TEXT), 1)
    of_text = (torch.arange(ids.shape[1]) >= first).long()
    places = torch.where(
        of_text == 1, torch.arange(ids.shape[1]) - first + TEXT_POSITION, torch.arange(ids.shape[1])
    )
    states = theirs.bert.embeddings(input_ids=ids, token_type_ids=of_text[None], position_ids=places[None])
    apart = torch.zeros(len(of_text), len(of_text)).masked_fill(of_text[:, None] != of_text, float("-inf"))
    for number, layer in enumerate(theirs.bert.encoder.layer):
        out = layer(states, attention_mask=apart[None, None] if number < model.shape.split else None)
        states = out[0] if isinstance(out, tuple) else out
    logits = theirs.qa_outputs(states)
    assert same((logits[..., 0], logits[..., 1]), model(QUESTION, TEXT)[:2])


@torch.inference_mode()
def test_without_a_split_it_is_the_cross_encoder(start: Path) -> None:
    """Its relevance is kept: for a question as long as a text's first position, the same as Hugging
    Face's."""
    whole = split_reader.load(start, 0).eval()
    theirs = BertForSequenceClassification.from_pretrained(start).eval()
    question = torch.full((1, TEXT_POSITION), 2003)
    ids = torch.cat((question, TEXT), 1)
    types = (torch.arange(ids.shape[1]) >= TEXT_POSITION).long()[None]
    relevance = whole(question, TEXT)[2]
    assert relevance.item() == pytest.approx(
        theirs(input_ids=ids, token_type_ids=types).logits.item(), abs=1e-5
    )


@torch.inference_mode()
def test_padding_changes_nothing(model: SplitReader) -> None:
    def padded(ids: torch.Tensor, more: int) -> tuple[torch.Tensor, torch.Tensor]:
        wide = torch.nn.functional.pad(ids, (0, more))
        return wide, torch.arange(wide.shape[1])[None] < ids.shape[1]

    (question, question_mask), (text, text_mask) = padded(QUESTION, 0), padded(TEXT, 4)
    alone, wide = model(QUESTION, TEXT), model(question, text, question_mask, text_mask)
    assert same(tuple(one[:, :15] for one in alone[:2]), tuple(one[:, :15] for one in wide[:2]))
    assert same(alone[2:], wide[2:])
    states, wider = model.lower(TEXT, text=True), model.lower(text, True, text_mask)
    assert torch.allclose(states, wider[:, : TEXT.shape[1]], atol=1e-5)


def test_saved_and_loaded_it_reads_the_same(start: Path, model: SplitReader, tmp_path: Path) -> None:
    split_reader.save(model, tmp_path, start)
    assert is_split(tmp_path)
    assert not is_split(start)
    assert json.loads((tmp_path / "config.json").read_text())[SPLIT_KEY] == 2
    again = split_reader.load(tmp_path)
    assert again.shape == model.shape
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.half().float()), name


def test_new_weights_are_decided_by_the_seed(start: Path) -> None:
    one, other, third = (split_reader.load(start, 2, seed).span.weight for seed in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


def test_read_as_a_whole_one_is(start: Path, model: SplitReader, tmp_path: Path) -> None:
    """`models.evaluate` opens it, puts `[CLS] question [SEP] text [SEP]` to it, and finds a span of the
    text."""
    split_reader.save(model, tmp_path, start)
    opened, reader = open_model(str(tmp_path))
    assert isinstance(opened, SplitModel)
    sentence = reader.sentence("The bridge was opened in Basel.")
    inputs = reader.inputs("When was the bridge opened?", sentence)
    assert inputs.input_ids.shape[1] == 8 + 8
    arrays = (inputs.input_ids, inputs.attention_mask, inputs.token_type_ids)
    start_logits, end_logits, relevance = (one.array for one in opened.run([Tensor(one) for one in arrays]))
    assert relevance.shape == (1,)
    assert reader.answer(sentence, inputs, start_logits, end_logits).text in sentence.text


@pytest.mark.parametrize("question", ["Who?", " ".join(["word"] * 60)])
def test_the_longest_text_has_a_position_for_every_token(start: Path, tmp_path: Path, question: str) -> None:
    split_reader.save(split_reader.load(start, 2), tmp_path, start)
    opened, reader = open_model(str(tmp_path))
    inputs = reader.inputs(question, reader.sentence(" ".join(["word"] * 700)))
    assert len(inputs.input_ids) > 1
    assert logits_of(opened, inputs)[0].shape == inputs.input_ids.shape


def test_a_packed_one_reads_nearly_the_same_with_a_third_of_the_bytes(start: Path, tmp_path: Path) -> None:
    model = split_reader.load(start, 2).eval()
    split_reader.save(model, tmp_path / "whole", start)
    split_reader.save(model, tmp_path / "packed", start, packed=True)
    again = split_reader.load(tmp_path / "packed").eval()
    assert torch.equal(again.words.weight, model.words.weight)
    with torch.inference_mode():
        for ours, theirs in zip(again(QUESTION, TEXT), model(QUESTION, TEXT), strict=True):
            assert torch.allclose(ours, theirs, atol=0.02)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("packed", "whole")]
    assert sizes[0] < sizes[1] / 3
    config = tmp_path / "packed" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"words_of": "nowhere"}))
    with pytest.raises(SplitReaderError, match="nowhere"):
        split_reader.load(tmp_path / "packed")


def test_a_whole_reader_keeps_its_spans_and_gets_a_relevance_by_the_seed(tmp_path: Path) -> None:
    small(tmp_path, BertForQuestionAnswering)
    whole = BertForQuestionAnswering.from_pretrained(tmp_path)
    one, again, other = (split_reader.load(tmp_path, 1, seed) for seed in (1, 1, 2))
    assert torch.equal(one.span.weight, whole.qa_outputs.weight)
    assert torch.equal(one.relevance.weight, again.relevance.weight)
    assert not torch.equal(one.pooler.weight, other.pooler.weight)


def test_what_is_no_split_reader_says_why(start: Path, tmp_path: Path) -> None:
    with pytest.raises(SplitReaderError, match=SPLIT_KEY):
        split_reader.load(start)
    with pytest.raises(SplitReaderError, match="at layer 3 of 3"):
        split_reader.load(start, 3)
    with pytest.raises(SplitReaderError, match=r"config\.json"):
        split_reader.load(tmp_path)
    small(tmp_path, BertForQuestionAnswering)
    BertConfig(hidden_act="relu").save_pretrained(tmp_path)
    with pytest.raises(SplitReaderError, match="GELU"):
        split_reader.load(tmp_path, 1)
