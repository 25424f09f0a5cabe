"""What the supervisor is told about a program: its section of supervisord's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keymiss.resources import PROJECT

SECTION = """\
[program:{name}]
command={command}
directory={folder}
environment={environment}
priority={priority}
autostart=false
autorestart=true
startsecs=1
startretries=20
stopwaitsecs={stop_s}
stopsignal={signal}
redirect_stderr=true
stdout_logfile={log}/{name}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=2

"""


@dataclass(frozen=True, slots=True)
class Program:
    """One program besides the nodes. command is split as a shell would; the lower the priority, the earlier
    it starts and the later it stops."""

    name: str
    command: str
    priority: int
    stop_s: int = 20
    signal: str = "TERM"
    folder: Path = PROJECT
    environment: Mapping[str, str] = field(default_factory=dict)

    def section(self, log: Path) -> str:
        """Its section of the configuration; its output goes into the folder `log`."""
        return SECTION.format(
            name=self.name,
            command=escaped(self.command),
            folder=escaped(self.folder),
            environment=",".join(f'{name}="{escaped(value)}"' for name, value in self.environment.items()),
            priority=self.priority,
            stop_s=self.stop_s,
            signal=self.signal,
            log=escaped(log),
        )


def escaped(value: object) -> str:
    """A value for supervisord's configuration, where % begins a substitution."""
    return str(value).replace("%", "%%")
