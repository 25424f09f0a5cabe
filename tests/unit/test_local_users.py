"""Who a process is to the local nodes: the files of passwords, and when they are used."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from keymiss.cluster.credentials import NO_CREDENTIALS
from keymiss.environment import BadSetting
from keymiss.local.redis_users import (
    USERS,
    acl_file,
    credentials_for,
    environment_of,
    make_users,
    password_of,
)
from keymiss.settings import Settings

LOCAL = ("127.0.0.1", 31001)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("KEYMISS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    monkeypatch.setenv("KEYMISS_BASE_PORT", "31001")
    (tmp_path / "secrets").mkdir()
    return Settings.from_env()


def test_everybody_has_a_line_and_the_default_user_is_on(settings: Settings) -> None:
    make_users(settings)
    lines = acl_file(settings).read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["default", *USERS]
    assert lines[0].startswith("user default on nopass ")
    for user, line in zip(USERS, lines[1:], strict=True):
        digest = hashlib.sha256(password_of(settings, user).encode()).hexdigest()
        assert line.startswith(f"user {user} on #{digest} ")
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in settings.secrets.iterdir())


def test_passwords_are_made_once(settings: Settings) -> None:
    make_users(settings)
    before = {file.name: file.read_text() for file in settings.secrets.iterdir()}
    make_users(settings)
    assert {file.name: file.read_text() for file in settings.secrets.iterdir()} == before
    assert len({password_of(settings, user) for user in USERS}) == len(USERS)


def test_a_process_is_its_user_whatever_its_parent_was(settings: Settings) -> None:
    found = environment_of(settings, "worker")
    assert found["KEYMISS_REDIS_USERNAME"] == "worker"
    assert found["KEYMISS_REDIS_PASSWORD"] == ""
    assert found["KEYMISS_REDIS_PASSWORD_FILE"] == str(settings.secrets / "worker")


def test_the_administrator_for_local_nodes_only(settings: Settings) -> None:
    assert credentials_for([LOCAL]) == NO_CREDENTIALS  # never started
    make_users(settings)
    admin = credentials_for([LOCAL, ("localhost", 31002)])
    assert admin.login == {"username": "admin", "password": password_of(settings, "admin")}
    assert credentials_for([LOCAL, ("127.0.0.1", 6379)]) == NO_CREDENTIALS
    assert credentials_for([("192.0.2.1", 31001)]) == NO_CREDENTIALS


def test_the_environment_comes_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    make_users(settings)
    monkeypatch.setenv("KEYMISS_REDIS_USERNAME", "monitor")
    monkeypatch.setenv("KEYMISS_REDIS_PASSWORD", "secret")
    assert credentials_for([LOCAL]).user == "monitor"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_may_not_read_the_password_is_told_what_to_do(settings: Settings) -> None:
    make_users(settings)
    settings.secrets.chmod(0o700)
    os.seteuid(65534)
    try:
        with pytest.raises(BadSetting, match="run this as root") as caught:
            credentials_for([LOCAL])
    finally:
        os.seteuid(0)
    assert "KEYMISS_REDIS_PASSWORD_FILE" in str(caught.value)


def test_another_set_of_rules_is_taken_at_the_next_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_users(settings)
    password = password_of(settings, "api")
    (tmp_path / "users.acl.template").write_text("user default off\nuser api on #{api} +ping\n")
    (tmp_path / "default_user.acl").write_text("user default on\n")
    monkeypatch.setattr("keymiss.local.redis_users.ACL", tmp_path)
    make_users(settings.model_copy())
    digest = hashlib.sha256(password.encode()).hexdigest()
    assert acl_file(settings).read_text() == f"user default on\nuser api on #{digest} +ping\n"
