"""`keymiss ask`: what it shows of a reply, and its exit codes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from keymiss.api_shapes.questions import EXAMPLE_COVERAGE, EXAMPLE_PASSAGE, EXAMPLE_REPLY
from keymiss.cli.main import app
from keymiss.typer_app import exit_code
from tests.servers import free_port

NOTHING = EXAMPLE_REPLY | {"found": False, "message": "Nothing was found here.", "results": [], "total": 0}


class Service:
    """Gives `reply` to every question, and remembers them."""

    def __init__(self) -> None:
        self.reply: dict[str, Any] = EXAMPLE_REPLY
        self.asked: list[Any] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                body = json.dumps(service.reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever)
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


def ask(*arguments: str) -> int:
    return exit_code(app, "keymiss", ["ask", *arguments])


def test_answer_sentence_score_and_sources(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--url", service.url, "-n", "3", "Who passes it?") == 0
    assert service.asked[0]["search"] == "Who passes it?"
    lines = capsys.readouterr().out.splitlines()
    result = EXAMPLE_REPLY["results"][0]
    assert lines[:3] == [result["answer"], f"  {result['sentence']}", "  score 0.83"]
    assert [
        line
        for line in lines
        if result["title"] in line and result["sentencekey"].removeprefix("sentence:") in line
    ]
    assert "15 of 20 sentences were read in time." in lines
    assert "Searched without links: late." in lines


def test_what_was_not_read_is_said_to_who_wants_more(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = {"asked": 4, "answered": 4, "late": 0, "failed": 0, "unread": 16}
    service.reply = EXAMPLE_REPLY | {"coverage": EXAMPLE_COVERAGE | {"sentences": sentences}}
    said = "16 more were found and not read: --exhaustive."
    assert ask("--url", service.url, "-n", "3", "Who passes it?") == 0
    assert said in capsys.readouterr().out.splitlines()
    assert ask("--url", service.url, "Who passes it?") == 0
    assert said not in capsys.readouterr().out


def test_the_whole_reply_as_json(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--json", "--url", service.url, "Who passes it?") == 0
    assert json.loads(capsys.readouterr().out) == EXAMPLE_REPLY


def test_no_answer_is_1_and_shows_the_closest_passages(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    service.reply = NOTHING
    assert ask("--url", service.url, "Who passes it?") == 1
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    passage = EXAMPLE_PASSAGE
    where = f"  {passage['title']}, {passage['year']} (KM0012:{{b3}}:8)  0.62"
    assert lines[:4] == ["Nothing was found here.", "Closest passages:", f"  {passage['sentence']}", where]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2019-2021", {"from": 2019, "to": 2021}),
        ("2019-", {"from": 2019}),
        ("-2021", {"to": 2021}),
        ("2020", {"from": 2020, "to": 2020}),
    ],
)
def test_what_is_searched_and_how_sure_it_must_be(service: Service, given: str, sent: Any) -> None:
    more = ["--min-score", "0.5", f"--years={given}", "--article", "KM1", "--article", "KM2", "--exhaustive"]
    assert ask("--url", service.url, *more, "Who?") == 0
    (asked,) = service.asked
    assert (asked["min_score"], asked["years"], asked["articles"]) == (0.5, sent, ["KM1", "KM2"])
    assert asked["exhaustive"] is True


def test_no_service_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--url", f"http://127.0.0.1:{free_port()}", "Who?") == 1
    assert "Connection refused" in capsys.readouterr().err


def test_a_local_system_that_is_down_is_told_how_to_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEYMISS_URL", raising=False)
    monkeypatch.setenv("KEYMISS_HTTPS_PORT", str(free_port()))
    assert ask("-k", "Who?") == 1
    assert capsys.readouterr().err.strip().endswith("Is it started (keymiss up)?")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "nowhere", "Who?"],
        ["--certificate", "no.pem", "Who?"],
        ["-n", "0", "Who?"],
        ["--min-score", "1.1", "Who?"],
        *(["--years", years, "Who?"] for years in ("", "-", "soon", "20190", "2019-2020-2021")),
    ],
)
def test_wrong_use_is_2(arguments: list[str]) -> None:
    assert ask(*arguments) == 2


def test_a_local_system_that_was_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KEYMISS_VAR", str(tmp_path))
    assert ask("Who?") == 2
    assert "keymiss up" in capsys.readouterr().err
