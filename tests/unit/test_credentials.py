"""Who a process is to the servers: from the environment, from files, and what cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoPermissionError, RedisClusterException, ResponseError

from keymiss.api.settings import ApiSettings
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials, refusal
from keymiss.environment import BadSetting

NAME, FILE = "KEYMISS_REDIS_PASSWORD", "KEYMISS_REDIS_PASSWORD_FILE"


def test_nothing_set_is_nobody() -> None:
    assert Credentials.from_env({}) == NO_CREDENTIALS
    assert Credentials.from_env({"KEYMISS_REDIS_USERNAME": "", NAME: "", FILE: ""}) == NO_CREDENTIALS
    assert NO_CREDENTIALS.login == {"username": None, "password": None}


def test_user_and_password() -> None:
    found = Credentials.from_env({"KEYMISS_REDIS_USERNAME": "worker", NAME: "a secret, with blanks"})
    assert found.login == {"username": "worker", "password": "a secret, with blanks"}
    assert "secret" not in repr(found)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_file_with_or_without_a_line_break(tmp_path: Path, ending: str) -> None:
    (tmp_path / "password").write_bytes(b"from a file" + ending.encode())
    assert Credentials.from_env({FILE: str(tmp_path / "password")}).password == "from a file"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"  \n", "printable text"),
        (b"secret\nand more\n", "one line"),
        (b"secret\x07", "control characters"),
        (b"secret\xff", "UTF-8"),
        (b"secret" * 1000, "more than 4096 bytes"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "password").write_bytes(content)
    with pytest.raises(BadSetting, match=said) as caught:
        Credentials.from_env({FILE: str(tmp_path / "password")})
    assert FILE in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("path", ["/no/such/file", "/", "a\0b"])
def test_files_that_cannot_be_read(path: str) -> None:
    with pytest.raises(BadSetting, match=f"{FILE}.*cannot be read"):
        Credentials.from_env({FILE: path})


@pytest.mark.parametrize(
    "env",
    [
        {NAME: "secret", FILE: "/no/such/file"},
        {NAME: " \t"},
        {NAME: "secret\n"},
        {"KEYMISS_REDIS_USERNAME": "two words", NAME: "secret"},
    ],
)
def test_variables_that_cannot_be_used(env: dict[str, str]) -> None:
    with pytest.raises(BadSetting, match="KEYMISS_REDIS_") as caught:
        Credentials.from_env(env)
    assert "secret" not in str(caught.value)


def test_the_api_takes_both_its_secrets_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file")
    (tmp_path / "key").write_text("a key of the administrator\n")
    env = {FILE: str(tmp_path / "password"), "KEYMISS_API_ADMIN_KEY_FILE": str(tmp_path / "key")}
    found = ApiSettings.from_env(env)
    assert found.credentials.password == "from a file"
    assert found.admin_key == "a key of the administrator"
    assert "administrator" not in repr(found)
    assert "from a file" not in repr(found)
    with pytest.raises(BadSetting, match="both set"):
        ApiSettings.from_env(env | {"KEYMISS_API_ADMIN_KEY": "another key of the administrator"})


def test_refusals_are_told_from_other_errors() -> None:
    me = Credentials("worker", "secret")
    wrapped = RedisClusterException("cannot be connected")
    wrapped.__cause__ = AuthenticationError("invalid username-password pair")
    assert "'worker' with this password" in refusal(wrapped, me)
    assert "wants a user and a password" in refusal(wrapped, NO_CREDENTIALS)
    assert "may not do this" in refusal(NoPermissionError("no 'get'"), me)
    assert refusal(ResponseError("ERR"), me) == ""
    assert refusal(ConnectionError("away"), me) == ""
    assert "secret" not in refusal(wrapped, me)
