"""Watching the local system: Prometheus, the Redis exporter and, if it is installed, Grafana.

Their configuration is that of prometheus/ and grafana/ in the project, the same as in the containers. Only
what is scraped is written here (var/prometheus/targets), as it depends on the ports. All of them listen on
loopback; Prometheus has neither its administration nor its lifecycle interface.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

from keymiss.local.programs import Program
from keymiss.local.redis_users import environment_of
from keymiss.resources import PROJECT
from keymiss.settings import Settings

LOOPBACK = "127.0.0.1"
RETENTION = "7d"
GRAFANA_HOMES = ("/usr/share/grafana", "/usr/local/share/grafana", "/opt/grafana")
"""Where packages put what grafana-server calls its homepath; an unpacked archive has it above bin."""

GRAFANA_INI = """\
; Generated at every start by keymiss/local/observe.py
[paths]
data = {folder}/data
logs = {folder}/logs
plugins = {folder}/plugins
provisioning = {provisioning}
[server]
http_addr = {host}
http_port = {port}
[security]
admin_user = admin
admin_password = $__file{{{password}}}
[auth.anonymous]
enabled = true
org_role = Viewer
[users]
allow_sign_up = false
[analytics]
reporting_enabled = false
check_for_updates = false
check_for_plugin_updates = false
[news]
news_feed_enabled = false
[log]
mode = console
"""


def prometheus_url(settings: Settings) -> str:
    """Where the local Prometheus is."""
    return f"http://{LOOPBACK}:{settings.prometheus_port}"


def grafana_url(settings: Settings) -> str:
    """Where the local Grafana is."""
    return f"http://{LOOPBACK}:{settings.grafana_port}"


def find_prometheus() -> str:
    """The path of Prometheus, "" when it is not installed."""
    return shutil.which("prometheus") or ""


def find_exporter() -> str:
    """The path of the Redis exporter by Debian's name or its own, "" when it is not installed."""
    return shutil.which("prometheus-redis-exporter") or shutil.which("redis_exporter") or ""


def find_grafana() -> tuple[str, Path] | None:
    """The command that starts Grafana and its homepath; None when it is not installed, or only in part."""
    for name, command in (("grafana", "{} server"), ("grafana-server", "{}")):
        path = shutil.which(name)
        if not path:
            continue
        for home in (Path(path).resolve().parent.parent, *map(Path, GRAFANA_HOMES)):
            if (home / "conf" / "defaults.ini").exists():
                return command.format(f'"{path}"'), home
    return None


def without_grafana(settings: Settings) -> str:
    """What to say when there is no Grafana."""
    return (
        "Grafana is not installed (https://grafana.com/grafana/download; the next start finds it): "
        f"its dashboards are shown at https://localhost:{settings.https_port}/watch"
    )


def write_observing(settings: Settings) -> None:
    """Writes var/prometheus and, with Grafana, var/grafana."""
    folder = settings.var / "prometheus"
    (folder / "targets").mkdir(parents=True, exist_ok=True)
    source = PROJECT / "prometheus"
    (folder / "prometheus.yml").write_text(
        with_interval((source / "prometheus.yml").read_text(), settings.scrape_interval_s)
    )
    (folder / "alerts.yml").write_text((source / "alerts.yml").read_text())
    for job, groups in targets(settings).items():
        (folder / "targets" / f"{job}.json").write_text(json.dumps(groups, indent=1) + "\n")
    if find_grafana():
        _write_grafana(settings)


def with_interval(configuration: str, interval_s: int) -> str:
    """Prometheus's configuration with another scrape and evaluation interval; no time limit is longer."""
    text = re.sub(r"(?m)^( +(?:scrape|evaluation)_interval:) \S+$", rf"\1 {interval_s}s", configuration)
    return re.sub(
        r"(?m)^( +scrape_timeout:) (\d+)s$", lambda m: f"{m[1]} {min(int(m[2]), interval_s)}s", text
    )


def targets(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Job -> what Prometheus's file_sd_configs read: the local processes."""
    exporter = f"{LOOPBACK}:{settings.exporter_port}"
    nodes = [f"{settings.host}:{port}" for port in settings.ports]
    scheme = "rediss" if settings.tls else "redis"
    return {
        "keymiss-api": [{"targets": [f"{settings.host}:{settings.api_port}"]}],
        "keymiss-worker": [{"targets": [f"{LOOPBACK}:{settings.worker_metrics_port}"]}],
        "prometheus": [{"targets": [f"{LOOPBACK}:{settings.prometheus_port}"]}],
        "redis": [
            {"targets": [exporter], "labels": {"__param_target": f"{scheme}://{node}", "instance": node}}
            for node in nodes
        ],
    }


def _write_grafana(settings: Settings) -> None:
    folder = settings.var / "grafana"
    for name in ("data", "logs", "plugins"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    password = folder / "admin-password"
    if not password.exists():
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(18))
    (folder / "grafana.ini").write_text(
        GRAFANA_INI.format(
            folder=folder,
            provisioning=PROJECT / "grafana" / "provisioning",
            host=LOOPBACK,
            port=settings.grafana_port,
            password=password,
        )
    )


def observing_programs(settings: Settings) -> list[Program]:
    """What the supervisor runs besides the system: nothing unless settings.observe."""
    if not settings.observe:
        return []
    folder = settings.var / "prometheus"
    programs = [
        Program(
            "exporter",
            f'"{sys.executable}" -m keymiss.local.exporter {LOOPBACK}:{settings.exporter_port}',
            50,
            environment=environment_of(settings, "monitor"),
        ),
        Program(
            "prometheus",
            f'"{find_prometheus()}" --config.file "{folder}/prometheus.yml" '
            f'--storage.tsdb.path "{folder}/data" --storage.tsdb.retention.time {RETENTION} '
            f"--web.listen-address {LOOPBACK}:{settings.prometheus_port}",
            60,
            stop_s=30,
        ),
    ]
    grafana = find_grafana()
    if grafana:
        command, home = grafana
        programs.append(
            Program(
                "grafana",
                f'{command} --homepath "{home}" --config "{settings.var}/grafana/grafana.ini"',
                70,
                environment={
                    "KEYMISS_PROMETHEUS_URL": prometheus_url(settings),
                    "KEYMISS_GRAFANA_DASHBOARDS": str(PROJECT / "grafana" / "dashboards"),
                },
            )
        )
    return programs
