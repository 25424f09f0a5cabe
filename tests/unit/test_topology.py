"""CLUSTER SLOTS and CLUSTER NODES as Redis 7.0, 7.2 and Valkey write them, with all that may be in them."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from keymiss.addresses import Address
from keymiss.cluster.topology import (
    MASTER,
    REPLICA,
    NoShard,
    Shard,
    count_slots,
    parse_cluster_nodes,
    parse_cluster_slots,
    shard_at,
    shard_of,
    shards_of_reply,
    view_of_one,
    view_of_reply,
)
from keymiss.keys import SLOTS, slot_of, tag_for_slot

ASKED = Address("127.0.0.1", 7001)
NO_CLUSTER = ResponseError("This instance has cluster support disabled")
LINES = f"""\
{"a" * 40} 10.0.0.1:7001@17001 myself,master - 0 0 5 connected 0-99 200 [93->-{"b" * 40}]
{"b" * 40} 10.0.0.2:7002@17002,shard-2 master - 0 1 7 connected 300-16383
{"c" * 40} 10.0.0.3:7003@17003,,shard-id=1234 slave {"a" * 40} 0 1 5 connected
{"d" * 40} ::1:7004@17004,shard-id=1234 slave,fail {"b" * 40} 1 1 7 disconnected
{"e" * 40} 10.0.0.5:7005@17005 master,fail - 1 1 2 disconnected 100-199
{"f" * 40} :0@0 master,noaddr - 1 1 0 disconnected
{"0" * 40} 10.0.0.6:7006@17006 handshake - 1 1 0 disconnected
"""
A, B = [b"10.0.0.1", 7000, b"a", []], [b"10.0.0.2", 7001, b"b", [b"hostname", b"b.example"]]


def test_shards_by_their_lowest_slot() -> None:
    first, second = parse_cluster_slots([[5000, SLOTS - 1, B, A], [200, 4999, A], [0, 99, A, B]], ASKED)
    assert first == Shard(Address("10.0.0.1", 7000), "a", ((0, 99), (200, 4999)))
    assert second == Shard(Address("10.0.0.2", 7001), "b", ((5000, SLOTS - 1),))
    assert (first.tag, second.tag) == (tag_for_slot(0), tag_for_slot(5000))
    assert (first.address, first.identity) == ("10.0.0.1:7000", "a@10.0.0.1:7000")
    assert [first.owns(slot) for slot in (0, 99, 100, 200, 5000)] == [True, True, False, True, False]
    assert count_slots(first.slots) == 100 + 4800


def test_a_key_and_a_slot_have_one_shard() -> None:
    shards = parse_cluster_slots([[0, 99, A], [200, SLOTS - 1, B]], ASKED)
    assert shard_at(shards, 99).node_id == "a"
    assert shard_of(shards, b"key{" + tag_for_slot(98).encode() + b"}").node_id == "a"
    assert shard_of(shards, "x").node_id == ("a" if slot_of("x") < 100 else "b")
    with pytest.raises(NoShard, match="no shard serves slot 100"):
        shard_at(shards, 100)


@pytest.mark.parametrize(
    ("host", "at"),
    [
        (b"", "127.0.0.1:7000"),
        (None, "127.0.0.1:7000"),
        (b"?", "127.0.0.1:7000"),
        (b"fd00::1", "[fd00::1]:7000"),
        (b"shard-1.example", "shard-1.example:7000"),
        ("10.0.0.1", "10.0.0.1:7000"),
    ],
)
def test_hosts_of_every_kind(host: bytes | str | None, at: str) -> None:
    """Redis 6 has three fields of a node, later ones more."""
    for rest in ([b"id"], [b"id", []], ["id", [], "more"]):
        (shard,) = parse_cluster_slots([[0, SLOTS - 1, [host, 7000, *rest]]], ASKED)
        assert (shard.address, shard.node_id) == (at, "id")


def test_a_cluster_without_slots_has_no_shards() -> None:
    assert shards_of_reply([], ASKED) == ()


@pytest.mark.parametrize(
    "reply",
    [
        b"OK",
        None,
        7,
        [[0, 99]],
        [[0, 99, A[:2]]],
        [[0, SLOTS, A]],
        [[5, 4, A]],
        [[-1, 4, A]],
        [[b"0", 99, A]],
        [[0, 99, [b"\xff", 7000, b"a"]]],
        [[0, 99, [7, 7000, b"a"]]],
        [[0, 99, [b"h", b"port", b"a"]]],
        [[0, 99, [b"h", 7000, None]]],
    ],
)
def test_what_is_no_reply_of_cluster_slots_is_a_value_error(reply: Any) -> None:
    with pytest.raises(ValueError, match="not a reply of CLUSTER SLOTS"):
        shards_of_reply(reply, ASKED)


def test_errors_but_that_there_is_no_cluster_are_raised() -> None:
    for parse in (shards_of_reply, view_of_reply):
        with pytest.raises(ResponseError, match="MASTERDOWN"):
            parse(ResponseError("MASTERDOWN"), ASKED)


def test_nodes() -> None:
    view = parse_cluster_nodes(LINES, ASKED)
    assert [name[0] for name in view.nodes] == ["a", "b", "c", "d", "e"]
    a, b, c, d, e = view.nodes.values()
    assert view.own == a
    assert (a.address, a.role, a.slots) == (ASKED, MASTER, ((0, 99), (200, 200)))
    assert b.address == ("shard-2", 7002), "by its name, where it has one"
    assert c.address == ("10.0.0.3", 7003)
    assert (d.address, d.role, d.failing) == (("::1", 7004), REPLICA, True)
    assert (e.role, e.failing) == (MASTER, True)


def test_what_follows_from_them() -> None:
    view = parse_cluster_nodes(LINES, ASKED)
    tags = [view.tag_of(node) for node in view.nodes.values()]
    first, second, third = tag_for_slot(0), tag_for_slot(300), tag_for_slot(100)
    assert tags == [first, second, first, second, third]
    assert view.shards == 3
    assert view.slots_covered == 101 + SLOTS - 300
    assert view.age == (7, 3)


def test_a_replica_of_an_unknown_master_belongs_to_no_shard() -> None:
    view = parse_cluster_nodes(f"{'a' * 40} :7001@17001 myself,slave {'b' * 40} 0 0 1 connected\n", ASKED)
    assert (view.own.role, view.tag_of(view.own)) == (REPLICA, "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "which node answers"),
        ("a b c", "has 3 words"),
        (LINES.replace("myself,", ""), "which node answers"),
        (LINES.replace("0-99", "x-y"), "invalid literal"),
    ],
)
def test_anything_else_is_a_value_error(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_cluster_nodes(text, ASKED)


def test_a_server_of_its_own_is_a_whole_cluster() -> None:
    view = view_of_one(ASKED)
    assert (view.own.role, view.tag_of(view.own)) == (MASTER, tag_for_slot(0))
    assert (view.shards, view.slots_covered) == (1, SLOTS)
    assert view_of_reply(NO_CLUSTER, ASKED) == view
    (shard,) = shards_of_reply(NO_CLUSTER, ASKED)
    assert (shard.master, shard.tag, count_slots(shard.slots)) == (ASKED, tag_for_slot(0), SLOTS)
