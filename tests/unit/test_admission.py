"""How many questions are taken at once."""

from __future__ import annotations

import contextlib

import pytest

from keymiss.api.http.problems import TooManyQuestions
from keymiss.api.questions.admission import FIRST, LEAST, Admission

SOON_S = 2.0


class Clock:
    """Goes on when it is told to."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def together(admission: Admission, clock: Clock, questions: int, took_s: float, in_time: bool = True) -> int:
    """So many questions come at once, and each that is taken takes so long; how many were taken."""
    with contextlib.ExitStack() as turns:
        taken = 0
        with contextlib.suppress(TooManyQuestions):
            for _ in range(questions):
                turns.enter_context(admission.admitted()).was_read = in_time
                taken += 1
        clock.now_s += took_s
    return taken


def grown(clock: Clock, most: int = 64) -> Admission:
    """It takes as many as it may."""
    admission = Admission(most, SOON_S, clock)
    while admission.limit < most:
        together(admission, clock, most, 0.1)
    return admission


def test_some_at_first_and_more_while_they_are_quick() -> None:
    clock = Clock()
    admission = Admission(64, SOON_S, clock)
    taken = [together(admission, clock, 100, 0.1) for _ in range(60)]
    assert taken[0] == FIRST
    assert taken == sorted(taken)
    assert taken[-5:] == [64] * 5


@pytest.mark.parametrize("capacity", [3, 10, 20])
def test_it_finds_how_many_end_in_time(capacity: int) -> None:
    """A system that ends `capacity` questions a second, however many are asked at once."""
    clock = Clock()
    admission = grown(clock)
    taken = [together(admission, clock, 300, admission.limit / capacity) for _ in range(40)]
    fitting = capacity * SOON_S
    assert all(0.6 * fitting <= some <= 1.2 * fitting + 1 for some in taken[5:]), taken


def test_it_grows_again_when_questions_are_quick_again() -> None:
    clock = Clock()
    admission = grown(clock)
    for _ in range(5):
        together(admission, clock, 64, 20.0)
    assert admission.limit == LEAST
    rounds = 0
    while admission.limit < 64 and rounds < 200:
        together(admission, clock, 64, 0.1)
        rounds += 1
    assert 60 <= rounds < 70, "about one more each time"


def test_those_that_were_not_read_in_time_shrink_it_however_soon_they_ended() -> None:
    clock = Clock()
    admission = Admission(10, SOON_S, clock)
    together(admission, clock, 10, 0.1, in_time=False)
    assert admission.limit == 8


def test_questions_that_were_taken_together_shrink_it_once() -> None:
    clock = Clock()
    admission = grown(clock)
    together(admission, clock, 64, 2.5)
    assert 45 <= admission.limit <= 52


@pytest.mark.parametrize("questions", [1, 31])
def test_few_questions_that_take_long_say_nothing_about_many(questions: int) -> None:
    clock = Clock()
    admission = grown(clock)
    together(admission, clock, questions, 4.0)
    assert admission.limit == 64


def test_one_slow_moment_leaves_it_at_a_quarter_at_least() -> None:
    clock = Clock()
    admission = grown(clock)
    together(admission, clock, 64, 1000.0)
    assert admission.limit == 16


def test_one_is_always_taken() -> None:
    clock = Clock()
    admission = Admission(1, SOON_S, clock)
    assert [together(admission, clock, 2, 50.0, in_time=False) for _ in range(5)] == [1] * 5


def raises(admission: Admission, clock: Clock, was_read: bool | None) -> None:
    with contextlib.ExitStack() as others:
        for _ in range(31):
            others.enter_context(admission.admitted())
        with admission.admitted() as turn:
            turn.was_read = was_read
            clock.now_s += 10
            raise KeyError


def test_what_is_raised_is_learnt_from_and_what_is_not_known_is_not() -> None:
    clock = Clock()
    admission = grown(clock)
    for was_read, limit in ((None, 64), (False, 16)):
        with pytest.raises(KeyError):
            raises(admission, clock, was_read)
        assert admission.limit == limit
