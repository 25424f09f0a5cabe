"""Every setting out of the environment: defaults, limits, and one sentence for a bad value."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from keymiss.addresses import Address
from keymiss.api.settings import ApiSettings
from keymiss.cluster.access import ClusterAccess
from keymiss.environment import BadSetting, EnvironmentSettings
from keymiss.resources import PROJECT
from keymiss.settings import Settings


def test_nothing_set_and_all_empty_are_the_defaults() -> None:
    empty = {f"KEYMISS_{name.upper()}": "" for name in Settings.model_fields}
    empty |= {f"KEYMISS_API_{name.upper()}": "" for name in ApiSettings.model_fields}
    assert Settings.from_env({}) == Settings.from_env(empty) == Settings()
    assert ApiSettings.from_env({}) == ApiSettings.from_env(empty) == ApiSettings()
    assert ClusterAccess.from_env(empty) == ClusterAccess()


def test_the_constructor_reads_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYMISS_MASTERS", "7")
    monkeypatch.setenv("KEYMISS_API_POOL", "7")
    assert (Settings().masters, ApiSettings().pool) == (4, 100)
    assert (Settings.from_env().masters, ApiSettings.from_env().pool) == (7, 7)


def test_names_are_capitals_and_the_settings_do_not_change() -> None:
    assert Settings.from_env({"keymiss_masters": "7"}).masters == 4
    with pytest.raises(ValidationError):
        Settings().masters = 3  # type: ignore[misc]


def test_the_local_nodes_follow_from_the_other_settings() -> None:
    env = {"KEYMISS_HOST": "::1", "KEYMISS_BASE_PORT": "31001", "KEYMISS_MASTERS": "1"}
    found = Settings.from_env(env)
    assert (found.nodes, found.nodes_given) == ("[::1]:31001,[::1]:31002", False)
    found = Settings.from_env(env | {"KEYMISS_NODES": "a:1,b:2", "KEYMISS_VAR": "x/../y"})
    assert (found.nodes, found.nodes_given) == ("a:1,b:2", True)
    assert found.var.is_absolute()
    assert found.var.name == "y"
    assert Settings().var == PROJECT / "var"


def test_where_workers_and_the_api_find_the_cluster() -> None:
    env = {"KEYMISS_HOST": "::1", "KEYMISS_BASE_PORT": "7000", "KEYMISS_REDIS_USERNAME": "worker"}
    for kind in (ClusterAccess, ApiSettings):
        found = kind.from_env(env)
        assert found.nodes == (Address("::1", 7000),)
        assert found.credentials.username == "worker"
        assert kind.from_env(env | {"KEYMISS_NODES": "a:1"}).nodes == (Address("a", 1),)


@pytest.mark.parametrize(
    ("kind", "name", "value", "rule"),
    [
        (Settings, "KEYMISS_MASTERS", "65", "must be a whole number from 1 to 64, not '65'"),
        (Settings, "KEYMISS_MASTERS", "4.0", "must be a whole number from 1 to 64, not '4.0'"),
        (Settings, "KEYMISS_MASTERS", "\u0663", "must be a whole number from 1 to 64, not '\u0663'"),
        (Settings, "KEYMISS_MASTERS", " 4", "must be a whole number from 1 to 64, not ' 4'"),
        (Settings, "KEYMISS_REPLICAS", "-1", "must be a whole number from 0 to 3, not '-1'"),
        (Settings, "KEYMISS_API_PORT", "0", "must be a whole number from 1 to 65535, not '0'"),
        (Settings, "KEYMISS_SERVER", "dragonfly", "must be redis or valkey or valkey9, not 'dragonfly'"),
        (Settings, "KEYMISS_OBSERVE", "true", "must be yes or no, not 'true'"),
        (Settings, "KEYMISS_USER", "no-such-user", "must be a user of this machine, not 'no-such-user'"),
        (Settings, "KEYMISS_NODES", "h", "must be host:port,host:port,...; 'h' is not host:port"),
        (ClusterAccess, "KEYMISS_NODES", ",", "must be host:port,host:port,...; no nodes given"),
        (ApiSettings, "KEYMISS_NODES", "h", "must be host:port,host:port,...; 'h' is not host:port"),
        (ApiSettings, "KEYMISS_API_POOL", "0", "must be a whole number from 1 to 1000000, not '0'"),
        (ApiSettings, "KEYMISS_API_TIME_LIMIT_S", "inf", "must be a number from 0.01 to 1000000, not 'inf'"),
        (ApiSettings, "KEYMISS_API_MIN_SCORE", "2", "must be a number from 0 to 1, not '2'"),
    ],
)
def test_a_bad_value_is_one_sentence(
    kind: type[EnvironmentSettings], name: str, value: str, rule: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        kind.from_env({name: value})
    assert str(caught.value) == f"{name} {rule}"
