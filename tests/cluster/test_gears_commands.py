"""`keymiss gears`: what is registered, on every master; removed; and what functions said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from keymiss.cli.common import out
from keymiss.cli.main import app
from keymiss.typer_app import exit_code
from tests.servers import RedisClusterServers, WorkerProcess

SCRIPT = """
def answer(record):
    if 'fails' in record['key']:
        raise ValueError('this one fails')
    override_reply('answer')

GB('KeysReader', desc='answers').foreach(answer).register(
    prefix='ask', eventTypes=['keymiss'], commands=['get'], mode='async_local')
GB('KeysReader').foreach(answer).register(prefix='other', eventTypes=['set'], mode='async_local')
"""


@pytest.fixture(scope="module")
def servers() -> Iterator[RedisClusterServers]:
    with RedisClusterServers(masters=2, replicas=0) as running, WorkerProcess(running, "--backend", "dummy"):
        yield running


def gears(servers: RedisClusterServers, *arguments: str) -> int:
    return exit_code(app, "keymiss", ["gears", *arguments, "--nodes", servers.addresses])


def test_uploaded_listed_and_removed(
    servers: RedisClusterServers,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(out, "width", 160)
    assert gears(servers, "list") == 0
    assert "Nothing is registered" in capsys.readouterr().out
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert gears(servers, "upload", str(script)) == 0
    with servers.client() as client:
        assert client.get("ask:1") == b"answer"
        with pytest.raises(ResponseError, match="this one fails"):
            client.get("ask:fails")
    capsys.readouterr()
    assert gears(servers, "list") == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "2 of 2" in line]
    answers, nameless = ([cell.strip() for cell in row[1:-1]] for row in rows)
    assert answers[:6] == ["answers", "ask*", "keymiss", "2 of 2", "2", "1"]
    assert "this one fails" in answers[6]
    assert nameless[1:6] == ["other*", "set", "2 of 2", "0", "0"]
    assert gears(servers, "remove", "answers") == 0
    assert gears(servers, "remove", "answers") == 1
    assert "There is no registration answers" in capsys.readouterr().err
    with servers.client() as client:
        assert client.get("ask:2") is None
        for node in client.get_primaries():
            assert len(client.execute_command("RG.DUMPREGISTRATIONS", target_nodes=node)) == 1
    assert gears(servers, "remove", nameless[0]) == 0


def test_logs_are_what_functions_wrote_and_how_they_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    assert exit_code(app, "keymiss", ["gears", "logs"]) == 1
    assert "never started" in capsys.readouterr().err
    (tmp_path / "log").mkdir()
    old = {"t": 1.0, "level": "info", "event": "script", "message": "older"}
    (tmp_path / "log" / "worker.log.1").write_text(json.dumps(old) + "\n")
    lines = [
        {"t": 2.0, "level": "info", "event": "started"},
        {"t": 3.0, "level": "info", "event": "script", "message": "a word"},
        {"t": 4.0, "level": "warning", "event": "job_failed", "kind": "miss", "key": "ask:1", "error": "no"},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "log" / "worker.log").write_text(f"not of ours\n{text}")
    assert exit_code(app, "keymiss", ["gears", "logs"]) == 0
    said = [line.split(" ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert said == ["info: older", "info: a word", "warning: failed (miss, ask:1): no"]
    assert exit_code(app, "keymiss", ["gears", "logs", "-n", "1"]) == 0
    assert "failed (miss" in capsys.readouterr().out
