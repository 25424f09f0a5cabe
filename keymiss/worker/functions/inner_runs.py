"""``GB().run()`` in a function: it runs beside it, and can be awaited."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from typing import Any

from keymiss.logs import log_event
from keymiss.worker.functions import event_loops
from keymiss.worker.functions.builder import Run
from keymiss.worker.functions.execution import flows_of_run, run_flow
from keymiss.worker.functions.job_context import JobContext, error_text
from keymiss.worker.functions.outcomes import outcome_of
from keymiss.worker.functions.scripts import all_shards

MAX_AT_ONCE = 64
"""More wait for one to end."""

MAX_ERRORS_LOGGED = 10

Results = list[list[Any]]

_THREADS = ThreadPoolExecutor(MAX_AT_ONCE, thread_name_prefix="inner-run")


class InnerRun:
    """``results, errors = await GB().run()``. Awaited or not, it runs."""

    def __init__(self, future: Future[Results]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, None, Results]:
        return outcome_of(self._future).__await__()


def start_run(context: JobContext, run: Run) -> InnerRun:
    """Starts it in a thread of its own."""
    return InnerRun(_THREADS.submit(copy_context().run, _body, context, run))


def results_of(context: JobContext, run: Run) -> Results:
    """Results and errors. GearsError if the flow cannot be copied to other shards."""
    errors: list[str] = []
    shards = all_shards(context, run.local)
    flow_of = flows_of_run(run, context, others=len(context.services.masters()) > 1)
    results = run_flow(context, shards, flow_of, lambda error: errors.append(error_text(error)))
    return [results, errors]


def _body(context: JobContext, run: Run) -> Results:
    try:
        here = replace(context, recorder=None)
        results = context.services.limits.run_beside(context.run, lambda: results_of(here, run))
    except SystemExit as error:
        results = [[], [f"the function ended by {error_text(error)}"]]
    except Exception as error:
        results = [[], [error_text(error)]]
    finally:
        event_loops.cancel_leftovers()
        context.services.connections.send_posted()
    if results[1]:
        log_event("inner_run_failed", "warning", errors=results[1][:MAX_ERRORS_LOGGED])
    return results
