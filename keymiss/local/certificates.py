"""Certificates of the local system, in var/tls: nginx's own; with `keymiss up --tls` those of the nodes.

The nodes speak TLS while the authority is there. It stays for its 10 years; the nodes' certificate is made
anew at each start, so that it always names their address.
"""

from __future__ import annotations

import ipaddress
import subprocess
from pathlib import Path

from keymiss.cluster.tls import Tls
from keymiss.settings import Settings

DAYS = 3650
LIMIT_S = 60  # of openssl, which takes some milliseconds
NODE_FILES = ("ca.pem", "ca-key.pem", "node.pem", "node-key.pem")


def local_tls(settings: Settings) -> Tls | None:
    """How clients connect to the local nodes."""
    return Tls(str(settings.tls_authority)) if settings.tls else None


def make_certificates(settings: Settings) -> str:
    """Makes what is missing; removes the nodes' when they shall not speak TLS. Returns what went wrong."""
    folder = settings.tls_authority.parent
    if not ((folder / "key.pem").exists() and (folder / "cert.pem").exists()):
        own = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        if why := _make(folder / "cert.pem", folder / "key.pem", *own):
            return why
    if not settings.tls:
        for name in NODE_FILES:
            (folder / name).unlink(missing_ok=True)
        return ""
    return _make_authority(folder) or _make_node(folder, settings.host)


def _make_authority(folder: Path) -> str:
    certificate, key = folder / "ca.pem", folder / "ca-key.pem"
    if certificate.exists() and key.exists():
        return ""
    uses = ("basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign")
    extensions = [word for use in uses for word in ("-addext", use)]
    return _make(certificate, key, "-subj", "/CN=Keymiss nodes", *extensions)


def _make_node(folder: Path, host: str) -> str:
    """A node is a server, and the client of other nodes."""
    names = dict.fromkeys(["DNS:localhost", "IP:127.0.0.1", f"{'IP' if _is_ip(host) else 'DNS'}:{host}"])
    own = (
        f"subjectAltName={','.join(names)}",
        "basicConstraints=critical,CA:FALSE",
        "extendedKeyUsage=serverAuth,clientAuth",
    )
    extensions = [word for each in own for word in ("-addext", each)]
    signed = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca-key.pem")]
    return _make(
        folder / "node.pem", folder / "node-key.pem", "-subj", "/CN=Keymiss node", *extensions, *signed
    )


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _make(certificate: Path, key: Path, *options: str) -> str:
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    files = ["-days", str(DAYS), "-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run([*command, *files, *options], capture_output=True, text=True, timeout=LIMIT_S)
    if made.returncode:
        return f"openssl could not make {certificate}: {made.stderr.strip()}"
    key.chmod(0o600)
    return ""
