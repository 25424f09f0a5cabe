"""Training the split reader on a tiny cross-encoder: it learns, stops, goes on the same, cools down."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertForSequenceClassification

from keymiss.models import question_store, split_reader, train_split
from keymiss.models.export import load_eager
from keymiss.models.split_pairs import LOOSE, Batch, PairMaker, Stream, batch_of
from keymiss.models.split_steps import Making, Steps
from keymiss.models.train_split import Settings, cooling_rate, losses, steady_rate
from keymiss.reading import tokenizers
from tests.unit.test_export import small
from tests.unit.test_question_store import TOKENIZER, put_cities


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cross-encoder")
    return small(folder, BertForSequenceClassification, num_labels=1, num_hidden_layers=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put_cities(tmp_path_factory.mktemp("data") / "cities.json")


def run(phase: str, start: Path, data: Path, out: Path, *more: str) -> int:
    given = [phase, str(data), "--start", str(start), "--out", str(out), "--device", "cpu"]
    return train_split.main([*given, "--split", "2", "--passages", "4", *more])


def checkpoint(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)
    return found


def same_weights(one: Path, other: Path) -> bool:
    some, others = checkpoint(one)["model"], checkpoint(other)["model"]
    return all(torch.equal(some[name], others[name]) for name in some)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """As SIGTERM in that step would."""
    train = train_split.Trainer.train

    def stops(self: train_split.Trainer, *given: Any) -> tuple[float, float]:
        loss = train(self, *given)
        if self.step == step:
            signal.raise_signal(signal.SIGTERM)
        return loss

    monkeypatch.setattr(train_split.Trainer, "train", stops)


def test_it_learns_and_cools_down_to_a_reader(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("steady", start, data, tmp_path, "--steps", "40", "--learning-rate", "5e-3") == 0
    said = capsys.readouterr().out
    losses = [
        float(line.split("loss of spans ")[1].split(",")[0]) for line in said.splitlines() if "loss" in line
    ]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert run("cool-down", start, data, tmp_path, "--steps", "3", "--learning-rate", "5e-3") == 0
    assert checkpoint(tmp_path / "cool-down")["step"] == 43
    assert checkpoint(tmp_path)["step"] == 40
    reader = tmp_path / "cool-down" / "reader"
    assert json.loads((reader / "config.json").read_text())["split_layers"] == 2
    made = load_file(reader / "model.safetensors")
    assert made["qa_outputs.weight"].dtype == torch.float16
    assert split_reader.load(reader).shape.split == 2
    assert (reader / "tokenizer.json").is_file()


def test_a_checkpoint_is_written_as_a_reader(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("steady", start, data, tmp_path, "--steps", "2") == 0
    given = ["write", "--start", str(start), "--out", str(tmp_path / "reader"), "--checkpoint"]
    assert train_split.main([*given, str(tmp_path / "checkpoint.pt")]) == 0
    made = split_reader.load(tmp_path / "reader").state_dict()
    assert all(torch.equal(one, made[name].half().float()) for name, one in made.items())
    trained = checkpoint(tmp_path)["model"]
    assert all(torch.equal(trained[name].half().float(), made[name]) for name in made)
    assert train_split.main([*given, str(TOKENIZER)]) == 1
    assert "is no checkpoint" in capsys.readouterr().err


def test_a_reader_that_is_not_split_is_written_as_a_whole_one(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("0", "2"):
        assert run("steady", start, data, tmp_path / split, "--steps", "2", "--split", split) == 0
    given = ["write", "--whole", "--start", str(start), "--out", str(tmp_path / "reader"), "--checkpoint"]
    assert train_split.main([*given, str(tmp_path / "0" / "checkpoint.pt")]) == 0
    whole = load_eager(tmp_path / "reader")
    trained = split_reader.load(start, 0)
    trained.load_state_dict(checkpoint(tmp_path / "0")["model"])
    question, text = torch.arange(3, 3 + split_reader.TEXT_POSITION)[None], torch.arange(20, 29)[None]
    ids = torch.cat((question, text), 1)
    types = (torch.arange(ids.shape[1]) >= split_reader.TEXT_POSITION)[None].long()
    with torch.inference_mode():
        logits, wanted = whole(input_ids=ids, token_type_ids=types), trained(question, text)
    assert torch.allclose(logits.start_logits, wanted[0], atol=0.02)
    assert torch.allclose(logits.end_logits, wanted[1], atol=0.02)
    assert train_split.main([*given, str(tmp_path / "2" / "checkpoint.pt")]) == 1
    assert "a reader split at layer 2 is no whole one" in capsys.readouterr().err


def test_stopped_and_gone_on_gives_the_same_weights(
    start: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("steady", start, data, whole, "--steps", "6") == 0
    with monkeypatch.context() as patched:
        stop_at(patched, 3)
        assert run("steady", start, data, parts, "--steps", "6") == 1
    assert "stopped at step 3; the same command goes on" in capsys.readouterr().err
    assert checkpoint(parts)["step"] == 3
    assert run("steady", start, data, parts, "--steps", "6") == 0
    assert "going on from step 3" in capsys.readouterr().out
    assert same_weights(whole, parts)


def test_a_cool_down_stopped_and_gone_on_gives_the_same_weights(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        assert run("steady", start, data, out, "--steps", "2") == 0
    assert run("cool-down", start, data, whole, "--steps", "4") == 0
    with monkeypatch.context() as patched:
        stop_at(patched, 4)
        assert run("cool-down", start, data, parts, "--steps", "4") == 1
    assert run("cool-down", start, data, parts, "--steps", "4") == 0
    assert same_weights(whole / "cool-down", parts / "cool-down")


def test_checkpoints_are_copied(start: Path, data: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "out", tmp_path / "copy"
    given = ("--steps", "2", "--every-s", "0", "--copy", str(copy))
    assert run("steady", start, data, out, *given) == 0
    assert run("cool-down", start, data, out, *given) == 0
    for place in (".", "cool-down"):
        assert (copy / place / "checkpoint.pt").read_bytes() == (out / place / "checkpoint.pt").read_bytes()
    assert not list(copy.rglob("*.part"))


def test_one_thread_and_two_learn_the_same(start: Path, data: Path, tmp_path: Path) -> None:
    for threads in ("1", "2"):
        assert run("steady", start, data, tmp_path / threads, "--steps", "2", "--threads", threads) == 0
    some, others = (checkpoint(tmp_path / threads)["model"] for threads in ("1", "2"))
    assert all(torch.allclose(some[name], others[name], atol=1e-4) for name in some)


def test_a_reader_that_is_taught_learns_what_its_teacher_says(
    start: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--steps", "2", "--split", "0")
    assert run("steady", start, data, tmp_path / "whole", *given) == 0
    write = ["write", "--start", str(start), "--out", str(tmp_path / "teacher"), "--checkpoint"]
    assert train_split.main([*write, str(tmp_path / "whole" / "checkpoint.pt")]) == 0
    teacher = split_reader.load(tmp_path / "teacher").eval()
    assert teacher.shape.split == 0
    model = split_reader.load(start, 2)
    store = question_store.build([data], tokenizers.load_tokenizer(TOKENIZER), 3, lambda _: None)
    pairs = PairMaker(store, 101, 102).of_step(*Stream(store, 5, 1).drawn({"cities": 1.0}))
    batch = batch_of([pair for group in pairs for pair in group])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    apart = []
    monkeypatch.setattr(train_split, "TAUGHT", 1.0)
    for _ in range(30):
        ours, theirs = (train_split.outputs_of(one, batch, "cpu") for one in (model, teacher))
        apart.append(float((ours[0][0] - theirs[0][0])[ours[0][0] > -1e3].square().mean().detach()))
        optimizer.zero_grad()
        sum(losses(model, batch, "cpu", teacher)).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert apart[-1] < apart[0]
    taught = ("--steps", "2", "--teacher", str(tmp_path / "teacher"))
    assert run("steady", start, data, tmp_path / "taught", *taught) == 0
    assert not same_weights(tmp_path / "taught", tmp_path / "whole")


def arrays_of(batch: Batch) -> list[bytes]:
    parts = (*batch.questions, *batch.texts, *batch.reads)
    return [array.tobytes() for part in parts for array in vars(part).values()]


def test_steps_made_in_other_processes_are_the_same(data: Path, tmp_path: Path) -> None:
    store = question_store.build([data], tokenizers.load_tokenizer(TOKENIZER), 3, lambda _: None)
    store.save(tmp_path / "store.npz")
    making = Making(tmp_path / "store.npz", (101, 102), 2, LOOSE)
    made = []
    for processes in (0, 2):
        steps = Steps(making, store, Stream(store, 5, 1), processes)
        made.append([arrays_of(batch) for step in steps.taken({"cities": 1.0}, 9) for batch in step.batches])
        steps.close()
    assert len(made[0]) == 18
    assert made[0] == made[1]


def test_dropout_learns_the_same_again(start: Path, data: Path, tmp_path: Path) -> None:
    for place, share in (("one", "0.1"), ("again", "0.1"), ("without", "0")):
        given = ("--steps", "2", "--threads", "1", "--dropout", share)
        assert run("steady", start, data, tmp_path / place, *given) == 0
    assert same_weights(tmp_path / "one", tmp_path / "again")
    assert not same_weights(tmp_path / "one", tmp_path / "without")


def test_word_embeddings_stay_and_all_else_is_trained(start: Path, data: Path, tmp_path: Path) -> None:
    assert run("steady", start, data, tmp_path, "--steps", "2") == 0
    before, after = split_reader.load(start, 2, seed=20).state_dict(), checkpoint(tmp_path)["model"]
    assert {name for name in after if torch.equal(before[name], after[name])} == {"words.weight"}


def test_the_loss_of_a_batch_is_that_of_its_pairs_read_alone(start: Path, data: Path) -> None:
    """Sharing halves, buckets and padding change nothing."""
    store = question_store.build([data], tokenizers.load_tokenizer(TOKENIZER), 3, lambda _: None)
    drawn = Stream(store, 5, 1).drawn({"cities": 1.0})
    pairs = [pair for group in PairMaker(store, 101, 102).of_step(*drawn) for pair in group]
    model = split_reader.load(start, 2)
    together = losses(model, batch_of(pairs), "cpu")
    alone = [losses(model, batch_of([pair]), "cpu") for pair in pairs]
    for number in (0, 1):
        assert float(together[number].detach()) == pytest.approx(
            sum(float(one[number].detach()) for one in alone), rel=1e-4
        )


def test_a_checkpoint_of_another_training_is_not_gone_on_with(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("steady", start, data, tmp_path, "--steps", "1") == 0
    assert run("steady", start, data, tmp_path, "--steps", "2", "--learning-rate", "1e-5") == 1
    assert "other settings or data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--start", "no/such"], "no/such"),
        (["no.json"], "No such file"),
        (["--split", "3"], "a split at layer 3 of 3"),
        (["--out", "/proc/none"], "/proc/none"),
    ],
)
def test_what_cannot_begin_says_why(
    start: Path, data: Path, tmp_path: Path, given: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("steady", start, data, tmp_path, *given) == 1
    assert why in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--steps", "--threads", "--passages"])
def test_a_number_below_1_is_wrong_use(start: Path, data: Path, tmp_path: Path, option: str) -> None:
    assert run("steady", start, data, tmp_path, option, "0") == 2


def test_there_is_nothing_to_cool_down(
    start: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cool-down", start, data, tmp_path) == 1
    assert "train with `steady` first" in capsys.readouterr().err


def test_rates() -> None:
    settings = Settings(warmup_steps=4)
    assert [steady_rate(step, settings) for step in (0, 1, 3, 4, 900)] == [0.25, 0.5, 1, 1, 1]
    assert [cooling_rate(done, 4) for done in range(5)] == [1, 0.75, 0.5, 0.25, 0]
