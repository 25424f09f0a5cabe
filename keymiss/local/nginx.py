"""nginx's configuration, from nginx/nginx.conf.template (its placeholders are listed at its top)."""

from __future__ import annotations

import os
from pathlib import Path

from keymiss.resources import PROJECT
from keymiss.settings import Settings


def _user() -> str:
    """Root's nginx (KEYMISS_USER=root) would work as "nobody", who may not read what is root's."""
    return "user root;" if os.geteuid() == 0 else ""


def render_nginx(settings: Settings) -> Path:
    """Writes var/run/nginx.conf and returns its path; the two logs are linked into var/log."""
    folder = settings.var / "nginx"
    text = (PROJECT / "nginx" / "nginx.conf.template").read_text()
    for name, value in {
        "LISTEN": f"127.0.0.1:{settings.https_port}",
        "API": f"127.0.0.1:{settings.api_port}",
        "TLS_CERT": settings.var / "tls" / "cert.pem",
        "TLS_KEY": settings.var / "tls" / "key.pem",
        "PAGE": PROJECT / "nginx" / "page",
        "VAR": folder,
        "ACCESS_LOG": folder / "nginx-access.log",
        "ERROR_LOG": folder / "nginx-error.log",
        "USER": _user(),
    }.items():
        text = text.replace(f"${{{name}}}", str(value))
    path = settings.run / "nginx.conf"
    path.write_text(text)
    for log in ("nginx-error.log", "nginx-access.log"):
        link = settings.log / log
        if not link.is_symlink():
            link.symlink_to(folder / log)
    return path
