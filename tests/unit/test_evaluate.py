"""The figures of an evaluation, what is drawn for it, and eager and exported models read with one reader."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from keymiss.models import answerability, asking, by_cluster, by_model, by_search, evaluate, export
from keymiss.models.answerability import Against, Pool
from keymiss.models.asking import EvaluateError, Given, Item
from tests.patience import patient
from tests.unit.test_export import small
from tests.unit.test_squad import put, qa

RIVER = "The Amble is a river of the north. It was bridged by Ada Moore in 1894. Its fish are trout and pike."
HILLS = "Two hills stand beside the town. The higher one is called Cold Top. Nobody lives there."
ASKED = {
    RIVER: [
        qa("Who bridged the Amble?", ("Ada Moore", RIVER.index("Ada")), id="1"),
        qa(
            "When was the river bridged?",
            ("1894", RIVER.index("1894")),
            ("in 1894", RIVER.index("in 1894")),
            id="2",
        ),
    ],
    HILLS: [
        qa("What is the higher hill called?", ("Cold Top", HILLS.index("Cold")), id="3"),
        qa("Who lives on the moon?", id="4"),
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path, [(RIVER, ASKED[RIVER])], [(HILLS, ASKED[HILLS])])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained model."""
    return small(tmp_path_factory.mktemp("tiny"))


def items(path: Path) -> list[Item]:
    return asking.part_of(path, "all").items


def test_figures_by_hand(file: Path) -> None:
    given = [
        Given("the Ada Moore", 0.9, 10),
        Given("year 1894", 0.2, 20),  # against "1894": 2/3, against "in 1894": 1/2
        Given("Cold Top", 0.9, 0, problem="too long"),  # counts as wrong
        Given("Cold Top", 0.4, 90),  # nothing was to be found, and the score says so
    ]
    found = asking.scores(items(file), given)
    assert (found.questions, found.failed, found.unanswerable, found.refused) == (3, 1, 1, 100)
    assert found.exact == pytest.approx(100 / 3)
    assert found.f1 == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert found.ms == 20


@pytest.mark.parametrize(
    ("score", "problem", "refused"), [(0.499, "", 100), (0.5, "", 0), (0.0, "failed", 0)]
)
def test_unanswerable_questions_are_right_below_half(
    file: Path, score: float, problem: str, refused: float
) -> None:
    found = asking.scores(items(file)[3:], [Given("Nobody", score, 1, problem)])
    assert (found.questions, found.exact, found.refused) == (0, 0, refused)


def test_no_figures_of_nothing() -> None:
    found = asking.scores([], [])
    assert (found.questions, found.exact, found.f1, found.ms) == (0, 0, 0, 0)


def test_parts(file: Path) -> None:
    whole = asking.part_of(file, "all")
    assert [(item.article, item.question.id) for item in whole.items] == [
        (0, "1"),
        (0, "2"),
        (1, "3"),
        (1, "4"),
    ]
    held_out, train = asking.part_of(file), asking.part_of(file, "train")
    assert {i.question.id for i in held_out.items} | {i.question.id for i in train.items} == set("1234")
    assert not {i.question.id for i in held_out.items} & {i.question.id for i in train.items}
    with pytest.raises(EvaluateError, match="its calibration part has no question"):
        asking.part_of(file, "calibration")


def test_a_limit_draws_the_same_questions_every_time(tmp_path: Path) -> None:
    path = put(tmp_path, [("Text.", [qa(f"Question {n}?", ("Text", 0), id=str(n)) for n in range(50)])])
    drawn = [item.question.id for item in asking.part_of(path, "all", 10).items]
    assert len(set(drawn)) == 10
    assert drawn == [item.question.id for item in asking.part_of(path, "all", 10).items]
    assert drawn != [str(n) for n in range(10)]
    assert len(asking.part_of(path, "all", 60).items) == 50


def test_threads_keep_the_order_and_pass_errors_on() -> None:
    barrier = threading.Barrier(2, timeout=patient(20))

    def meet(number: int) -> int:
        barrier.wait()  # comes through only if two run at once
        return number * 2

    assert asking.in_threads(meet, range(10), 2, "", torch=False) == [n * 2 for n in range(10)]
    with pytest.raises(ZeroDivisionError):
        asking.in_threads(lambda n: 1 // n, [1, 0, 1], 2, "", torch=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_is_done_in_threads(number: int) -> None:
    begun = []

    def work(n: int) -> None:
        begun.append(n)
        os.kill(os.getpid(), number)
        time.sleep(0.01)

    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        asking.in_threads(work, range(1000), 8, "", torch=False)
    assert len(begun) < 1000
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_eager_and_exported_answer_the_same(
    file: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, _ = export.export(str(folder), tmp_path / "tiny.pt")
    figures = {}
    for way, model in (("eager", folder), ("exported", Path(made.path))):
        out = tmp_path / f"{way}.json"
        arguments = [way, "--model", str(model), str(file), "--part", "all", "--json", str(out)]
        assert evaluate.main(arguments) == 0
        figures[way] = json.loads(out.read_text())["files"]["given"]
        assert (figures[way].pop("ms") > 0, figures[way]["questions"], figures[way]["failed"]) == (True, 3, 0)
    assert figures["eager"] == figures["exported"]
    printed = capsys.readouterr().out
    assert "EM" in printed
    assert "score < 0.5" in printed


def test_what_others_call(file: Path, folder: Path) -> None:
    model, reader = by_model.open_model(str(folder))
    part = asking.part_of(file)
    found = by_model.score_file(model, reader, file)
    assert found.questions + found.unanswerable == len(part.items)
    assert by_model.score_file(model, reader, file, limit=1, threads=1).questions <= 1


def test_an_answer_far_into_a_long_text(folder: Path, tmp_path: Path) -> None:
    """Several windows, several runs: the reader sees all of their logits."""
    context = "Nothing happened on that day. " * 900 + RIVER
    path = put(tmp_path, [(context, [qa("Who?", ("Ada Moore", context.index("Ada")))])])
    model, reader = by_model.open_model(str(folder))
    inputs = reader.inputs("Who?", reader.sentence(context))
    starts, ends = by_model.logits_of(model, inputs)
    assert starts.shape == ends.shape == inputs.input_ids.shape
    assert len(list(inputs.runs())) > 1
    [given] = [by_model.by_model(model, reader)(item) for item in items(path)]
    assert not given.problem
    assert given.answer in context


def test_a_text_that_is_too_long_counts_as_wrong(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "word " * 40_000 + "end"
    asked = [qa("Which?", ("word", 0), id="long")]
    path = put(tmp_path, [(long, asked)], [(RIVER, ASKED[RIVER])])
    assert evaluate.main(["eager", "--model", str(folder), str(path), "--part", "all"]) == 0
    printed = capsys.readouterr().out
    assert "could not be put, 1 questions: the sentence has 40001 tokens" in printed
    assert "not put" in printed
    alone = put(tmp_path, [(long, asked)], name="alone.json")
    assert evaluate.main(["eager", "--model", str(folder), str(alone), "--part", "all"]) == 1
    assert "not one question could be put" in capsys.readouterr().err


def test_the_pool_knows_which_sentence_answers(file: Path) -> None:
    [one, two], [three, none] = items(file)[:2], items(file)[2:]
    pool = Pool([one.paragraph, three.paragraph])
    assert [pool.texts[number] for number in (pool.right(one), pool.right(two), pool.right(three))] == [
        "It was bridged by Ada Moore in 1894.",
        "It was bridged by Ada Moore in 1894.",
        "The higher one is called Cold Top.",
    ]
    assert pool.right(none) is None
    assert [number for number in range(6) if pool.holds(number, two)] == [pool.right(two)]
    nearest = pool.nearest(one, 5)
    assert pool.right(one) not in nearest
    assert pool.texts[nearest[0]] == "The Amble is a river of the north."


def test_an_answer_of_two_sentences_has_no_right_one(tmp_path: Path) -> None:
    path = put(tmp_path, [(RIVER, [qa("What?", ("north. It was", RIVER.index("north")))])])
    [item] = items(path)
    assert Pool([item.paragraph]).right(item) is None


def test_an_answer_is_held_word_for_word(tmp_path: Path) -> None:
    context = "He is 18. There were 189 of them. At 18, he left."
    [item] = items(put(tmp_path, [(context, [qa("How old is he?", ("18", 6))])]))
    pool = Pool([item.paragraph])
    assert [pool.holds(number, item) for number in range(3)] == [True, False, True]


def test_ties_count_half() -> None:
    found = [
        Against(0.9, random_clean=[0.1, 0.9], random_any=[0.95], hard_clean=[], hard_any=[0.9]),
        Against(0.5, random_clean=[0.6, 0.4], random_any=[0.1], hard_clean=[], hard_any=[0.2]),
    ]
    assert answerability.wins(found, "random_clean") == pytest.approx(100 * 2.5 / 4)
    assert answerability.wins(found, "random_any") == 50
    assert answerability.wins(found, "hard_any") == 75
    assert answerability.wins(found, "hard_clean") == 0


def test_answerability(file: Path, folder: Path, tmp_path: Path) -> None:
    out, arguments = tmp_path / "out.json", [str(file), "--part", "all", "--negatives", "2"]
    figures = []
    for _ in range(2):
        arguments += ["--json", str(out)]
        assert evaluate.main(["answerability", "--model", str(folder), *arguments]) == 0
        figures.append(json.loads(out.read_text())["files"]["given"])
    assert figures[0] == figures[1]  # the same draws every time
    assert (figures[0]["questions"], figures[0]["left_out"]) == (3, 0)  # not the one without an answer
    assert figures[0]["random_clean_pairs"] == figures[0]["random_any_pairs"] == 6
    assert 0 <= figures[0]["hard_clean"] <= 100


def test_recall_is_of_the_right_paragraph(file: Path) -> None:
    given = [Given("", 0, 1, rank=rank) for rank in (1, 3, 6, 1)]  # the last question has no answer
    found = by_search.recalls(items(file), given)
    assert found == {"recall_1": pytest.approx(100 / 3), "recall_5": pytest.approx(200 / 3), "recall_20": 100}


def test_names_of_articles_can_be_parts_of_keys(file: Path) -> None:
    part = asking.part_of(file.rename(file.with_name("a_b {c}.json")), "all")
    assert by_cluster.names_of(part, "evaluate-1") == ["evaluate-1-a-b-c--0", "evaluate-1-a-b-c--1"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["eager", "--model", "no/such/folder", "FILE"], "no/such/folder"),
        (["eager", "none.json"], "none.json: No such file"),
        (["exported", "--model", "none.pt", "FILE"], "none.pt"),
        (["exported", "--model", "FILE", "FILE"], "is not an exported model"),
        (["cluster", "--nodes", "127.0.0.1:1", "FILE"], "no cluster at 127.0.0.1:1"),
        (["cluster", "--nodes", "nowhere", "FILE"], "no cluster at nowhere: the nodes must be"),
    ],
)
def test_faults_are_said_in_one_line(
    file: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([argument.replace("FILE", str(file)) for argument in arguments]) == 1
    said = capsys.readouterr().err
    assert reason in said
    assert said.startswith("keymiss models evaluate: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["cluster", "--against", "eager", "a.json"],
        ["cluster", "--against", "exported", "--model", "models", "a.json"],
        ["eager", "x/a.json", "y/a.json"],
        ["eager", "a.json", "--limit", "0"],
        ["eager", "a.json", "--part", "test"],
        ["eager"],
        [],
    ],
)
def test_bad_arguments(arguments: list[str]) -> None:
    assert evaluate.main(arguments) == 2
