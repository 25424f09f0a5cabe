"""A master more or less, with its replicas, in a local system that runs and answers meanwhile.

The nodes' ports follow one another, so a master that joins takes the next ones and the last ones leave,
whoever is a master among them by then. What belongs to a shard (models, registrations, the concept table) is
given by the worker (`keymiss.worker.same_on_all_masters`).
"""

from __future__ import annotations

import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import redis

from keymiss.addresses import Address
from keymiss.cluster.shard_connection import ShardConnection
from keymiss.cluster.slot_moves import SlotMover, even_moves
from keymiss.cluster.topology import MASTER, ClusterView, KnownNode, Shard, view_of_reply
from keymiss.local.cluster_creation import WAIT_S, cluster_is_ok, connection, replicate, wait
from keymiss.local.observe import write_observing
from keymiss.local.preflight import available_memory_bytes, node_port_checks
from keymiss.local.processes import StartError, Supervisor, write_configuration
from keymiss.local.redis_users import credentials_for
from keymiss.local.system import (
    LOAD_WAIT_S,
    Say,
    check_layout,
    node_answers,
    nodes_of,
    remember,
    workers_attached,
)
from keymiss.settings import MOST_MASTERS, Settings
from keymiss.worker.what_masters_have import Possessions, Wanted, possessions, questions

SPARE_BYTES = 256 << 20
"""Of memory, beside what the new nodes have: buffers of clients and of replication."""
GIVEN_S = 300.0
"""For the worker to give a master models of gigabytes."""
SAY_EVERY = 10
"""Per cent."""
TRIES = 5
AGREE_S = 20.0
WELL = "every node is well, and all agree"
FAILOVER_MASTERS = 3


def add_master(before: Settings, after: Settings, say: Say) -> None:
    """Starts the nodes of one master more, has them join, and evens the slots out. Raises StartError.

    Until they have joined, what fails is undone; then `balance` goes on with it.
    """
    supervisor, new = Supervisor(before), after.ports[len(before.ports) :]
    _check_running(before, supervisor)
    if problems := list(_in_the_way(before, new)):
        raise StartError("\n".join(problems))
    write_configuration(after, new)
    try:
        supervisor.add_nodes(new)
        for port in new:
            wait(partial(node_answers, after, supervisor, port), LOAD_WAIT_S, f"the node on port {port}")
        _join(after, new)
    except BaseException:
        _take_out(before, supervisor, new)
        raise
    _is_now(after, supervisor)
    say(f"a master on port {new[0]} has joined, with {len(new) - 1} replica(s)")
    master = nodes_of(after)[len(before.ports)]
    wait(partial(_has_all, after, master), GIVEN_S, f"models and functions on {master}; see worker.log")
    say("it has the models and the functions")
    balance(after, say)


def balance(settings: Settings, say: Say) -> None:
    """Ends interrupted moves, and gives every master the same number of slots. Raises StartError."""
    _check_running(settings, Supervisor(settings))
    _until_moved(settings, lambda: _move(settings, list, say), say)
    wait(
        lambda: workers_attached(settings), WAIT_S, f"a worker at every master; see {settings.log}/worker.log"
    )


def remove_master(before: Settings, after: Settings, say: Say) -> None:
    """Moves the slots of one master to the others, and stops the last nodes for good. Raises StartError.

    What fails leaves all nodes in the cluster; the same again goes on with it.
    """
    supervisor, leaving = Supervisor(before), before.ports[len(after.ports) :]
    _check_running(before, supervisor)
    if after.masters < FAILOVER_MASTERS <= before.masters:
        say(f"with {after.masters} masters no replica takes over from one that fails: it takes a majority")
    stay = nodes_of(after)

    def empty_one() -> None:
        _have_masters_that_stay(before, after, say)
        _move(after, lambda masters: [id_ for id_ in masters if masters[id_].address in stay], say)
        _give_replicas(after)

    _until_moved(before, empty_one, say)
    _take_out(after, supervisor, leaving)
    _is_now(after, supervisor)
    say(f"the nodes on ports {leaving[0]} to {leaving[-1]} have left")


def _check_running(settings: Settings, supervisor: Supervisor) -> None:
    check_layout(settings)
    away = [name for name, (state, _) in supervisor.states().items() if state != "RUNNING"]
    if away:
        raise StartError(f"{', '.join(away)}: not running; keymiss up starts it")
    wait(lambda: _is_well(settings), AGREE_S, f"{WELL} (keymiss doctor says what they lack)")


class NotYet(redis.RedisError):
    """Nodes do not say the same."""


def _is_well(settings: Settings) -> bool:
    """Whether every node is, and all say the same of each: what one has heard of another may be of before."""
    nodes = nodes_of(settings)
    views = [_view(settings, node) for node in nodes]
    for node in [view.own for view in views]:
        for view in views:
            known = view.nodes.get(node.id)
            if not known or (known.master, known.slots) != (node.master, node.slots):
                raise NotYet(f"{view.own.address} has not heard what {node.address} is")
    return cluster_is_ok(nodes)


def _in_the_way(settings: Settings, new: Sequence[int]) -> Iterator[str]:
    if settings.masters == MOST_MASTERS:
        yield f"There are {MOST_MASTERS} masters, and no more than that."
    again = "stop what listens there: the nodes' ports follow one another"
    yield from (check.problem for check in node_port_checks(settings, new, again) if check.problem)
    for port in new:
        if (settings.data / str(port)).exists():
            yield f"{settings.data / str(port)} has the data of another node: move it somewhere else."
    largest = 0
    for node in nodes_of(settings):
        with connection(node) as client:
            largest = max(largest, int(client.info("memory")["used_memory"]))
    needed, there = len(new) * largest + SPARE_BYTES, available_memory_bytes()
    if there < needed:
        yield (
            f"Only {there / 2**30:.1f} GiB of memory are available, and {len(new)} node(s) more may need "
            f"{needed / 2**30:.1f}: stop other programs or use a larger machine."
        )


def _join(settings: Settings, new: Sequence[int]) -> None:
    first, nodes = nodes_of(settings)[0], nodes_of(settings)
    joining = [Address(settings.host, port) for port in new]
    ids = {_own_id(node) for node in joining}
    for node in joining:
        with connection(node) as client:
            client.execute_command("CLUSTER MEET", socket.gethostbyname(first.host), first.port)
    wait(lambda: all(ids <= _view(settings, node).nodes.keys() for node in nodes), WAIT_S, "all nodes meet")
    master = _own_id(joining[0])
    for node in joining[1:]:
        wait(partial(replicate, node, master), WAIT_S, "replicas follow the new master")
    wait(lambda: _is_well(settings), WAIT_S, WELL)


def _take_out(stay: Settings, supervisor: Supervisor, ports: Sequence[int]) -> None:
    """Stops nodes and removes what is left of them, in the others' memory too."""
    gone = {Address(stay.host, port) for port in ports}
    supervisor.remove_nodes(ports)
    for node in nodes_of(stay):
        for id_, known in _view(stay, node).nodes.items():
            if known.address in gone:
                with connection(node) as client, suppress(redis.ResponseError):  # it may have, meanwhile
                    client.execute_command("CLUSTER FORGET", id_)
    for port in ports:
        shutil.rmtree(stay.data / str(port), ignore_errors=True)
        (stay.run / f"redis-{port}.conf").unlink(missing_ok=True)
    write_configuration(stay)


def _is_now(settings: Settings, supervisor: Supervisor) -> None:
    remember(settings)
    write_configuration(settings)
    if "prometheus" in supervisor.states():
        write_observing(settings)


def _until_moved(settings: Settings, step: Callable[[], None], say: Say) -> None:
    """Again when a node did not take part, as in a failover."""
    for _ in range(TRIES):
        try:
            step()
            wait(lambda: _is_well(settings), WAIT_S, WELL)
            return
        except (redis.RedisError, OSError) as error:
            why = str(error)
            say(f"interrupted ({why}): going on when the cluster is well")
            wait(lambda: _is_well(settings), WAIT_S, WELL)
    raise StartError(f"not all slots moved: {why}; keymiss scale balance goes on")


def _move(settings: Settings, chosen: Callable[[dict[str, KnownNode]], list[str]], say: Say) -> None:
    """Until the chosen masters have all slots, as many each."""
    nodes = nodes_of(settings)
    mover = SlotMover(nodes[0], credentials_for(nodes))
    try:
        if found := mover.finish():
            say(f"{found} interrupted moves of slots ended")
        _move_all(mover, chosen(mover.masters)[: settings.masters], say)
    finally:
        mover.close()


def _move_all(mover: SlotMover, masters: Sequence[str], say: Say) -> None:
    moves = even_moves({id_: node.slots for id_, node in mover.masters.items()}, masters)
    keys, said = 0, 0
    for done, move in enumerate(moves, 1):
        keys += mover.move(move)
        if (per_cent := 100 * done // len(moves)) >= said + SAY_EVERY:
            said = per_cent
            say(f"{done} of {len(moves)} slots moved, {keys} keys")


def _own_id(node: Address) -> str:
    with connection(node) as client:
        return str(client.execute_command("CLUSTER MYID"))


def _view(settings: Settings, node: Address) -> ClusterView:
    asked = ShardConnection(node, WAIT_S, credentials_for(nodes_of(settings)))
    try:
        return view_of_reply(asked.command("CLUSTER", "NODES"), node)
    finally:
        asked.close()


def _has_all(settings: Settings, new: Address) -> bool:
    """Whether a master has what each should have."""
    there: dict[Address, Possessions] = {}
    for node in _view(settings, new).nodes.values():
        if node.role == MASTER:
            shard = Shard(node.address, node.id, node.slots)
            asked = ShardConnection(node.address, WAIT_S, credentials_for(nodes_of(settings)))
            there[node.address] = possessions(shard, asked.pipeline(questions(shard)))
            asked.close()
    return not any(Wanted.of(list(there.values())).missing(there[new]))


def _have_masters_that_stay(before: Settings, after: Settings, say: Say) -> None:
    """Enough of them: a replica that stays takes over from a master that leaves."""
    stay = set(nodes_of(after))

    def missing() -> Callable[[], bool] | None:
        view = _view(before, nodes_of(after)[0]).nodes
        masters = {id_: node for id_, node in view.items() if node.role == MASTER}
        if sum(node.address in stay for node in masters.values()) >= after.masters:
            return None
        for node in view.values():
            if node.master and node.address in stay and masters[node.master].address not in stay:
                say(f"{node.address} takes over from {masters[node.master].address}")
                with connection(node.address) as client:
                    client.execute_command("CLUSTER FAILOVER")
                return lambda: _view(before, nodes_of(after)[0]).nodes[node.id].role == MASTER
        raise StartError("No replica that stays can take over: keymiss doctor says how they are.")

    while taken_over := missing():
        wait(taken_over, WAIT_S, "a replica takes over")


def _give_replicas(settings: Settings) -> None:
    """Each master with slots the same number; who follows one that may keep it stays there."""
    stay = nodes_of(settings)
    view = _view(settings, stay[0]).nodes
    masters = [node.id for node in view.values() if node.slots]
    have = Counter[str]()
    others: list[Address] = []
    for node in view.values():
        if node.slots or node.address not in stay:
            continue
        if node.master and node.master in masters and have[node.master] < settings.replicas:
            have[node.master] += 1
        else:
            others.append(node.address)
    for address in others:
        master = min(masters, key=lambda id_: have[id_])
        have[master] += 1
        wait(partial(replicate, address, master), WAIT_S, f"{address} follows another master")
