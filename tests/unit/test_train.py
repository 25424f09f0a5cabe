"""The training script on a tiny encoder: it learns, stops, goes on with the same result, and refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from keymiss.models import squad, train
from keymiss.resources import PROJECT

TOPICS = (
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
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(1)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder)
    shutil.copy(PROJECT / "models" / "reader" / "tokenizer.json", folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve articles of one paragraph; the year is asked."""
    articles = []
    for number, name in enumerate(TOPICS):
        year = str(1900 + number)
        context = (
            f"{name} is a city. The bridge of {name} was opened in {year}. People like it. Trams run there."
        )
        asked = {"id": name, "question": f"When was the bridge of {name} opened?"}
        asked["answers"] = [{"text": year, "answer_start": context.index(year)}]  # type: ignore[assignment]
        articles.append({"title": name, "paragraphs": [{"context": context, "qas": [asked]}]})
    path = tmp_path_factory.mktemp("data") / "cities.json"
    path.write_text(json.dumps({"data": articles}))
    return path


def run(encoder: Path, data: Path, out: Path, *more: str) -> int:
    return train.main([str(data), "--encoder", str(encoder), "--out", str(out), "--device", "cpu", *more])


def weights(out: Path) -> dict[str, Any]:
    return load_file(out / "reader" / "model.safetensors")


def test_learns_and_writes_a_reader(
    encoder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(encoder, data, tmp_path, "--steps", "12", "--learning-rate", "3e-3", "--every", "4") == 0
    said = capsys.readouterr().out
    losses = [float(line.split("loss ")[1].split(";")[0]) for line in said.splitlines() if "step " in line]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    made = weights(tmp_path)
    assert made["qa_outputs.weight"].dtype == torch.float16
    assert (tmp_path / "reader" / "tokenizer.json").is_file()
    assert json.loads((tmp_path / "reader" / "config.json").read_text())["num_hidden_layers"] == 2


def test_stopped_and_gone_on_gives_the_same_weights(
    encoder: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(encoder, data, tmp_path / "whole", "--steps", "6") == 0
    step = train.Trainer.train

    def stops_at_3(self: train.Trainer, *given: Any) -> float:
        loss = step(self, *given)
        if self.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return loss

    with monkeypatch.context() as patched:
        patched.setattr(train.Trainer, "train", stops_at_3)
        assert run(encoder, data, tmp_path / "parts", "--steps", "6") == 1
    assert "stopped at step 3" in capsys.readouterr().err
    assert run(encoder, data, tmp_path / "parts", "--steps", "6") == 0
    assert "going on from step 3" in capsys.readouterr().out
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_another_training_is_not_gone_on_with(
    encoder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(encoder, data, tmp_path, "--steps", "1") == 0
    assert run(encoder, data, tmp_path, "--steps", "2", "--seed", "21") == 1
    assert "other settings or data" in capsys.readouterr().err


def test_held_out_articles_are_not_trained_on(data: Path) -> None:
    sources, _ = train.read_sources([data])
    parts = squad.split(squad.read(data))
    trained = {paragraph.context for paragraph, _ in sources[0].pairs}
    assert trained == {paragraph.context for article in parts.train for paragraph in article}
    assert not trained & {p.context for article in parts.held_out + parts.calibration for p in article}
    assert len(trained) == 11


def test_a_held_out_context_in_another_file_is_refused(data: Path, tmp_path: Path) -> None:
    """The same article falls into another part beside articles that come before it."""
    held_out = squad.split(squad.read(data)).held_out[0][0].context
    articles = json.loads(data.read_text())["data"]
    kept = [article for article in articles if article["paragraphs"][0]["context"] == held_out]

    def place(context: str) -> bytes:
        return hashlib.sha256(context.encode()).digest()

    before = [c for n in range(2000) if place(c := f"{n} filler") < place(held_out)][:9]
    assert len(before) == 9
    copy = tmp_path / "copy.json"
    fillers = [{"paragraphs": [{"context": context, "qas": []}]} for context in before]
    copy.write_text(json.dumps({"data": [*kept, *fillers]}))
    with pytest.raises(train.TrainError, match="1 held-out contexts"):
        train.read_sources([data, copy])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--encoder", "no/such"], "no folder with a Hugging Face model"),
        (["no.json"], "No such file"),
        (["--out", "/proc/none"], "/proc/none"),
    ],
)
def test_what_cannot_begin_says_why(
    encoder: Path, data: Path, tmp_path: Path, given: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(encoder, data, tmp_path, *given) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--steps", "--every"])
def test_a_number_below_1_is_wrong_use(encoder: Path, data: Path, tmp_path: Path, option: str) -> None:
    assert run(encoder, data, tmp_path, option, "0") == 2


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = train.Settings(warmup_share=0.1, decay_share=0.4)
    rates = [train.rate_at(step, 100, settings) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:60] == [1.0] * 50
    assert rates[60] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 40)


def test_tokens_outside_the_text_get_nothing() -> None:
    """Whatever the logits of question and padding, the loss does not change."""

    class Logits(torch.nn.Module):
        def forward(self, input_ids: Any, **_: Any) -> Any:
            both = torch.zeros(input_ids.shape)
            both[:, 1] = float(input_ids[0, 1])
            return type("Out", (), {"start_logits": both, "end_logits": both})

    losses = []
    for height in (0, 500):
        ids = torch.tensor([[101, height, 102, 5, 6, 102]])
        allowed = torch.tensor([[True, False, False, True, True, False]])
        wanted = torch.tensor([[0.0, 0, 0, 0.5, 0.5, 0]])
        batch = {"ids": ids, "mask": ids, "types": ids, "starts": wanted, "ends": wanted, "allowed": allowed}
        losses.append(float(train.loss_of(Logits(), batch)))
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] == pytest.approx(float(torch.log(torch.tensor(3.0))))
