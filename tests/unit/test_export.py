"""The export: eager's logits for batches of any size and length; quick the second time; clear errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForQuestionAnswering

from keymiss import text
from models import export as exporting
from models.load import LoadError, check_model

READER = text.ROOT / "models" / "reader"


def small(folder: Path, kind: type[Any] = BertForQuestionAnswering, **changes: Any) -> Path:
    """A tiny untrained BERT with the reader's tokenizer."""
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    kind(BertConfig(vocab_size=30522, **(sizes | changes))).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(READER / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The embedded reader: eager, and exported and read back."""
    made, new = exporting.export(str(READER), tmp_path_factory.mktemp("export") / "reader.pt")
    assert new
    check_model(made)
    return exporting.load_eager(READER), exporting.read_back(made.path)


@pytest.mark.parametrize("batch", range(1, 9))
@pytest.mark.parametrize("seq", [8, 45, 128])
def test_reader_equals_eager(reader: tuple[Any, Any], batch: int, seq: int) -> None:
    assert exporting.compare(*reader, batch, seq) < exporting.TOLERANCE


@pytest.mark.parametrize(("batch", "seq"), [(1, 384), (8, 384), (2, 512), (1, 1)])
def test_reader_equals_eager_when_long(reader: tuple[Any, Any], batch: int, seq: int) -> None:
    assert exporting.compare(*reader, batch, seq) < exporting.TOLERANCE


def test_padding_changes_nothing(reader: tuple[Any, Any]) -> None:
    """A row gives the same logits alone and padded among longer rows."""
    ids, mask, types = exporting.dummy_inputs(4, 90, 30522)
    mask[0, 30:] = 0
    with torch.no_grad():
        together = reader[1](ids * mask, mask, types * mask)
        alone = reader[1](ids[:1, :30], mask[:1, :30], types[:1, :30])
    for a, b in zip(together, alone, strict=True):
        assert (a[0, :30] - b[0]).abs().max() < exporting.TOLERANCE


def test_second_export_does_nothing_until_the_source_changes(tmp_path: Path) -> None:
    folder, out = small(tmp_path / "small"), tmp_path / "out" / "small.pt"
    first, new = exporting.export(str(folder), out)
    assert new
    assert json.loads(out.with_suffix(".json").read_text())["sha256"] == first.sha256
    assert out.with_suffix(".tokenizer.json").read_bytes() == (READER / "tokenizer.json").read_bytes()
    assert exporting.export(str(folder), out) == (first, False)
    out.write_bytes(out.read_bytes()[:-1] + b"x")
    assert exporting.export(str(folder), out)[1], "a damaged export is made again"
    small(folder, num_hidden_layers=1)
    assert exporting.export(str(folder), out)[1], "other source files are exported again"


def test_says_which_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert exporting.main(["--model", str(small(tmp_path / "mine")), "--out", str(tmp_path / "m.pt")]) == 0
    assert f"model: {tmp_path / 'mine'}: local folder" in capsys.readouterr().out


def test_a_hub_name_out_of_reach_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert exporting.main(["--model", "nobody/no-such-model", "--out", str(tmp_path / "x.pt")]) == 1
    said = capsys.readouterr()
    assert "nobody/no-such-model" in said.err
    assert "--model <folder>" in said.err
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_answer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(exporting.ExportError, match="no folder"):
        exporting.export("./not/here", tmp_path / "x.pt")
    with pytest.raises(exporting.ExportError, match=r"without config\.json"):
        exporting.export(str(tmp_path), tmp_path / "x.pt")
    with pytest.raises(exporting.ExportError, match="not trained to answer"):
        exporting.export(str(small(tmp_path / "mlm", BertForMaskedLM)), tmp_path / "x.pt")
    with pytest.raises(exporting.ExportError, match="takes 128 tokens"):
        exporting.export(str(small(tmp_path / "short", max_position_embeddings=128)), tmp_path / "x.pt")


def test_a_torchscript_that_is_no_reader_is_not_loaded(tmp_path: Path) -> None:
    made, _ = exporting.export(str(small(tmp_path / "small")), tmp_path / "small.pt")

    class One(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return ids + mask + types

    with exporting.no_warnings():
        torch.jit.save(torch.jit.trace(One(), exporting.dummy_inputs(1, 8, 100)), made.path)
    with pytest.raises(LoadError, match="two outputs"):
        check_model(made)
    Path(made.path).write_bytes(b"no model")
    with pytest.raises(LoadError, match="cannot be run"):
        check_model(made)
