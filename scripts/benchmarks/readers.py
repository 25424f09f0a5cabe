"""The processes that read the same sentences in other ways (reading_process.py)."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.benchmarks.failure import BenchFailed
from tests.keeper import keeper

REPO = Path(__file__).resolve().parents[2]
REPLY_LIMIT_S = 180.0


class ReaderFailed(BenchFailed):
    """It ended, or did not reply; the text has its last words."""


class ReadingProcess:
    """Started when the `with` block begins."""

    def __init__(self, way: str, path: str, python: Path | None = None) -> None:
        self.way = way
        program = str(Path(__file__).with_name("reading_process.py"))
        self._command = [str(python or sys.executable), "-P", program, way, path]
        self._env = {**os.environ, "HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
        self._env["PYTHONPATH"] = "" if python else str(REPO)
        self.how = ""

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self.began_s = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            cwd=REPO,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        keeper().begins(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)
        self._log.close()

    def ms(
        self, question: str, sentences: Sequence[str], in_turn: bool = False, apart: bool = False
    ) -> float:
        """Of reading them."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"question": question, "sentences": list(sentences), "in_turn": in_turn, "apart": apart}
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("ended") from None
        if not select.select([self._process.stdout], [], [], REPLY_LIMIT_S)[0]:
            raise self._failed(f"did not reply within {REPLY_LIMIT_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._failed("ended")
        reply = json.loads(line)
        self.how = reply["how"]
        return float(reply["ms"])

    def _failed(self, what: str) -> ReaderFailed:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()[-1500:]
        return ReaderFailed(f"the reader {self.way} {what}:\n{said}")


def cold_ms(way: str, path: str, question: str, sentences: Sequence[str]) -> float:
    """From the start of a process until it has read them."""
    with ReadingProcess(way, path) as reader:
        reader.ms(question, sentences)
        return (time.perf_counter() - reader.began_s) * 1000
