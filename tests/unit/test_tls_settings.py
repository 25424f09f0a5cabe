"""KEYMISS_TLS_*: what can be used, and the certificates of the local system."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from keymiss.cluster.access import ClusterAccess
from keymiss.cluster.credentials import Credentials
from keymiss.environment import BadSetting
from keymiss.local import preflight
from keymiss.local.certificates import NODE_FILES, make_certificates
from keymiss.local.observe import targets
from keymiss.local.processes import write_configuration
from keymiss.local.redis_users import credentials_for, environment_of, make_users
from keymiss.local.var_folders import make_folders
from keymiss.settings import Settings

LOCAL = ("127.0.0.1", 31001)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a system whose nodes speak TLS."""
    for name in [name for name in os.environ if name.startswith("KEYMISS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    monkeypatch.setenv("KEYMISS_BASE_PORT", "31001")
    made = Settings.from_env({**os.environ, "KEYMISS_TLS": "yes"})
    make_folders(made, None)
    assert make_certificates(made) == ""
    return made


def test_certificates(settings: Settings) -> None:
    folder = settings.var / "tls"
    made = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert set(made) == {*NODE_FILES, "cert.pem", "key.pem"}
    assert {mode for name, mode in made.items() if "key" in name} == {0o600}
    verify = ("openssl", "verify", "-x509_strict", "-CAfile", folder / "ca.pem", folder / "node.pem")
    assert subprocess.run(verify, capture_output=True).returncode == 0
    shown = ("openssl", "x509", "-in", folder / "node.pem", "-noout", "-text")
    text = subprocess.run(shown, capture_output=True, text=True, check=True).stdout
    assert "IP Address:127.0.0.1" in text
    assert "TLS Web Server Authentication, TLS Web Client Authentication" in text


def test_the_authority_stays_and_what_it_signs_names_the_host(settings: Settings) -> None:
    before = settings.tls_authority.read_text()
    moved = Settings.from_env({**os.environ, "KEYMISS_HOST": "192.0.2.7"})
    assert moved.tls, "as before"
    assert make_certificates(moved) == ""
    assert settings.tls_authority.read_text() == before
    shown = ("openssl", "x509", "-in", settings.var / "tls" / "node.pem", "-noout", "-ext", "subjectAltName")
    assert "IP Address:192.0.2.7" in subprocess.run(shown, capture_output=True, text=True).stdout


def test_no_tls_ends_it(settings: Settings) -> None:
    off = Settings.from_env({**os.environ, "KEYMISS_TLS": "no"})
    assert make_certificates(off) == ""
    assert {file.name for file in (settings.var / "tls").iterdir()} == {"cert.pem", "key.pem"}
    assert not Settings.from_env().tls


def test_what_nodes_and_processes_are_told(settings: Settings) -> None:
    make_users(settings)
    write_configuration(settings)
    lines = (settings.run / "redis-31001.conf").read_text().splitlines()
    assert "port 0" in lines
    assert "tls-port 31001" in lines
    assert not [line for line in lines if line.startswith("port ") and line != "port 0"]
    assert environment_of(settings, "worker")["KEYMISS_TLS_CA"] == str(settings.tls_authority)
    redis = targets(Settings.from_env())["redis"]
    assert redis[0]["labels"]["__param_target"] == "rediss://127.0.0.1:31001"


def test_a_parent_s_authority_is_not_a_plain_system_s(settings: Settings) -> None:
    off = Settings.from_env({**os.environ, "KEYMISS_TLS": "no"})
    assert environment_of(off, "worker")["KEYMISS_TLS_CA"] == ""


def test_the_command_line_finds_the_local_authority(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_users(settings)
    found = credentials_for([LOCAL])
    assert found.user == "admin"
    assert found.client_options["ssl_ca_certs"] == str(settings.tls_authority)
    assert credentials_for([("192.0.2.1", 31001)]).tls is None
    monkeypatch.setenv("KEYMISS_REDIS_USERNAME", "monitor")
    assert credentials_for([LOCAL]).tls == found.tls
    monkeypatch.delenv("KEYMISS_REDIS_USERNAME")
    monkeypatch.setenv("KEYMISS_TLS_CA", str(settings.var / "tls" / "cert.pem"))
    given = credentials_for([LOCAL])
    assert (given.user, given.tls and given.tls.ca) == ("admin", str(settings.var / "tls" / "cert.pem"))


def test_an_own_certificate(settings: Settings) -> None:
    names = {"CA": "ca.pem", "CERTIFICATE": "node.pem", "KEY": "node-key.pem"}
    env = {f"KEYMISS_TLS_{name}": str(settings.var / "tls" / file) for name, file in names.items()}
    tls = ClusterAccess.from_env(env).credentials.tls
    assert tls
    assert tls.context.verify_mode == ssl.CERT_REQUIRED
    assert tls.context.check_hostname
    assert len(tls.context.get_ca_certs()) == 1, "not the machine's own authorities"
    paths = [env[f"KEYMISS_TLS_{name}"] for name in names]
    shown = ["--tls", "--cacert", paths[0], "--cert", paths[1], "--key", paths[2]]
    assert tls.program_arguments == shown


def test_files_that_cannot_be_used(settings: Settings) -> None:
    folder = settings.var / "tls"
    ca, node, key = (str(folder / name) for name in ("ca.pem", "node.pem", "node-key.pem"))
    (folder / "empty").write_text("")
    both = "KEYMISS_TLS_CERTIFICATE and KEYMISS_TLS_KEY"
    for given, sentence in (
        ({"CERTIFICATE": node, "KEY": key}, f"{both} need KEYMISS_TLS_CA"),
        ({"CA": ca, "CERTIFICATE": node}, "go together: KEYMISS_TLS_KEY is not set"),
        ({"CA": ca, "KEY": key}, "go together: KEYMISS_TLS_CERTIFICATE is not set"),
        ({"CA": "/no/such"}, "KEYMISS_TLS_CA: '/no/such' cannot be read: No such file or directory"),
        ({"CA": str(folder)}, f"KEYMISS_TLS_CA: '{folder}' cannot be read: Is a directory"),
        ({"CA": "a\0b"}, "cannot be read: embedded null byte"),
        ({"CA": str(folder / "empty")}, f"KEYMISS_TLS_CA: '{folder}/empty' cannot be used: "),
        ({"CA": key}, f"KEYMISS_TLS_CA: '{key}' cannot be used: "),
        (
            {"CA": ca, "CERTIFICATE": node, "KEY": str(folder / "key.pem")},
            f"{both}: '{node}' with '{folder}/key.pem' cannot be used: ",
        ),
    ):
        with pytest.raises(BadSetting) as caught:
            Credentials.from_env({f"KEYMISS_TLS_{name}": value for name, value in given.items()})
        assert sentence in str(caught.value)


def test_a_server_without_tls(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "port_in_use", lambda *_: False)
    light = Settings.from_env({**os.environ, "KEYMISS_SERVER": "valkey9"})
    assert [
        one for one in preflight.problems(light) if "is built without TLS: --server valkey or redis" in one
    ]
    assert not [one for one in preflight.problems(settings) if "TLS" in one]


@pytest.mark.parametrize("value", ["on", "Yes", "1"])
def test_yes_or_no(value: str) -> None:
    with pytest.raises(BadSetting, match="KEYMISS_TLS must be yes or no"):
        Settings.from_env({"KEYMISS_TLS": value})
