"""Who the local processes run as: the caller, or, when root starts them, an unprivileged user.

That is KEYMISS_USER, else `keymiss`, which scripts/setup.sh makes, else `nobody`. KEYMISS_USER=root: root
after all, for machines where nobody else can be had. It must be able to enter var and to run the Python of
.venv; the project itself may be closed to it (keymiss/local/project_copy.py).
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keymiss.settings import Settings

FIRST_OPEN_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
CHECK_TIMEOUT_S = 60.0
NEEDED = "import redis, supervisor, uvicorn"


@dataclass(frozen=True, slots=True)
class ProcessUser:
    """A user of this machine that root becomes."""

    name: str
    uid: int
    gid: int

    def popen(
        self,
        command: list[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> subprocess.Popen[str]:
        """A process of this user, without root's terminal. OSError or subprocess.SubprocessError."""
        return subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=os.getgrouplist(self.name, self.gid),
            umask=0o077,
        )

    def why_not(self, *command: str) -> str | None:
        """What went wrong with a command of this user, None when it ended with 0."""
        try:
            with self.popen(list(command), Path("/"), quiet=True) as process:
                said = process.communicate(timeout=CHECK_TIMEOUT_S)[1].strip()
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        return (said.splitlines() or ["it failed"])[-1] if process.returncode else None


def process_user(settings: Settings) -> ProcessUser | None:
    """None when the processes run as the caller."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam(settings.user)  # Settings.from_env has looked already
    return ProcessUser(entry.pw_name, entry.pw_uid, entry.pw_gid) if entry.pw_uid else None


def python() -> str:
    """The Python of .venv, by a path that does not lead through the project's folder when .venv is a link."""
    return str(Path(sys.prefix).resolve() / "bin" / Path(sys.executable).name)


def user_problems(settings: Settings, user: ProcessUser) -> list[str]:
    """Sentences on what this user lacks."""
    if why := user.why_not("/bin/true"):
        return [
            f"Root cannot become the user {user.name} here ({why}): KEYMISS_USER names another one, and "
            "KEYMISS_USER=root runs everything as root."
        ]
    found = []
    var = settings.var
    while not var.exists():
        var = var.parent
    if user.why_not("/usr/bin/test", "-x", str(var)):
        found.append(
            f"The user {user.name}, who runs the processes, cannot enter {var}: set KEYMISS_VAR to a folder "
            "that it can enter, as /var/lib/keymiss/var. (Without KEYMISS_VAR scripts/start.sh finds one.)"
        )
    if why := user.why_not(python(), "-c", NEEDED):
        found.append(
            f"The user {user.name}, who runs the processes, cannot run {python()} ({why}): "
            "scripts/start.sh makes an environment that it can run."
        )
    first = int(FIRST_OPEN_PORT.read_text()) if FIRST_OPEN_PORT.exists() else 1024
    for name, port in (("KEYMISS_HTTPS_PORT", settings.https_port), ("KEYMISS_API_PORT", settings.api_port)):
        if port < first:
            found.append(f"{name} is {port}, which is root's: the user {user.name} needs {first} or higher.")
    return found
