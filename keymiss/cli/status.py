"""`keymiss status`: how the processes and the nodes are, once or again and again."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Annotated

import typer

from keymiss.cli.common import addresses, credentials, fail, out, runs, settings
from keymiss.cli.status_figures import Rates
from keymiss.cli.status_live import Screen, Stop, keys_to, stop_signals
from keymiss.cli.status_nodes import ClusterAsker, ClusterStatus
from keymiss.cli.status_view import Processes, as_json, problems_of, render
from keymiss.local.processes import Supervisor
from keymiss.settings import Settings
from keymiss.typer_app import Nodes, typer_app

app = typer_app()


@app.command()
def status(
    nodes: Nodes = "",
    watch: Annotated[bool, typer.Option("--watch", help="again and again; q or Ctrl-C ends")] = False,
    interval_s: Annotated[float, typer.Option(min=0.2, max=3600, help="between two looks")] = 2.0,
    json_: Annotated[
        bool, typer.Option("--json", help="a JSON object; with --watch one a line, each interval")
    ] = False,
) -> None:
    """Say how the processes and the nodes are. Exit code 1 when something does not run."""
    current = settings()
    supervisor = None if nodes or current.nodes_given else Supervisor(current)
    if supervisor and not runs(current):
        fail("Keymiss is not running: keymiss up starts it.")
    looks = _Looks(current, nodes or current.nodes, supervisor)
    raise typer.Exit(asyncio.run(_watch(looks, interval_s, json_) if watch else _once(looks, json_)))


class _Looks:
    """Looks at everything, and remembers the look before."""

    def __init__(self, current: Settings, nodes: str, supervisor: Supervisor | None) -> None:
        given = addresses(nodes)
        self._asker = ClusterAsker(given, credentials(given))
        self._supervisor = supervisor
        self._before: ClusterStatus | None = None
        self.processes: Processes = {}

    async def look(self) -> tuple[ClusterStatus, Rates]:
        """The first one ends the program (exit 2) when no node answers and one refuses the user."""
        if self._supervisor:
            running = self._supervisor.running()
            self.processes = self._supervisor.states() if running else {"supervisor": ("STOPPED", "")}
        found = await self._asker.ask()
        refused = next((node.refused for node in found.nodes if node.refused), "")
        if refused and self._before is None and all(node.error for node in found.nodes):
            fail(refused, 2)
        rates, self._before = Rates.between(self._before, found), found
        return found, rates


async def _once(looks: _Looks, as_object: bool) -> int:
    found, rates = await looks.look()
    if as_object:
        print(json.dumps(as_json(found, looks.processes, rates), indent=2))
    else:
        out.print(render(found, looks.processes, rates, out.width))
    return 1 if problems_of(found, looks.processes) else 0


async def _watch(looks: _Looks, interval_s: float, as_object: bool) -> int:
    with stop_signals() as stop:
        if as_object or not out.is_terminal:
            await _print_on(looks, interval_s, as_object, stop)
        else:
            found = await looks.look()  # a refused user is said on the usual screen
            with keys_to(stop), Screen(out) as screen:
                await _draw_on(looks, interval_s, screen, stop, found)
    return 0


async def _print_on(looks: _Looks, interval_s: float, as_object: bool, stop: Stop) -> None:
    while not stop.stopped:
        found, rates = await looks.look()
        if as_object:
            print(json.dumps(as_json(found, looks.processes, rates)), flush=True)
        else:
            out.print(f"\n{_time(found)}", markup=False)
            out.print(render(found, looks.processes, rates, out.width))
        await stop.wait(interval_s)


async def _draw_on(
    looks: _Looks, interval_s: float, screen: Screen, stop: Stop, first: tuple[ClusterStatus, Rates]
) -> None:
    loop = asyncio.get_running_loop()
    found, rates = first
    while not stop.stopped:
        next_s = loop.time() + interval_s
        note = f"{_time(found)}, every {interval_s:g} s, q ends"
        while not stop.stopped:
            screen.show(render(found, looks.processes, rates, out.width), note, stop)
            if not await stop.wait(next_s - loop.time()):
                break
        if not stop.stopped:
            found, rates = await looks.look()


def _time(found: ClusterStatus) -> str:
    return datetime.fromtimestamp(found.t).strftime("%H:%M:%S")
