"""Root's part of a start: folders and a copy of the project for the processes' user, who does the rest.

The rest is `keymiss up --no-load` again, as that user and from the copy. So nothing that runs is root's, not
even the supervisor, and root writes nothing where that user may put a link.
"""

from __future__ import annotations

import os
import signal

from keymiss.local.module_build import build_module
from keymiss.local.preflight import problems
from keymiss.local.process_user import ProcessUser, python
from keymiss.local.processes import StartError, Supervisor
from keymiss.local.project_copy import copied_model, copy_project
from keymiss.local.var_folders import make_folders
from keymiss.settings import Settings


def start_as(user: ProcessUser, settings: Settings) -> int:
    """The exit code of `keymiss up --no-load` as this user. Raises StartError."""
    supervisor = Supervisor(settings)
    if not supervisor.running():
        supervisor.stop()  # what a killed supervisor has left
        if found := problems(settings):
            raise StartError("\n".join(found))
    else:
        _check_user(user, supervisor)
    make_folders(settings, user)
    if why := build_module(settings):
        raise StartError(why)
    return _run(user, settings, "up", "--no-load")


def command_as(user: ProcessUser, settings: Settings, *arguments: str) -> int:
    """The exit code of a command on the system that runs, as this user. Raises StartError."""
    _check_user(user, Supervisor(settings))
    return _run(user, settings, *arguments)


def _check_user(user: ProcessUser, supervisor: Supervisor) -> None:
    if supervisor.socket.stat().st_uid != user.uid:
        raise StartError(
            f"The system in {supervisor.settings.var} runs as another user than {user.name}: `keymiss down` "
            "stops it, then start again."
        )


def _run(user: ProcessUser, settings: Settings, *arguments: str) -> int:
    copy = copy_project(settings, user.gid)
    environment = os.environ | {
        "PYTHONPATH": str(copy),
        "KEYMISS_VAR": str(settings.var),
        "KEYMISS_MODEL": copied_model(settings),
        "KEYMISS_OBSERVE": "yes" if settings.observe else "no",
        "HOME": str(settings.run),
        "USER": user.name,
        "LOGNAME": user.name,
    }
    with user.popen([python(), "-m", "keymiss.cli", *arguments], copy, environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # of a terminal that only root's part has
                process.send_signal(signal.SIGINT)
