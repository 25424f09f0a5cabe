"""docs/python-client.md: its blocks run, one after the other, in front of a real API and nginx."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import keymiss.client
from keymiss import Client
from keymiss.client import KeymissError
from tests.api.processes import ApiProcess, NginxProcess, fill
from tests.patience import patient
from tests.servers import REPO, RedisClusterServers

PAGE = (REPO / "docs" / "python-client.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
KEY = "a key of some length"


def test_every_block_runs() -> None:
    code = "\n".join(BLOCKS)
    questions = set(re.findall(r'"((?:Who|How|Which) [^"]+)"', code))
    assert len(questions) == 3
    assert PAGE.count("```") == 2 * len(BLOCKS), "there are blocks that are not run"
    with RedisClusterServers(masters=2) as servers:
        for question in questions:
            fill(servers, question)
        env = {"KEYMISS_API_ADMIN_KEY": KEY}
        with ApiProcess(servers.addresses, wait_indexed=2, env=env) as api, NginxProcess(api.port) as nginx:
            for shown, real in (
                ("https://localhost:8080", nginx.url),
                ("var/tls/cert.pem", str(nginx.certificate)),
            ):
                assert shown in code
                code = code.replace(shown, real)
            ended = subprocess.run(
                [sys.executable, "-c", code],
                cwd=REPO,
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                timeout=patient(60),
            )
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("answer 0 of ")
    assert "accepted" in lines
    assert "On masks" in lines
    assert "404 no article is named 'not-there'" in lines
    assert "my-question-1" in lines
    assert re.fullmatch(r"\['answer .*', 'answer .*'\]", lines[-1])


def test_every_call_and_every_error_is_named() -> None:
    calls = {name for name in vars(Client) if not name.startswith("_")}
    errors = {
        name
        for name, member in vars(keymiss.client).items()
        if isinstance(member, type) and issubclass(member, KeymissError)
    }
    missing = {name for name in calls | errors if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)}
    assert missing == set()
