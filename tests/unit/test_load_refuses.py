"""models.load refuses, in one sentence and before it asks any server, what the worker could not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from keymiss.models import load
from keymiss.models.forms import dummy_inputs, quiet
from keymiss.reading.reader import About

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "which",
    "river",
    "flows",
    "through",
    "the",
    "main",
    "frankfurt",
    "?",
]
VOCAB = 20


def tokenizer(words: list[str]) -> str:
    made = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    return made.to_str()


ABOUT = About("tiny", "float32", tokenizer(WORDS), VOCAB, 512)


class Tiny(torch.nn.Module):
    """Not a BERT, but what is asked of one; `say` changes what it gives."""

    def __init__(self, say: Callable[..., Any] = lambda start, end: (start, end)) -> None:
        super().__init__()
        self.words, self.places, self.say = torch.nn.Embedding(VOCAB, 2), torch.nn.Embedding(512, 2), say

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
        logits = self.words(ids) + self.places(torch.arange(ids.size(1))) + types[..., None] - mask[..., None]
        return self.say(logits[..., 0], logits[..., 1])


class TwoInputs(Tiny):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> Any:  # type: ignore[override]
        return super().forward(ids, mask, mask)


class FloatInputs(Tiny):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> Any:
        return tuple(torch.nn.functional.linear(one, torch.eye(one.size(1))) for one in (ids, mask))


def scripted(path: Path, module: torch.nn.Module, about: str | None, inputs: Any = None) -> Path:
    torch.manual_seed(0)
    with quiet():
        traced = torch.jit.trace(module.eval(), inputs or dummy_inputs(2, 17, VOCAB), strict=False)
        torch.jit.save(traced, str(path), _extra_files={} if about is None else {"keymiss.json": about})
    return path


def graph(path: Path, about: str | None, outputs: tuple[tuple[str, int], ...] = (("a", 1), ("b", 1))) -> Path:
    """An ONNX model of casts: its outputs are its inputs, as (name, type)."""
    h, shape = onnx.helper, ["batch", "seq"]
    ins = [h.make_tensor_value_info(name, 7, shape) for name in ("ids", "mask", "types")]
    outs = [h.make_tensor_value_info(name, kind, shape) for name, kind in outputs]
    nodes = [h.make_node("Cast", ["ids"], [name], to=kind) for name, kind in outputs]
    opset = [h.make_opsetid("", 18)]
    made = h.make_model(h.make_graph(nodes, "casts", ins, outs), opset_imports=opset, ir_version=10)
    if about is not None:
        h.set_model_props(made, {"keymiss": about})
    path.write_bytes(made.SerializeToString())
    return path


def refusal(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """What keymiss.models.load says; were the file not refused, the cluster that is not there would be."""
    assert load.main(["--model", str(path), "--nodes", "127.0.0.1:1", *more]) == 1
    said = capsys.readouterr().err
    assert said.startswith("keymiss models load: ")
    assert said.count("\n") == 1, "one line"
    assert "no cluster" not in said
    return said


def test_good_files_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = load.check_file(scripted(tmp_path / "good.pt", Tiny(), ABOUT.to_json()))
    assert (checked.backend, checked.blob) == ("TORCH", (tmp_path / "good.pt").read_bytes())
    assert load.check_file(graph(tmp_path / "good.onnx", ABOUT.to_json())).backend == "ONNX"
    assert load.main(["--model", str(tmp_path / "good.pt"), "--nodes", "127.0.0.1:1"]) == 1
    assert "no cluster at 127.0.0.1:1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "blob", "text"),
    [
        ("x.pt", b"", "not a TorchScript model"),
        ("x.pt", b"no model at all", "not a TorchScript model"),
        ("x.pt", b"PK\x03\x04" + bytes(64), "not a TorchScript model"),
        ("x.onnx", b"", "not an ONNX model"),
        ("x.onnx", b"no model at all", "not an ONNX model"),
        ("x.bin", b"x", "neither TorchScript (.pt) nor ONNX (.onnx) by its name"),
    ],
)
def test_no_models(
    name: str, blob: bytes, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(blob)
    assert text in refusal(tmp_path / name, capsys)


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "none.onnx", capsys)


def test_weights_without_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Tiny().state_dict(), tmp_path / "weights.pt")
    assert "not a TorchScript model" in refusal(tmp_path / "weights.pt", capsys)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["x.pt", "x.onnx"])
def test_truncated_files(name: str, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    if path.suffix == ".pt":
        scripted(path, Tiny(), ABOUT.to_json())
    else:
        graph(path, ABOUT.to_json())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    said = refusal(path, capsys)
    assert "not a TorchScript model" in said or "not an ONNX model" in said


def test_wrong_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids, mask, _ = dummy_inputs(2, 17, VOCAB)
    two = scripted(tmp_path / "two.pt", TwoInputs(), ABOUT.to_json(), (ids, mask))
    assert "the model run failed: " in refusal(two, capsys)
    floats = scripted(
        tmp_path / "floats.pt", FloatInputs(), ABOUT.to_json(), (ids.float(), mask.float(), mask.float())
    )
    assert "the model run failed: " in refusal(floats, capsys)
    made = onnx.load(str(graph(tmp_path / "two.onnx", ABOUT.to_json())))
    del made.graph.input[2]
    onnx.save(made, str(tmp_path / "two.onnx"))
    assert "it takes 2 inputs, got 3" in refusal(tmp_path / "two.onnx", capsys)
    made.graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info("types", 1, ["batch", "seq"]))
    onnx.save(made, str(tmp_path / "float.onnx"))
    assert "Unexpected input data type" in refusal(tmp_path / "float.onnx", capsys)


@pytest.mark.parametrize(
    ("say", "text"),
    [
        (lambda start, end: start, "two outputs, start and end logits, but 1"),
        (lambda start, end: (start, end, end), "two outputs, start and end logits, but 3"),
        (lambda start, end: (start, end[:, :4]), "end logits are (1, 4) for inputs (1, 8)"),
        (lambda start, end: (start[..., None], end), "start logits are (1, 8, 1)"),
        (lambda start, end: (start.double(), end), "start logits are DOUBLE, not FLOAT"),
        (lambda start, end: (start, end.long()), "end logits are INT64, not FLOAT"),
        (lambda start, end: (start, end / 0 * 0), "end logits are not finite"),
        (lambda start, end: (start + torch.zeros(1, 17), end), "the model run failed"),
        (lambda start, end: ({"a": start.to(torch.complex64)}, end), "cannot hold complex64"),
    ],
)
def test_wrong_outputs(
    say: Callable[..., Any], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refusal(scripted(tmp_path / "x.pt", Tiny(say), ABOUT.to_json()), capsys)


@pytest.mark.parametrize(
    ("outputs", "text"),
    [([("a", 1)], "but 1"), ([("a", 1), ("b", 7)], "INT64, not FLOAT"), ([("a", 11), ("b", 1)], "DOUBLE")],
)
def test_wrong_onnx_outputs(
    outputs: Any, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refusal(graph(tmp_path / "x.onnx", ABOUT.to_json(), outputs), capsys)


@pytest.mark.parametrize(
    ("about", "text"),
    [
        (None, "keymiss models export --model <folder>"),
        ("{", "keymiss.json is broken"),
        ('{"format": 2}', "format unknown to this version"),
        (replace(ABOUT, vocab_size=11).to_json(), "the tokenizer has 12 tokens, the model 11"),
        (replace(ABOUT, tokenizer=tokenizer(WORDS[:3])).to_json(), "has no [SEP]"),
        (replace(ABOUT, tokenizer="{}").to_json(), "no tokenizer that can be read"),
        (replace(ABOUT, vocab_size=VOCAB + 1).to_json(), "index out of range"),
    ],
)
def test_what_the_file_says_of_itself(
    about: str | None, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text in refusal(scripted(tmp_path / "x.pt", Tiny(), about), capsys)
    if "index" not in text:
        assert text in refusal(graph(tmp_path / "x.onnx", about), capsys)


def test_a_model_that_takes_fewer_tokens_than_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = Tiny()
    short.places = torch.nn.Embedding(100, 2)
    assert "index out of range" in refusal(scripted(tmp_path / "x.pt", short, ABOUT.to_json()), capsys)


def test_folders_that_are_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "without config.json" in refusal(tmp_path, capsys)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t-rex"}))
    assert "is not a question-answering model" in refusal(tmp_path, capsys, "--form", "onnx")


def test_a_form_is_for_what_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scripted(tmp_path / "x.pt", Tiny(), ABOUT.to_json())
    assert load.main(["--model", str(path), "--form", "onnx"]) == 2
    assert "--form is for a folder or a hub name" in capsys.readouterr().err
