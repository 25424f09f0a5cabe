"""`keymiss gears`: functions on the shards, and what they said."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keymiss.cli.common import cluster, fail, out, settings
from keymiss.typer_app import Nodes, typer_app

if TYPE_CHECKING:
    from redis.cluster import RedisCluster

app = typer_app(help="Gears functions.", no_args_is_help=True)
OLD_LOGS = 2  # supervisord keeps worker.log.1 and .2 (keymiss/local/programs.py)


@app.command()
def upload(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help="RedisGears Python scripts; default: those that come with Keymiss",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    nodes: Nodes = "",
) -> None:
    """Run scripts by RG.PYEXECUTE on one master; what they register is registered on every master."""
    from keymiss.resources import sample_functions

    with cluster(nodes) as client:
        node = client.get_primaries()[0]
        for path in files or sample_functions():
            answer = client.execute_command("RG.PYEXECUTE", path.read_bytes(), target_nodes=node)
            if isinstance(answer, list) and len(answer) == 2 and answer[1]:
                fail(f"{path}: {answer[1][0].decode(errors='replace')}")
            out.print(f"{path}: done", markup=False)


@app.command("list")
def list_(nodes: Nodes = "") -> None:
    """Say what is registered, how often it ran and failed on all masters together, and its last error."""
    from rich.markup import escape
    from rich.table import Table

    from keymiss.cluster.shard_replies import subject_of

    with cluster(nodes) as client:
        found = _registrations(client)
        masters = len(client.get_primaries())
    table = Table("what", "on keys", "events", "shards", "ran", "failed", "last error")
    table.columns[2].no_wrap, table.columns[2].max_width = True, 16
    for shards in found.values():
        data = shards[0]["RegistrationData"]
        ran, failed = (
            sum(one["RegistrationData"][name] for one in shards) for name in ("numTriggered", "numFailures")
        )
        error = next(filter(None, (_text(one["RegistrationData"]["lastError"]) for one in shards)), "")
        about, events = subject_of(data["args"]), data["args"].get("eventTypes")
        row = (_name(shards), about, events, f"{len(shards)} of {masters}", ran, failed, error)
        table.add_row(*(escape(_text(value)) for value in row))
    out.print(table if found else "Nothing is registered: keymiss gears upload.")


@app.command()
def remove(
    functions: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="or what it does; both as `keymiss gears list` shows them"),
    ],
    nodes: Nodes = "",
) -> None:
    """Unregister functions on every master. What they made stays."""
    with cluster(nodes) as client:
        known = _registrations(client)
        for name in functions:
            ids = [id_ for id_, shards in known.items() if name in (id_, _name(shards))]
            if not ids:
                fail(f"There is no registration {name}: keymiss gears list shows those there are.")
            for id_ in ids:
                client.execute_command("RG.UNREGISTER", id_, target_nodes=known[id_][0]["node"])
                out.print(f"{id_}: removed", markup=False)


@app.command()
def logs(
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="the last so many")] = 50,
) -> None:
    """Show what functions wrote by log(), and how they failed: the lines of that kind in the log of the local
    system's worker. A worker elsewhere has its log there."""
    file = settings().log / "worker.log"
    files = [*(file.with_name(f"{file.name}.{age}") for age in range(OLD_LOGS, 0, -1)), file]
    try:
        found = [line for each in files if each.exists() for line in _of_functions(each)]
    except PermissionError:
        fail(f"You may not read {file}: run this as root or as the user who started the system.")
    if not file.exists():
        fail(f"There is no {file}: the local system was never started (keymiss up).")
    for line in found[-lines:]:
        out.print(line, markup=False)
    if not found:
        out.print("No function has written anything, and none has failed.")


def _of_functions(file: Path) -> Iterator[str]:
    with file.open(errors="replace") as opened:
        for line in opened:
            try:
                entry = json.loads(line)
            except ValueError:  # what a library printed
                continue
            if entry.get("event") == "script":
                said = entry["message"]
            elif entry.get("event") == "job_failed":
                said = f"failed ({entry.get('kind')}, {entry.get('key')}): {entry.get('error')}"
            else:
                continue
            yield f"{datetime.fromtimestamp(entry['t']):%Y-%m-%d %H:%M:%S} {entry['level']}: {said}"


def _registrations(client: RedisCluster) -> dict[str, list[dict[str, Any]]]:
    """Id -> the registration as each master that has it shows it, and `node`; oldest first."""
    found = defaultdict(list)
    for node in client.get_primaries():
        answer = client.execute_command("RG.DUMPREGISTRATIONS", target_nodes=node)
        for flat in reversed(answer):
            one = _dictionary(flat)
            one["RegistrationData"] = _dictionary(one["RegistrationData"])
            one["RegistrationData"]["args"] = _dictionary(one["RegistrationData"]["args"])
            found[_text(one["id"])].append(one | {"node": node})
    return found


def _name(shards: list[dict[str, Any]]) -> str:
    return _text(shards[0]["desc"]) or _text(shards[0]["id"])


def _dictionary(flat: list[Any]) -> dict[str, Any]:
    return {_text(name): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


def _text(value: Any) -> str:
    """Text; "" for null. Events come as a list, or as words with commas."""
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)
