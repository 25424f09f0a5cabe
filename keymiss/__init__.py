"""Keymiss: a GET that misses is a question, and the shard that owns the key answers it.

``from keymiss import Client, AsyncClient``: the HTTP API from Python (docs/python-client.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "KeymissError", "__version__"]

if TYPE_CHECKING:
    from keymiss.client import AsyncClient, Client, KeymissError
else:

    def __getattr__(name: str) -> object:
        """The client, when it is first asked for: the shards' side needs neither httpx nor pydantic."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from keymiss import client

        return getattr(client, name)
