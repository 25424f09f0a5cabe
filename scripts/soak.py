"""Whether a system that works for long stays as it is: memory, descriptors, queues, as slopes with errors.

    PYTHONPATH=. .venv/bin/python scripts/soak.py [--minutes 10] [--clients 4] [--json FILE]

Starts a system of its own, as scripts/faults.py does, and puts it under load: clients ask, half of it what
nobody has asked before, articles come in every half second, and each leaves again when KEPT newer ones are
there. Answers live for ANSWERS_LIVE_S, so that there are as many at any time. The first third of the time
does not count. The rest is cut into BLOCKS parts; a line through their means is the slope, its error bar that
of least squares at 95 % (means of long parts are as good as independent, single samples are not).

Exit code 1 when a slope is over its limit by more than its error bar, or a reply was wrong or hung.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from fault_load import ARTICLE_EVERY_S, HUNG_S, Load, counts
from faults import QUESTIONS, System, first_answers, started, stored_sentences
from memory import memory_of, parts
from rich.console import Console
from rich.table import Table

SAMPLE_EVERY_S = 2.0
ANSWERS_LIVE_S = 20
KEPT = 40
WARM_UP = 1 / 3
BLOCKS = 12
STUDENT_95 = 2.228
"""Student's t at 95 % for BLOCKS - 2 degrees of freedom."""
MB = 10**6
LIMITS = {
    "memory of the nodes, MB": 2.0,
    "memory of the worker, MB": 2.0,
    "memory of the API, MB": 2.0,
    "descriptors of the nodes": 1.0,
    "descriptors of the worker": 1.0,
    "descriptors of the API": 1.0,
    "jobs and events that wait": 1.0,
}
"""A minute."""
PARTS = {"nodes": "nodes", "worker": "worker and its processes", "API": "API"}


@dataclass(frozen=True)
class Slope:
    """Of one figure, a minute. `mean`: of what was measured."""

    figure: str
    mean: float
    slope: float
    error: float
    limit: float

    @property
    def is_over(self) -> bool:
        """Whether it is above the limit for sure."""
        return self.slope - self.error > self.limit


def slope_of(times_s: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """A minute, and its error bar, by least squares through the means of BLOCKS parts of equal length."""
    at, found = np.asarray(times_s) / 60, np.asarray(values, dtype=float)
    block = np.minimum((at - at[0]) / (at[-1] - at[0]) * BLOCKS, BLOCKS - 1).astype(int)
    x = np.array([at[block == n].mean() for n in range(BLOCKS)])
    y = np.array([found[block == n].mean() for n in range(BLOCKS)])
    from_mean = x - x.mean()
    slope = float(from_mean @ y / (from_mean @ from_mean))
    rest = y - y.mean() - slope * from_mean
    error = float(np.sqrt(rest @ rest / (BLOCKS - 2) / (from_mean @ from_mean)))
    return slope, STUDENT_95 * error


class ComingAndGoing(Load):
    """Articles leave, too, the oldest first."""

    gone = 0

    def __enter__(self) -> ComingAndGoing:
        super().__enter__()
        self._threads.append(threading.Thread(target=self._delete, daemon=True))
        self._threads[-1].start()
        return self

    def _delete(self) -> None:
        headers = {"X-Admin-Key": self.admin_key}
        with httpx.Client(base_url=self.url, verify=False, timeout=HUNG_S, headers=headers) as http:
            for number in itertools.count(self.first_article):
                while len(self.acknowledged) < number - self.first_article + KEPT:
                    if self._stop.wait(ARTICLE_EVERY_S / 2):
                        return
                while not self._stop.is_set():
                    try:
                        reply = http.delete(f"/articles/FAULT{number}")
                    except httpx.HTTPError:
                        continue
                    if reply.status_code < 300:
                        self.gone += 1
                        break
                    self._stop.wait(ARTICLE_EVERY_S)


def descriptors_of(pids: list[int]) -> int:
    """Open in all of them together."""
    count = 0
    for pid in pids:
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count


def waiting(system: System) -> int:
    """Jobs and events on all masters that nobody has begun."""
    total = 0
    for port, _ in system.masters():
        with system.node(port) as client:
            flat = client.execute_command("KM.STATS")
        stats: Mapping[str, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
        total += int(stats["jobs_queued"]) + int(stats["events_queued"])
    return total


def sample(system: System) -> dict[str, float]:
    """All figures now."""
    pids = parts(system.settings)
    found: dict[str, float] = {}
    for name, part in PARTS.items():
        found[f"memory of the {name}, MB"] = memory_of(pids[part])["pss"] / MB
        found[f"descriptors of the {name}"] = descriptors_of(pids[part])
    found["jobs and events that wait"] = waiting(system)
    return found


def watch(system: System, minutes: float) -> tuple[list[float], list[dict[str, float]]]:
    """The figures of all that time, at seconds from its beginning."""
    began_s = time.monotonic()
    times_s, samples = [], []
    for turn in itertools.count():
        samples.append(sample(system))
        times_s.append(time.monotonic() - began_s)
        if turn % 30 == 0:
            rounded = {name: round(value, 1) for name, value in samples[-1].items()}
            print(f"{times_s[-1]:.0f} s: {rounded}", file=sys.stderr)
        if times_s[-1] >= 60 * minutes:
            return times_s, samples
        time.sleep(max(0.0, began_s + (turn + 1) * SAMPLE_EVERY_S - time.monotonic()))


def slopes(times_s: Sequence[float], samples: Sequence[Mapping[str, float]]) -> list[Slope]:
    """Of every figure, without the beginning."""
    first = next(i for i, at in enumerate(times_s) if at >= WARM_UP * times_s[-1])
    found = []
    for figure, limit in LIMITS.items():
        values = [each[figure] for each in samples[first:]]
        slope, error = slope_of(times_s[first:], values)
        found.append(Slope(figure, float(np.mean(values)), slope, error, limit))
    return found


def show(found: Sequence[Slope]) -> None:
    """The table."""
    table = Table(title="slopes, a minute", title_justify="left")
    for column in ("figure", "mean", "slope", "limit", ""):
        table.add_column(column, justify="left" if column in ("figure", "") else "right")
    for each in found:
        table.add_row(
            each.figure,
            f"{each.mean:,.1f}",
            f"{each.slope:+.2f} ± {each.error:.2f}",
            f"{each.limit:g}",
            "over" if each.is_over else "",
        )
    Console(width=110).print(table)


def main(
    minutes: Annotated[float, typer.Option(min=1, help="under load; the first third does not count")] = 10,
    clients: Annotated[int, typer.Option(min=1, help="that ask all the time")] = 4,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Writes all that was measured there.")
    ] = None,
) -> None:
    """Whether a system that works for long stays as it is: memory, descriptors and queues, as slopes."""
    questions = [each["question"] for each in json.loads(QUESTIONS.read_text())]
    with started(own_host=False) as system:
        for port in system.settings.ports:
            with system.node(port) as client:
                client.config_set("keymiss.answer-ttl-s", ANSWERS_LIVE_S)
        stored, expected = stored_sentences(system), first_answers(system, questions)
        key = system.env["KEYMISS_API_ADMIN_KEY"]
        with ComingAndGoing(system.url, key, clients, questions, stored, expected) as load:
            times_s, samples = watch(system, minutes)
    found, ended = slopes(times_s, samples), counts(load.events)
    show(found)
    print(
        f"{minutes:g} minutes, {clients} clients: {dict(ended)}; {len(load.acknowledged)} articles came, "
        f"{load.gone} went; {sum(os.getloadavg()) / 3:.1f} load of the machine"
    )
    if json_file:
        report = {
            "minutes": minutes,
            "clients": clients,
            "replies": ended,
            "articles": {"came": len(load.acknowledged), "went": load.gone},
            "slopes": [asdict(each) | {"over": each.is_over} for each in found],
            "samples": {"at_s": times_s} | {name: [each[name] for each in samples] for name in LIMITS},
        }
        json_file.write_text(json.dumps(report, indent=1) + "\n")
    for each in load.events:
        if each.kind in ("wrong", "hung"):
            print(f"{each.kind}: {each.said}")
    raise typer.Exit(1 if any(each.is_over for each in found) or ended["wrong"] or ended["hung"] else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the system is stopped, as by Ctrl-C
    typer.run(main)
