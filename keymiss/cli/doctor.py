"""`keymiss doctor`: whether this machine has what the local system needs, and how the one that runs is; with
--nodes how that cluster is."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import keymiss
from keymiss.cli.common import cluster, fail, out, runs, settings
from keymiss.local.preflight import Check, checks
from keymiss.settings import Settings, server_program
from keymiss.typer_app import Nodes, typer_app

app = typer_app()

LEAST_VERSIONS = {"redis-server": (7, 0), "valkey-server": (8, 0)}
EXTRAS = {
    "api": ("fastapi", "uvicorn", "tantivy", "usearch", "prometheus_client"),
    "worker": ("torch", "tokenizers", "onnxruntime", "cloudpickle", "ahocorasick"),
    "load": ("transformers", "onnx", "onnxscript", "safetensors"),
    "local": ("supervisor",),
}
"""A part of the system -> some modules that show that its extra is installed."""
REPAIR_LIMIT_S = 600.0
OPTIONAL_EXTRAS = {"spelling": ("symspellpy",)}


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="remove what belongs to nothing, and move what lies elsewhere")
    ] = False,
    nodes: Nodes = "",
) -> None:
    """Say what is in the way on this machine. Looks at versions, programs, Python packages, ports, memory,
    disk, and at the system if it runs: whether what belongs together is together in its cluster; with --nodes
    at that cluster alone. Each line says what to do. Exit code 1 when something is wrong."""
    current = settings()
    wrong = False
    if not nodes:
        found = [Check("keymiss", f"{keymiss.__version__}, Python {platform.python_version()}"), *_extras()]
        running = bool(find_spec("supervisor")) and runs(current)
        found += [*_versions(current), *(_running(current) if running else checks(current)), *_optional()]
        wrong = _say(found)
        if not running:
            if repair:
                fail("--repair is for a cluster: the local system does not run (keymiss up; --nodes)", 2)
            raise typer.Exit(1 if wrong else 0)
    if _look_at_cluster(nodes, repair) or wrong:
        raise typer.Exit(1)


def _say(found: Iterable[Check]) -> bool:
    """Whether something is wrong."""
    wrong = False
    for check in found:
        mark, style = ("!!", "red") if check.problem else ("ok", "green")
        out.print(f"[{style}]{mark}[/]", end=" ")
        out.print(f"{check.what}: {check.problem or check.found}", markup=False)
        wrong = wrong or bool(check.problem)
    return wrong


def _look_at_cluster(nodes: str, repair: bool) -> bool:
    """Whether something is wrong there; after a repair, whether it still is."""
    from keymiss.cli.cluster_checks import cluster_checks
    from keymiss.corpus import belonging
    from keymiss.corpus.progress import PipelineStuck, wait_processed

    with cluster(nodes) as client:
        found, faults = cluster_checks(client)
        if repair and faults:
            _say(check for check in found if check.problem)
            belonging.repair(client, faults)
            try:
                wait_processed(client, REPAIR_LIMIT_S)
            except PipelineStuck as error:
                fail(f"the functions were told of {len(faults)} keys and are not done: {error}")
            out.print(f"{len(faults)} keys repaired", markup=False)
            found, _ = cluster_checks(client)
    return _say(found)


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        lacks = [name for name in modules if find_spec(name) is None]
        problem = f"without {', '.join(lacks)}: pip install 'keymiss[{extra}]'" if lacks else ""
        yield Check(f"Python packages of keymiss[{extra}]", "there", problem)


def _versions(current: Settings) -> Iterator[Check]:
    program = server_program(current.server)
    if not shutil.which(program):
        return  # said with the other programs
    said = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)[\d.]*", said)
    least = LEAST_VERSIONS[Path(program).name]
    old = version is None or (int(version[1]), int(version[2])) < least
    needs = f"at least {least[0]}.{least[1]} is needed, it says: {said.strip()}"
    yield Check(
        f"version of {program}", version[0].removeprefix("v=") if version else "", needs if old else ""
    )


def _running(current: Settings) -> Iterator[Check]:
    """Of the system that runs: its processes, and whether it is ready."""
    from keymiss.local.processes import Supervisor
    from keymiss.local.system import http_ok

    for name, (state, _) in sorted(Supervisor(current).states().items()):
        log = current.log / f"{name.replace(':', '-')}.log"
        yield Check(f"process {name}", "runs", "" if state == "RUNNING" else f"{state}; see {log}")
    url = f"https://localhost:{current.https_port}/readyz"
    unready = f"{url} says what is missing; keymiss up stores models, functions and the sample"
    yield Check("ready to answer", url, "" if http_ok(url) else unready)


def _optional() -> Iterator[Check]:
    """What the system runs without."""
    from keymiss.local.observe import find_exporter, find_grafana, find_prometheus

    for extra, modules in OPTIONAL_EXTRAS.items():
        there = all(find_spec(name) for name in modules)
        how = "there" if there else f"not there, and not needed: pip install 'keymiss[{extra}]'"
        yield Check(f"Python packages of keymiss[{extra}]", how)
    observers = {
        "Prometheus": find_prometheus(),
        "the Redis exporter": find_exporter(),
        "Grafana": find_grafana(),
    }
    for name, path in observers.items():
        yield Check(name, "there" if path else "not there, and needed for up --observe only")
