"""The ACL users of the local system, those of the containers: their passwords, and who needs which.

var/secrets has a file with the password of each, made at the first start, and users.acl, written anew at
every start from acl/: there `default`, anybody who can connect, may read and ask, and no more.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from keymiss.cluster.credentials import PASSWORD, USERNAME, Credentials
from keymiss.cluster.tls import CA, CERTIFICATE, KEY
from keymiss.environment import BadSetting
from keymiss.local.certificates import local_tls
from keymiss.resources import PROJECT
from keymiss.settings import Settings

USERS = ("admin", "worker", "api", "replica", "monitor")
ACL = PROJECT / "acl"


def password_file(settings: Settings, user: str) -> Path:
    """The file with the password of one of USERS."""
    return settings.secrets / user


def acl_file(settings: Settings) -> Path:
    """What the servers read: the users, with digests of their passwords."""
    return settings.secrets / "users.acl"


def make_users(settings: Settings) -> None:
    """Writes the ACL file, and makes the passwords that are missing."""
    rules = (ACL / "users.acl.template").read_text()
    rules = rules.replace("user default off\n", (ACL / "default_user.acl").read_text())
    for user in USERS:
        file = password_file(settings, user)
        if not file.exists():
            _write(file, secrets.token_hex(32))
        rules = rules.replace(f"{{{user}}}", hashlib.sha256(password_of(settings, user).encode()).hexdigest())
    _write(acl_file(settings), rules)


def password_of(settings: Settings, user: str) -> str:
    """Raises OSError."""
    return password_file(settings, user).read_text().strip()


def environment_of(settings: Settings, user: str) -> dict[str, str]:
    """What makes a process this user, and its connections what the nodes speak, whatever its parent's
    environment says."""
    file, tls = str(password_file(settings, user)), local_tls(settings)
    login = {USERNAME: user, PASSWORD: "", f"{PASSWORD}_FILE": file}
    return login | {CA: tls.ca if tls else "", CERTIFICATE: "", KEY: ""}


def credentials_for(nodes: Iterable[tuple[str, int]]) -> Credentials:
    """Who this process is to these nodes: as the environment says, else `admin` where they are local ones.

    Raises BadSetting, also when the password may not be read.
    """
    given = Credentials.from_env()
    settings = Settings.from_env()
    if not all(_is_local(settings, *node) for node in nodes):
        return given
    tls = given.tls or local_tls(settings)
    if given.is_somebody:
        return replace(given, tls=tls)
    try:
        return Credentials("admin", password_of(settings, "admin"), tls)
    except (FileNotFoundError, NotADirectoryError):  # not started yet: nothing answers there
        return given
    except PermissionError:
        raise BadSetting(
            f"You may not read the administrator's password, {password_file(settings, 'admin')}: run this as "
            f"root or as the user who started the system, or set {USERNAME} and {PASSWORD}_FILE."
        ) from None


def _is_local(settings: Settings, host: str, port: int) -> bool:
    if port not in settings.ports:
        return False
    try:
        return socket.gethostbyname(host) == socket.gethostbyname(settings.host)
    except OSError:
        return False


def _write(file: Path, text: str) -> None:
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text if text.endswith("\n") else f"{text}\n")
    new.replace(file)
