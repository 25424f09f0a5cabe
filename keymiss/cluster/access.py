"""Where the cluster is and who this process is there, from the environment: what a worker and the API need.

``KEYMISS_NODES`` names nodes to begin with, ``host:port,host:port,...``; without it, it is the one at
``KEYMISS_HOST`` and ``KEYMISS_BASE_PORT``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from keymiss.addresses import Address, parse_addresses
from keymiss.cluster.credentials import NO_CREDENTIALS, Credentials
from keymiss.environment import EnvironmentSettings, Whole


def _parsed(value: Any) -> Any:
    return parse_addresses(value) if isinstance(value, str) else value


Nodes = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_parsed)]


class ClusterAccess(EnvironmentSettings):
    """How a process reaches the cluster. Not all of the nodes need be there."""

    model_config = SettingsConfigDict(env_prefix="KEYMISS_")

    host: str = "127.0.0.1"
    base_port: Whole = Field(30001, ge=1, le=65535)
    nodes: Nodes = Field(default_factory=lambda known: (Address(known["host"], known["base_port"]),))
    credentials: Annotated[Credentials, NoDecode] = NO_CREDENTIALS

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """From ``env`` (default: the process's). Raises BadSetting."""
        env = os.environ if env is None else env
        return cls._from(env, credentials=Credentials.from_env(env))
