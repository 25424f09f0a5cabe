"""CLUSTER NODES as Redis 7.0, 7.2 and Valkey write it, with everything that may stand in a line."""

from __future__ import annotations

import pytest

from keymiss.cluster.nodes import MASTER, REPLICA, parse_cluster_nodes, view_of_one
from keymiss.keys import SLOTS, tag_for_slot

ASKED = ("127.0.0.1", 7001)
LINES = f"""\
{"a" * 40} 10.0.0.1:7001@17001 myself,master - 0 0 5 connected 0-99 200 [93->-{"b" * 40}]
{"b" * 40} 10.0.0.2:7002@17002,shard-2 master - 0 1 7 connected 300-16383
{"c" * 40} 10.0.0.3:7003@17003,,shard-id=1234 slave {"a" * 40} 0 1 5 connected
{"d" * 40} ::1:7004@17004,shard-id=1234 slave,fail {"b" * 40} 1 1 7 disconnected
{"e" * 40} 10.0.0.5:7005@17005 master,fail - 1 1 2 disconnected 100-199
{"f" * 40} :0@0 master,noaddr - 1 1 0 disconnected
{"0" * 40} 10.0.0.6:7006@17006 handshake - 1 1 0 disconnected
"""


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
