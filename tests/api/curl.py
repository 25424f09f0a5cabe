"""One request by curl, which speaks HTTP/1.1 and HTTP/2 as it is told."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import IO, Any

VERSIONS = ("--http1.1", "--http2")
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Reply:
    """What came last: of redirects that were followed, the last reply."""

    version: str
    status: int
    headers: dict[str, str]
    body: str

    @property
    def problem(self) -> dict[str, Any]:
        """The problem object; fails when the reply is none, or has not the id that its header has."""
        media_type = self.headers.get("content-type", "").partition(";")[0]
        assert media_type == PROBLEM, (self.status, self.headers, self.body[:300])
        found: dict[str, Any] = json.loads(self.body)
        assert set(found) >= {"type", "title", "status", "detail", "request_id"}
        assert found["status"] == self.status
        assert found["request_id"] == self.headers["x-request-id"]
        return found


def curl(url: str, *arguments: str, stdin: IO[bytes] | None = None) -> Reply:
    """Fails when no reply came."""
    command = ["curl", "-q", "-sS", "-k", "-i", "--max-time", "60", *arguments, url]
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
    assert done.stdout, f"curl ended with {done.returncode}: {done.stderr}"
    return parsed(done.stdout)


def parsed(text: str) -> Reply:
    """A reply as curl -i or a socket gives it; of several heads the last one."""
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    while body.startswith("HTTP/"):  # 100 Continue, or a redirect that was followed
        head, _, body = body.partition("\n\n")
    first, *lines = head.split("\n")
    version, status = first.split()[:2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(version.removeprefix("HTTP/"), int(status), headers, body)
