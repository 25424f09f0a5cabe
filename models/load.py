"""Store the QA model on every master of the cluster, as bert-qa{tag}.

    python -m models.load --model models/reader --nodes 127.0.0.1:30001

Exports the model first if that was not done, checks that it can be loaded and run, and skips the shards
that already hold just this model.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException

from keymiss import keys, text
from keymiss.settings import BadSetting, Settings, parse_nodes
from models.export import Exported, ExportError, export, read_back

CHUNK_BYTES = 256 * 1024 * 1024  # below the server's proto-max-bulk-len of 512 MB
STORE_TIMEOUT_S = 300.0  # a full-size model is 1.3 GB


class LoadError(RuntimeError):
    """A model that cannot be loaded into the cluster; the text says why."""


@dataclass(frozen=True)
class Stored:
    """What was done on one master: `key` on `node` (host:port), `new` if it was stored now."""

    node: str
    key: str
    new: bool


def check_model(made: Exported) -> None:
    """Run the exported model and its tokenizer once; LoadError if anything does not fit."""
    import torch

    tok = text.load_tokenizer(Path(made.tokenizer))
    if tok.get_vocab_size() > made.vocab_size:
        raise LoadError(f"the tokenizer has {tok.get_vocab_size()} tokens, the model {made.vocab_size}")
    try:
        model = read_back(made.path)
        for batch, seq in ((1, 8), (2, 33)):
            ids = torch.full((batch, seq), tok.get_vocab_size() - 1)
            with torch.no_grad():
                outputs = model(ids, torch.ones_like(ids), torch.zeros_like(ids))
            _check_outputs(outputs, batch, seq)
    except RuntimeError as error:
        if isinstance(error, LoadError):
            raise
        raise LoadError(f"{made.path} cannot be run: {str(error).strip().splitlines()[-1]}") from error


def _check_outputs(outputs: Any, batch: int, seq: int) -> None:
    if not isinstance(outputs, tuple) or len(outputs) != 2:
        raise LoadError("the model does not give two outputs, start and end logits")
    for name, logits in zip(("start", "end"), outputs, strict=True):
        if tuple(logits.shape) != (batch, seq):
            raise LoadError(f"the model's {name} logits are {tuple(logits.shape)}, not {(batch, seq)}")
        if not np.isfinite(logits.numpy()).all():
            raise LoadError(f"the model's {name} logits are not finite numbers")


def connect(nodes: str) -> RedisCluster:
    """A client of the cluster that any of `nodes` ("host:port,...") belongs to; LoadError if none answers."""
    try:
        startup = [ClusterNode(host, port) for host, port in parse_nodes(nodes)]
        return RedisCluster(startup_nodes=startup, decode_responses=True, socket_timeout=STORE_TIMEOUT_S)
    except (redis.RedisError, RedisClusterException, BadSetting) as error:
        raise LoadError(f"no cluster at {nodes}: {error}") from error


def masters(client: RedisCluster) -> list[tuple[ClusterNode, str]]:
    """Each master that serves slots, with its tag: that of its lowest slot."""
    lowest: dict[str, int] = {}
    for slot, owners in client.nodes_manager.slots_cache.items():
        name = owners[0].name
        lowest[name] = min(slot, lowest.get(name, slot))
    found = [(client.get_node(node_name=name), slot) for name, slot in sorted(lowest.items())]
    return [(node, keys.tag_for_slot(slot)) for node, slot in found if node]


def model_info(client: RedisCluster, key: str) -> dict[str, Any] | None:
    """KM.MODELINFO as a dictionary, None where there is no such model."""
    flat = client.execute_command("KM.MODELINFO", key)
    return dict(zip(flat[::2], flat[1::2], strict=True)) if flat else None


def store(client: RedisCluster, made: Exported) -> Iterator[Stored]:
    """Store the model on every master; yields as each is done."""
    blob: bytes | None = None
    for node, tag in masters(client):
        key = keys.model_key(tag)
        info = model_info(client, key)
        new = info is None or info["sha256"] != made.sha256 or info["tag"] != made.sha256[:12]
        if new:
            blob = blob or Path(made.path).read_bytes()
            chunks = [blob[at : at + CHUNK_BYTES] for at in range(0, len(blob), CHUNK_BYTES)]
            client.execute_command(
                "AI.MODELSTORE", key, "TORCH", "CPU", "TAG", made.sha256[:12], "BLOB", *chunks
            )
            stored = model_info(client, key)
            if stored is None:
                raise LoadError(f"{key} on {node.name} is gone right after it was stored")
            client.execute_command("KM.MODELDIGEST", key, stored["version"], made.sha256)
        yield Stored(node.name, key, new)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 1 the model or the cluster is at fault."""
    try:
        settings = Settings.from_env()
    except BadSetting as error:
        print(f"models.load: {error}", file=sys.stderr)
        return 1
    parser = argparse.ArgumentParser(prog="python -m models.load", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        default=settings.model,
        help="local folder or hub name (default: KEYMISS_MODEL or models/reader)",
    )
    parser.add_argument("--nodes", default=settings.nodes, help="host:port,... of any nodes of the cluster")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        made, _ = export(options.model)
        check_model(made)
        with connect(options.nodes) as client:
            done = list(store(client, made))
    except (ExportError, LoadError, redis.RedisError, RedisClusterException) as error:
        print(f"models.load: {error}", file=sys.stderr)
        return 1
    for one in done:
        print(f"{one.node} {one.key}: {'stored' if one.new else 'already there'}")
    print(
        f"{len(done)} masters hold {made.sha256[:12]} ({made.size_bytes / 1e6:.1f} MB), "
        f"{time.monotonic() - began:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
