"""What every master should have is what more than half of those have that did not just join."""

from __future__ import annotations

from dataclasses import replace

import pytest

from keymiss.addresses import Address
from keymiss.cluster.topology import Shard
from keymiss.worker.what_masters_have import OwnModel, Possessions, Wanted, of_most, possessions


def master(number: int, registrations: str = "", *models: str) -> Possessions:
    shard = Shard(Address("127.0.0.1", number), f"node{number}", ((number, number),))
    rows = {name: (name,) for name in registrations}
    return Possessions(shard, rows, [OwnModel(key, True, {}) for key in models], None)


def test_more_than_half() -> None:
    assert of_most(["ab", "a", "bc"]) == {"a", "b"}
    assert of_most(["a", "b"]) == set()
    assert of_most(["ax", "b", "x", ""], "xz") == {"x"}
    assert of_most([]) == set()


def test_a_master_that_joined_lacks_all_and_has_no_vote() -> None:
    new = master(2)
    wanted = Wanted.of([master(1, "xy", "bert-qa{1bz}"), new])
    assert wanted.joined == {new.shard.identity}
    assert wanted.missing(new) == ({"x", "y"}, {"bert-qa"})


def test_one_that_was_there_lacks_what_most_have() -> None:
    masters = [master(1, "xy", "m{a}"), master(2, "xy", "m{b}"), master(3, "x", "own{c}")]
    wanted = Wanted.of(masters)
    assert not wanted.joined
    assert wanted.missing(masters[2]) == ({"y"}, {"m"})
    assert [wanted.missing(each) for each in masters[:2]] == [(set(), set())] * 2


def test_a_model_of_one_shard_alone_is_no_others() -> None:
    masters = [master(1, "x", "own{a}"), master(2, "x"), master(3, "x")]
    assert Wanted.of(masters).models == frozenset()


def test_the_reader_that_one_of_two_masters_lost_is_given_back() -> None:
    masters = [master(1, "x", "bert-qa{a}", "bert-qa-lower{a}", "own{a}"), master(2, "x")]
    wanted = Wanted.of(masters)
    lacks = {"bert-qa", "bert-qa-lower"}
    assert [wanted.missing(each) for each in masters] == [(set(), set()), (set(), lacks)]


@pytest.mark.parametrize(
    ("inputs", "lacks"),
    [
        (["states", "attention_mask"], {"bert-qa-lower"}),
        (["input_ids", "attention_mask"], set()),
        ([], {"bert-qa-lower"}),
    ],
)
def test_a_whole_reader_needs_no_lower_half(inputs: list[str], lacks: set[str]) -> None:
    """Though most masters have one still. As long as nobody has looked into it, it may be a split one."""
    split = [master(number, "x", "bert-qa{a}", "bert-qa-lower{a}") for number in (1, 2, 3)]
    replaced = replace(master(4, "x"), models=[OwnModel("bert-qa{b}", True, {"inputs": inputs})])
    assert Wanted.of([*split, replaced]).missing(replaced) == (set(), lacks)


def test_a_model_under_a_key_of_its_own_is_wanted_nowhere_else() -> None:
    old = master(1, "x", "m", "m{user1}", "theirs{a}")
    assert Wanted.of([old, master(2)]).models == {"theirs"}


def test_without_any_registration_nobody_has_just_joined() -> None:
    masters = [master(1, "", "m{a}"), master(2), master(3)]
    wanted = Wanted.of(masters)
    assert (wanted.joined, wanted.models) == (frozenset(), frozenset())


def test_a_time_event_is_that_of_one_shard() -> None:
    shard = Shard(Address("127.0.0.1", 1), "node1", ((1, 1),))
    rows = [
        [number, b"sha", 0, reader, *[b""] * 12]
        for number, reader in ((b"1", b"KeysReader"), (b"2", b"TimeEvent"))
    ]
    assert set(possessions(shard, [rows, [], None]).registrations) == {"1"}
